"""Measures which ops onnxruntime runs right, in which formats, through the plugin.

    python -m tests.plugins.onnxruntime_kernels    # writes the plugin's kernels.toml

Every op is drawn many times, compiled and run through the plugin's own backend and driver, and
held to the kernels of reference_cpu: bits for exact ops, a few roundings for the others. A format
of the main operand is right if no draw failed. Operands stay where ONNX defines the result:
integers do not overflow, and floats that become integers fit.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from accelsdk import formats as f
from accelsdk.backend.driver import View
from accelsdk.errors import AccelError, InvalidArgument
from accelsdk.formats import Format, Kind
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.opdef import Family, NumericsClass
from accelsdk.graph.ops import TABLE, attribute, lookup
from accelsdk.graph.types import Shape, TensorType, Value
from accelsdk.kernels.api import evaluate
from accelsdk.numerics.codec import encode, from_bytes, to_bytes
from accelsdk_onnxruntime_cpu import support
from accelsdk_onnxruntime_cpu.backend import OnnxruntimeCpu
from tests.graph.strategies import RECIPES, Source, add_node
from tests.plugins.test_reference_cpu import Packer

BACKEND = OnnxruntimeCpu()
OPTIONS = BACKEND.info.resolve({"threads": 1})
(TARGET,) = BACKEND.targets(OPTIONS)
#: Roundings that two right float results may be apart, in units of the largest result.
ROUNDINGS = 32
_DRAWS, _EMPTY_DRAWS = 160, 80
_EXACT = (NumericsClass.EXACT, NumericsClass.ROUNDED, NumericsClass.QUANTISATION)


class Dice(Source):
    """Draws by a seed; every operand is an input of its own."""

    def __init__(self, seed: int, least: int = 1) -> None:
        super().__init__(None, least)
        self._rng = np.random.default_rng(seed)

    def int(self, low, high):
        return int(self._rng.integers(low, high + 1))

    def pick(self, options):
        found = list(options)
        return found[int(self._rng.integers(len(found)))]

    def order(self, count):
        return tuple(int(i) for i in self._rng.permutation(count))

    def new(self, format, shape):
        value = self.builder.input(f"x{len(self.inputs)}", format, shape)
        self.inputs.append(value)
        self.pool.append(value)
        return value


def drawn(op: str, seed: int, least: int = 1) -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph of one node of that op, and operands for it."""
    source = Dice(seed, least)
    results = add_node(source, op)
    graph = source.builder.graph(source.inputs, [v for v in results if v is not None])
    (node,) = graph.nodes
    rng = np.random.default_rng(seed)
    feeds = {}
    for index, value in enumerate(node.inputs):
        if value is not None:
            feeds.setdefault(value.name, _operand(node, index, value, rng))
    return graph, feeds


# -- operands --------------------------------------------------------------------------------


def _operand(node: Node, index: int, value: Value, rng: np.random.Generator) -> np.ndarray:
    special = _special(node, index, value, rng)
    found = _plain(node, value, rng) if special is None else special
    return np.asarray(found).astype(value.format.dtype, copy=False)


_INDEXED = ("Gather", "GatherND", "GatherElements", "ScatterElements", "ScatterND")
_COMPARING = ("Max", "Min", "Clip", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "TopK", "Less")
_POSITIVE = ("Log", "Sqrt", "Acosh", "ReduceLogSum")
_PLAIN = (Family.ELEMENTWISE, Family.ACTIVATION)
_WITHIN_ONE = ("Asin", "Acos", "Atanh")


def _special(node: Node, index: int, value: Value, rng: np.random.Generator):
    """Operands with a meaning: indices, lengths, scales, shifts, divisors, variances."""
    op, shape, format = node.op, value.shape, value.format
    if format == f.E8M0:
        return rng.integers(122, 132, shape).astype(np.uint8).view(format.dtype)
    if op in _INDEXED and index == 1:
        return np.zeros(shape)
    if op in ("SparseLengthsSum", "SparseLengthsSumFused") and index in (1, 2):
        rows, count = node.inputs[0].shape[0], node.inputs[1].type.count
        return (
            rng.integers(0, max(rows, 1), shape) if index == 1 else _lengths(count, shape[0], rng)
        )
    if op == "SparseLengthsSumFused" and index == 0:
        return _fused_rows(node, shape, rng)
    if op == "Requantize":
        return _requantize(node, index, shape, rng)
    if op in ("LSTM", "GRU", "RNN") and format == f.INT32:
        return np.full(shape, node.inputs[0].shape[1 if attribute(node, "layout") else 0])
    scales = op in ("Quantize", "Dequantize") and index == 1
    scales |= op == "ScaledMatMul" and index > 1
    if scales or (op == "BatchNormalization" and index == 4):
        return np.exp2(rng.integers(-3, 4, shape))
    if op in ("Quantize", "Dequantize") and index == 2 and format.bits <= 8 and format.is_float:
        return np.zeros(shape)  # narrow floats have no other zero point
    if op == "BitShift" and index == 1:
        return rng.integers(0, 8, shape)
    if op in ("Div", "Mod") and format.is_integer:
        ends = [0, 1, -1, 3, 7, int(format.min)] if format.is_signed else [0, 1, 3, 255]
        return rng.choice(np.array(ends, format.dtype), shape)
    if op == "NonMaxSuppression" and index == 2:
        return rng.uniform(0, 1, shape)  # overlap
    if op == "Pow":
        return rng.integers(0, 4, shape) if index else rng.integers(1, 6, shape)
    return None


