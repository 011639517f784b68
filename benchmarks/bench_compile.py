"""How long compiling takes, by phase and size, and how much memory it needs.

    python benchmarks/bench_compile.py            # seconds by phase, as Markdown tables
    python benchmarks/bench_compile.py --plans    # what memory plans of real models come to
    python benchmarks/bench_compile.py --memory   # peak memory of compiling 400 MB of weights

The synthetic model is a chain of blocks of ten ONNX nodes as networks have them (Conv,
BatchNormalization, Relu, residual Add, Transpose, MatMul, bias, Gelu's parts) on small tensors,
so that only the number of nodes counts. Seconds are of one processor, so that what else the
machine does counts little; each phase runs once. The real models are those of tests/models.
"""

from __future__ import annotations

import argparse
import gc
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from accelsdk.compiler import importer, pipeline
from accelsdk.compiler.passes.manager import run_passes
from accelsdk.graph.memory_plan import check_plan, plan

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "models"))
import zoo

_T = TypeVar("_T")
SIZES = (500, 1_000, 5_000, 10_000, 50_000)
_CHANNELS, _EXTENT, _WEIGHTS = 8, 4, 400 << 20


def chain(nodes: int) -> bytes:
    """Returns a serialised model of about ``nodes`` nodes."""
    random = np.random.default_rng(0)
    made: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def weight(stem: str, *shape: int) -> str:
        name = f"{stem}_{len(tensors)}"
        numbers = random.uniform(0.5, 1, shape).astype(np.float32)
        tensors.append(numpy_helper.from_array(numbers, name))
        return name

    def node(op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op}_{len(made)}"
        made.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    x = "x"
    c = _CHANNELS
    for _ in range(nodes // 10):
        y = node("Conv", x, weight("w", c, c, 1, 1), kernel_shape=[1, 1])
        y = node("BatchNormalization", y, *(weight("n", c) for _ in range(4)))
        y = node("Add", node("Relu", y), x)
        t = node("Transpose", y, perm=[0, 2, 3, 1])
        t = node("Add", node("MatMul", t, weight("w", c, c)), weight("b", c))
        t = node("Mul", t, node("Sigmoid", t))
        x = node("Transpose", t, perm=[0, 3, 1, 2])
    shape = [1, c, _EXTENT, _EXTENT]
    interface = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", x)]
    graph = helper.make_graph(made, "chain", interface[:1], interface[1:], tensors)
    opset = [helper.make_opsetid("", importer.PINNED_OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def phases(source: bytes | str, given: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each phase, and the numbers of nodes."""
    seconds: dict[str, float] = {}

    def timed(name: str, run: Callable[[], _T]) -> _T:
        gc.collect()
        start = time.process_time()
        result = run()
        seconds[name] = time.process_time() - start
        return result

    graph = timed("import", lambda: importer.read(source, **given))
    seconds["nodes"] = len(graph.nodes)
    core = timed("lower", lambda: pipeline.to_core(graph, passes=()))
    done = timed("passes", lambda: run_passes(core, pipeline.PASSES))
    seconds["left"] = len(done.nodes)
    timed("plan", lambda: plan(done))
    return seconds


def real_models() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Name, path and what fixes the inputs of every model that is installed."""
    for model in zoo.EVERY:
        try:
            path = str(model.file())
        except zoo.Missing as missing:
            print(f"<!-- {model.name}: {missing} -->")
            continue
        shapes = {name: shape for name, shape in model.shapes.items() if name not in model.values}
        yield model.name, path, {"input_shapes": shapes, "input_values": model.values}


_PHASES = ("import", "lower", "passes", "plan")


def print_times(sizes: tuple[int, ...]) -> None:
    """Prints seconds by phase, of chains and of the real models."""
    print("| model | nodes | left | import | lower | passes | plan | total s | µs/node |")
    print("| --- " + "| ---: " * 8 + "|")
    phases(chain(100), {})  # what is imported on first use is not compiling
    for size in sizes:
        _print_row(f"chain of {size:,}", phases(chain(size), {}))
    for name, path, given in real_models():
        _print_row(name, phases(path, given))


def _print_row(name: str, row: Mapping[str, float]) -> None:
    total = sum(row[phase] for phase in _PHASES)
    cells = [f"{row[phase]:.3f}" for phase in _PHASES]
    numbers = [f"{row['nodes']:,.0f}", f"{row['left']:,.0f}", *cells, f"{total:.2f}"]
    print(f"| {name} | {' | '.join(numbers)} | {total / row['nodes'] * 1e6:.0f} |", flush=True)


def print_plans() -> None:
    """Prints what the memory plan of each real model comes to, after checking it."""
    print("| model | nodes | largest live bytes | arena bytes | efficiency |")
    print("| --- " + "| ---: " * 4 + "|")
    for name, path, given in real_models():
        graph = pipeline.to_core(path, **given)
        found = plan(graph)
        check_plan(graph, found)
        sizes = f"{found.largest_live_bytes:,} | {found.arena_bytes:,}"
        print(f"| {name} | {len(graph.nodes)} | {sizes} | {found.efficiency:.4f} |", flush=True)


def heavy(path: Path) -> None:
    """Writes a model of 400 MB of float32 weights, each transposed and scaled: all of it folds."""
    side = 2048
    layers = _WEIGHTS // (4 * side * side)
    tensors = [numpy_helper.from_array(np.float32([0.02]), "scale")]
    made, x = [], "x"

    def node(op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op}_{len(made)}"
        made.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    for layer in range(layers):
        numbers = np.random.default_rng(layer).standard_normal((side, side), np.float32)
        tensors.append(numpy_helper.from_array(numbers, f"w{layer}"))
        turned = node("Transpose", f"w{layer}", perm=[1, 0])
        x = node("Tanh", node("Mul", node("MatMul", x, turned), "scale"))
    interface = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, side]) for n in ("x", x)]
    graph = helper.make_graph(made, "heavy", interface[:1], interface[1:], tensors)
    opset = [helper.make_opsetid("", importer.PINNED_OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


def compile_heavy(path: Path, given: str) -> None:
    """Compiles in this process; prints the bytes by which the peak grew."""
    source: bytes | str = path.read_bytes() if given == "bytes" else str(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = len(source) if given == "bytes" else 0  # the caller's copy counts too
    plan(pipeline.to_core(source))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 + held
    print(f"{grown / path.stat().st_size:.2f}")


def print_memory() -> None:
    """Prints the peak memory of compiling, over the bytes of the model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "heavy.onnx"
        # A child, so that making the model leaves no mark on what is measured.
        subprocess.run([sys.executable, __file__, "--heavy", str(path)], check=True)
        print(f"model of {path.stat().st_size:,} bytes; peak of compiling over its bytes:")
        for given in ("path", "bytes"):
            command = [sys.executable, __file__, "--compile", str(path), given]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"- given as {given}: {done.stdout.strip()}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--plans", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--heavy", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--compile", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.heavy:
        heavy(options.heavy)
    elif options.compile:
        compile_heavy(Path(options.compile[0]), options.compile[1])
    elif options.plans:
        print_plans()
    elif options.memory:
        print_memory()
    else:
        print_times(tuple(options.sizes))


if __name__ == "__main__":
    main()
