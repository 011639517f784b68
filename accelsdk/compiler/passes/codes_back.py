"""Takes codes as they were instead of dequantising and quantising them again.

``Quantize(Dequantize(q, s, z), s, z)`` is q, bit for bit, under these conditions. Let n = q - z,
p the fewest significant bits of the formats in which it is computed, u = 2**-p. Dequantize gives
x = n s (1 + a); x may be rounded to the format of s, (1 + b); the quotient is n (1 + a)(1 + b)
(1 + c), with a, b, c at most u each, as long as nothing overflows or is subnormal. It is off n
by less than 4 |n| u, and rounds to n if that is at most 1/2: if 8 |n| <= 2**p. Then z is added,
which is exact, and q is in range, so that nothing saturates. n = 0 gives 0 throughout. That
nothing is subnormal and nothing overflows is so if s is normal, and |n| s finite, in all of the
formats: 8- and 16-bit codes hold in float32, 8-bit codes in float16, 4-bit codes in bfloat16.
"""

from __future__ import annotations

from accelsdk.compiler.passes.affine import Affine
from accelsdk.compiler.passes.common import is_core, maker
from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.rewrite import remove_dead, substitute
from accelsdk.graph.types import Value


def _run(graph: Graph) -> Graph:
    same = {
        node.result.name: codes
        for node in graph.nodes
        if is_core(node, "Quantize") and (codes := _codes(graph, node)) is not None
    }
    return remove_dead(substitute(graph, same)) if same else graph


def _codes(graph: Graph, node: Node) -> Value | None:
    """Returns the codes that a Quantize gives back, or None."""
    before = maker(graph, node.inputs[0], "Dequantize")
    if before is None:
        return None
    affine = Affine.of(graph, before)
    if Affine.of(graph, node).key() != affine.key():
        return None
    scales, most = affine.scales(), affine.most()
    if scales is None or most is None or not scales.size:
        return None
    formats = (affine.real, affine.scale.format)
    precise = 8 * most <= 2 ** min(row.precision for row in formats)
    least = max(row.smallest_normal for row in formats)
    greatest = min(row.max for row in formats)
    held = float(scales.min()) >= least and float(scales.max()) * most <= greatest / 2
    return before.inputs[0] if precise and held else None


CODES_BACK = Pass(
    name="codes-back",
    changes="replaces Quantize of Dequantize with the same constant scale and zero point by the "
    "codes themselves, where the rounding between provably gives each code back; bits stay",
    run=_run,
)
