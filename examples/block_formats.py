"""What a matrix product loses in each 8-, 6- and 4-bit block format (OCP MX).

    python examples/block_formats.py

Both operands are quantised on the card in blocks of 32 along K, multiplied there, and compared
with the float64 product of the operands before quantisation.
"""

from __future__ import annotations

import numpy as np

import accelsdk
from accelsdk.formats import FLOAT32, MX_ELEMENTS, Format
from accelsdk.graph.rewrite import Builder

M, K, N = 64, 256, 64


def quantised_matmul(element: Format) -> accelsdk.Graph:
    """Returns the graph that quantises both operands to MX blocks and multiplies them."""
    builder = Builder()
    a, b = builder.input("a", FLOAT32, (M, K)), builder.input("b", FLOAT32, (K, N))
    to = element.name
    a_codes, a_scales = builder.op("QuantizeBlock", a, outputs=2, to=to, axis=1)
    b_codes, b_scales = builder.op("QuantizeBlock", b, outputs=2, to=to, axis=0)
    product = builder.op("ScaledMatMul", a_codes, b_codes, a_scales, b_scales, block_size=32)
    return builder.graph([a, b], [product], f"mx_{to}")


def main() -> None:
    """Prints the relative error of the product for each element format."""
    generator = np.random.default_rng(0)
    a = generator.standard_normal((M, K), np.float32)
    b = generator.standard_normal((K, N), np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    print(f"{'element':16} bits/element  relative error")
    with accelsdk.connect("sim_card") as client:
        card = client.device()
        for element in MX_ELEMENTS:
            loaded = client.load(client.compile(quantised_matmul(element)), card)
            (product,) = loaded.execute([card.put(a), card.put(b)]).outputs
            error = np.linalg.norm(product.numpy() - exact) / np.linalg.norm(exact)
            print(f"{element.name:16} {element.bits + 8 / 32:12.2f}  {error:.4f}")


if __name__ == "__main__":
    main()