def _lengths(count: int, bags: int, rng: np.random.Generator) -> np.ndarray:
    if not bags:
        return np.zeros(0)
    cuts = np.sort(rng.integers(0, count + 1, bags - 1))
    return np.diff(np.concatenate([[0], cuts, [count]]))


def _fused_rows(node: Node, shape, rng: np.random.Generator) -> np.ndarray:
    bits, columns = attribute(node, "bits"), attribute(node, "columns")
    kind = np.float32 if bits == 8 else np.float16
    codes = rng.integers(0, 256, (shape[0], -(-columns * bits // 8))).astype(np.uint8)
    ends = [rng.integers(-4, 5, (shape[0], 1)).astype(kind).view(np.uint8) for _ in range(2)]
    return np.concatenate([codes, *ends], axis=1)


def _requantize(node: Node, index: int, shape, rng: np.random.Generator):
    fixed = attribute(node, "arithmetic") != "float32"
    if index in (0, 4):
        return rng.integers(-1 << 20, 1 << 20, shape)
    if index == 1:
        return (
            rng.integers(1 << 30, (1 << 31) - 1, shape) if fixed else rng.uniform(1e-5, 1e-3, shape)
        )
    return rng.integers(30, 46, shape) if index == 2 else None


def _plain(node: Node, value: Value, rng: np.random.Generator) -> np.ndarray:
    format, shape = value.format, value.shape
    if format == f.BOOL:
        return rng.integers(0, 2, shape)
    if format.kind is Kind.FIXED:
        return rng.integers(-128, 128, shape)
    if format.is_integer:
        small = rng.integers(-7 if format.is_signed else 0, 8, shape)
        return small << 31 if format.bits == 64 and node.op in _COMPARING else small
    x = rng.standard_normal(shape)
    if node.op.endswith("Normalization"):
        x = rng.integers(-8, 9, shape)  # no two values differ by next to nothing
    if node.op in _POSITIVE or _to_unsigned(node):
        x = np.abs(x) + 1
    if node.op in _WITHIN_ONE:
        x = 0.9 * np.tanh(x)
    if lookup(node).numerics is NumericsClass.EXACT and lookup(node).family in _PLAIN:
        x = np.where(rng.random(shape) < 0.2, rng.choice([np.nan, np.inf, -np.inf], shape), x)
    return np.asarray(encode(np.asarray(x, np.float64), format) if format.bits < 16 else x)


def _to_unsigned(node: Node) -> bool:
    return node.op == "Cast" and node.result.format.kind in (Kind.UINT, Kind.SCALE)


# -- running and judging ---------------------------------------------------------------------


def open_driver(**given):
    options = BACKEND.info.resolve({"threads": 1, **given})
    (device,) = BACKEND.enumerate_devices(options).devices
    return BACKEND.open(device, options)


def compiled(graph: Graph):
    packer = Packer()
    return BACKEND.compile(graph, TARGET, OPTIONS, packer), packer.kept


def empty(driver, kind: TensorType) -> View:
    handle = driver.allocate(max(kind.nbytes, 1), "device", 64)
    return View(handle, 0, kind.nbytes, kind, kind.nbytes)


def put(driver, array: np.ndarray, format: Format) -> View:
    view = empty(driver, TensorType(format, array.shape))
    driver.write(view, memoryview(to_bytes(array, format)))
    return view


def cut(view: View, shape: Shape) -> View:
    """The part of an output that was filled, if its size came with the data."""
    kind = TensorType(view.type.format, shape)
    return replace(view, nbytes=kind.nbytes, type=kind)


def get(driver, view: View) -> np.ndarray:
    out = bytearray(view.nbytes)
    driver.read(view, memoryview(out))
    return from_bytes(out, view.type.format, view.type.shape)


def run(driver, graph: Graph, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of a graph through the plugin; their memory is dirty beforehand."""
    program, constants = compiled(graph)
    loaded = driver.load(program, iter(constants))
    inputs = [put(driver, feeds[v.name], v.format) for v in graph.inputs]
    outputs = [empty(driver, v.type) for v in graph.outputs]
    for view in outputs:
        if view.nbytes:
            driver.fill(view, b"\xa5")
    shapes = driver.execute(loaded, inputs, outputs)
    if shapes is not None:
        outputs = [cut(view, shape) for view, shape in zip(outputs, shapes, strict=True)]
    found = [get(driver, view) for view in outputs]
    driver.unload(loaded)
    for view in (*inputs, *outputs):
        driver.free(view.handle)
    return found


def difference(node: Node, found: np.ndarray, wanted: np.ndarray, format: Format) -> str:
    """Says how a result is wrong; empty if it is right."""
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        return f"{found.dtype}{found.shape} instead of {wanted.dtype}{wanted.shape}"
    a, b = np.asarray(found).astype(np.float64), np.asarray(wanted).astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return ""
    text = f"{a[~same][:3]} instead of {b[~same][:3]}"
    exact = lookup(node).numerics in _EXACT or not format.is_float or format.bits <= 8
    finite = np.isfinite(b)
    if exact or not np.array_equal(np.isfinite(a), finite) or not (same | finite).all():
        return text
    scale = max(np.abs(b[finite]).max(initial=0), 1.0)
    off = np.abs(a - b)[finite].max(initial=0) / scale
    return text if off > ROUNDINGS * 2.0**-format.mantissa_bits else ""


def failure(driver, graph: Graph, feeds: dict[str, np.ndarray]) -> str:
    """Says how a graph of one node fails on onnxruntime; empty if it is right."""
    with np.errstate(all="ignore"):
        try:
            wanted = evaluate(graph, feeds)
        except InvalidArgument:
            return ""  # an index that another operand happens to be, out of range
    try:
        results = run(driver, graph, feeds)
    except AccelError as error:
        return f"{type(error).__name__}: {error.message}"
    for value, found in zip(graph.outputs, results, strict=True):
        text = difference(graph.nodes[0], found, wanted[value.name], value.format)
        if text:
            return text
    return ""


def measured(op: str, driver, draws: int, least: int = 1) -> dict[str, list[str]]:
    """How the draws of an op went, by format of the main operand: empty texts are right."""
    found = defaultdict(list)
    for seed in range(draws):
        graph, feeds = drawn(op, seed, least)
        (node,) = graph.nodes
        if support.obstacle_to(node) is None and (least or support.is_empty(node)):
            found[support.main_format(node).name].append(failure(driver, graph, feeds))
    return found


def main() -> None:
    """Writes the table."""
    import onnxruntime

    driver = open_driver()
    path = Path(support.__file__).with_name("kernels.toml")
    lines = [
        f"# What onnxruntime {onnxruntime.__version__} was measured to run right on the CPU.",
        "# Written by python -m tests.plugins.onnxruntime_kernels",
        "",
        "# Formats of the main operand, by op.",
        "[formats]",
    ]
    right: dict[str, list[str]] = {}
    wrong_somewhere: list[str] = []
    for op in (op for op in RECIPES if op in TABLE and op not in _LEFT_OUT):
        seen = measured(op, driver, _DRAWS)
        good = [row.name for row in f.FORMATS if row.name in seen and not any(seen[row.name])]
        bad = [row.name for row in f.FORMATS if row.name in seen and _computes(seen[row.name])]
        if bad:
            wrong_somewhere.append(f"{op} = [{', '.join(map(_quoted, bad))}]")
        for name, texts in seen.items():
            wrong = next((text for text in texts if text), "")
            if wrong and "NOT_IMPLEMENTED" not in wrong:
                counts = f"{sum(map(bool, texts))} of {len(texts)} wrong"
                sys.stdout.write(f"{op} {name}: {counts}: {wrong[:150]}\n")
        if good:
            right[op] = good
            lines.append(f"{op} = [{', '.join(map(_quoted, good))}]")
    lines += ["", "# Formats that it computes, but not always right.", "[wrong]", *wrong_somewhere]
    lines += ["", "# Ops that are right for empty tensors too.", "[empty]", "ops = ["]
    for op, formats in right.items():
        if op in _CRASHES:
            continue
        seen = measured(op, driver, _EMPTY_DRAWS, least=0)
        texts = [text for name in formats for text in seen.get(name, [])]
        if texts and not any(texts):
            lines.append(f'    "{op}",')
    path.write_text("\n".join([*lines, "]", ""]), "utf-8")


def _quoted(name: str) -> str:
    return f'"{name}"'


def _computes(texts: list[str]) -> bool:
    """Says whether draws went wrong though there is a kernel."""
    return any(texts) and not any("onnxruntime: " in text for text in texts)


#: Rows that are masked whole are undefined.
_LEFT_OUT = ("Attention",)
#: Empty operands end the process (division by zero and segmentation faults).
_CRASHES = (
    "Unique",
    "Conv",
    "ConvTranspose",
    "InstanceNormalization",
    "Gemm",
    "LSTM",
    "GRU",
    "RNN",
)

if __name__ == "__main__":
    sys.exit(main())
