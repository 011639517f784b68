"""Encode, decode and MX quantise against the straight NumPy and ml_dtypes versions.

    python benchmarks/bench_numerics.py [--elements N] [--repeat R]

Both versions run alternately in one process on one thread; the table shows medians. Before it
is timed, each pair is checked to give the same bytes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import E2M1, E3M2, E4M3, E5M2, Format
from accelsdk.numerics import block, codec, integer


def straight_encode(x: NDArray[np.float32], fmt: Format) -> NDArray[Any]:
    """What one writes first: clip to saturate, then let ml_dtypes round."""
    return np.clip(x, -fmt.max, fmt.max).astype(fmt.dtype)


def straight_mx(x: NDArray[np.float32], fmt: Format) -> NDArray[Any]:
    """What one writes first: the largest magnitude by NumPy, the elements by ml_dtypes."""
    blocks = x.reshape(-1, 32)
    amax = np.abs(blocks).max(axis=1, keepdims=True)
    exponent = np.frexp(amax)[1] - 1 - fmt.emax
    scaled = np.ldexp(blocks, -exponent)
    return np.clip(scaled, -fmt.max, fmt.max).astype(fmt.dtype).reshape(x.shape)


def side_by_side(
    first: Callable[[], Any], second: Callable[[], Any], repeat: int
) -> tuple[float, float]:
    """Returns the median seconds of two functions, run in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat):
        for seconds, function in zip(times, (first, second), strict=True):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return median(times[0]), median(times[1])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=1 << 24)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.standard_normal(options.elements // 32 * 32, np.float32)
    a = rng.integers(0, 256, (512, 1024), np.uint8)
    b = rng.integers(-128, 128, (1024, 512), np.int8)
    rows: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = []
    for fmt in (E4M3, E5M2, E3M2, E2M1):
        plain = (lambda f: lambda: x.astype(f.dtype))(fmt)
        rows.append((f"encode {fmt}, astype", (lambda f: lambda: codec.encode(x, f))(fmt), plain))
    for fmt in (E4M3, E2M1):
        clipped = (lambda f: lambda: straight_encode(x, f))(fmt)
        rows.append(
            (f"encode {fmt}, clip + astype", (lambda f: lambda: codec.encode(x, f))(fmt), clipped)
        )
    codes = codec.encode(x, E4M3)
    rows.append((f"decode {E4M3}", lambda: codec.decode(codes, E4M3), lambda: codes.astype("f4")))
    for fmt in (E4M3, E2M1):
        ours = (lambda f: lambda: block.quantize_block(x, f)[0])(fmt)
        rows.append((f"MX quantise {fmt}", ours, (lambda f: lambda: straight_mx(x, f))(fmt)))
    rows.append(
        (
            "uint8 x int8 matmul 512x1024x512",
            lambda: integer.matmul_int32(a, b),
            lambda: np.matmul(a.astype(np.int32), b.astype(np.int32)),
        )
    )
    print(f"{x.size:,} elements, median of {options.repeat}, one thread")
    print(f"{'':40}{'accelsdk ms':>12}{'straight ms':>12}{'ratio':>8}")
    for name, ours, theirs in rows:
        if ours().tobytes() != theirs().tobytes():
            raise SystemExit(f"{name}: the two versions disagree")
        mine, other = side_by_side(ours, theirs, options.repeat)
        print(f"{name:40}{mine * 1e3:12.1f}{other * 1e3:12.1f}{other / mine:8.2f}")


if __name__ == "__main__":
    main()
