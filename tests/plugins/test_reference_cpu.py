"""The reference plugin, driven through the contract alone."""

from __future__ import annotations

import hashlib
import threading

import ml_dtypes
import numpy as np
import pytest

from accelsdk.backend.backend import Compatibility, Refusal
from accelsdk.backend.driver import View
from accelsdk.backend.optional import PROTOCOLS, SupportsProfiling
from accelsdk.backend.program import ConstantSpec, PackedConstant
from accelsdk.errors import DataLoss, InvalidArgument, OutOfMemory
from accelsdk.formats import FLOAT32, INT4, by_name, from_dtype
from accelsdk.graph.graph import Constant, Graph, Node
from accelsdk.graph.ops import TABLE
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import TensorType, Value
from accelsdk.numerics.codec import from_bytes, to_bytes
from accelsdk_reference_cpu.backend import ReferenceCpu
from accelsdk_reference_cpu.plugin import accelsdk_backends

BACKEND = ReferenceCpu()
OPTIONS = BACKEND.info.resolve({})
(TARGET,) = BACKEND.targets(OPTIONS)


class Packer:
    """Keeps graph constants in memory."""

    def __init__(self) -> None:
        self.kept: list[PackedConstant] = []

    def graph_constant(self, constant: Constant) -> ConstantSpec:
        data = b"".join(constant.chunks())
        spec = ConstantSpec(
            name=constant.name,
            nbytes=len(data),
            digest=hashlib.sha256(data).hexdigest(),
            type=constant.value.type,
        )
        self.kept.append(PackedConstant(spec, lambda: iter([memoryview(data)])))
        return spec


def open_driver(**given):
    options = BACKEND.info.resolve(given)
    (device,) = BACKEND.enumerate_devices(options).devices
    return BACKEND.open(device, options)


@pytest.fixture
def driver():
    card = open_driver()
    yield card
    card.close()


def compiled(graph):
    packer = Packer()
    return BACKEND.compile(graph, TARGET, OPTIONS, packer), packer.kept


def put(driver, array, kind=None):
    kind = TensorType(kind or from_dtype(array.dtype), array.shape)
    view = empty(driver, kind)
    driver.write(view, memoryview(to_bytes(array, kind.format)))
    return view


def empty(driver, kind):
    handle = driver.allocate(max(kind.nbytes, 1), "device", 64)
    return View(handle, 0, kind.nbytes, kind, kind.nbytes)


def get(driver, view):
    out = bytearray(view.nbytes)
    driver.read(view, memoryview(out))
    return from_bytes(out, view.type.format, view.type.shape)


def run(driver, graph, *arrays):
    program, constants = compiled(graph)
    loaded = driver.load(program, iter(constants))
    inputs = [put(driver, x, v.format) for x, v in zip(arrays, graph.inputs, strict=True)]
    outputs = [empty(driver, v.type) for v in graph.outputs]
    assert driver.execute(loaded, inputs, outputs) is None
    return [get(driver, view) for view in outputs]


def add_graph(shape=(4, 4), fmt=FLOAT32):
    a, b, c = (Value(n, TensorType(fmt, shape)) for n in "abc")
    return Graph((a, b), (c,), (), (Node("Add", (a, b), (c,), name="add"),))


def layered(weight):
    """relu(x @ weight) @ weight, with a constant that two nodes share."""
    b = Builder()
    x = b.input("x", FLOAT32, (3, 8))
    w = b.constant(weight, name="w")
    hidden = b.op("Relu", b.op("MatMul", x, w))
    return b.graph([x], [b.op("MatMul", hidden, w)], name="layered")


# -- the backend -----------------------------------------------------------------------------


def test_the_plugin_publishes_its_backend():
    (backend,) = accelsdk_backends()
    assert backend.info.name == "reference_cpu"


def test_declared_capabilities_have_their_methods(driver):
    for capability in TARGET.capabilities:
        protocol = PROTOCOLS.get(capability, SupportsProfiling)
        assert isinstance(driver, protocol), capability


def test_supports_exactly_the_core_table():
    for op in TABLE:
        assert BACKEND.supports(add_graph(), Node(op, (), ()), TARGET)
    for node in (Node("Conv", (), (), domain="ai.onnx"), Node("Nonsense", (), ())):
        answer = BACKEND.supports(add_graph(), node, TARGET)
        assert not answer
        assert answer.refusal is Refusal.OPERATOR
        assert node.op in answer.text


def test_check_accepts_its_own_programs():
    program, _ = compiled(add_graph())
    assert BACKEND.check(program.header, TARGET) is Compatibility.OPTIMAL


def test_compiling_is_deterministic():
    weight = np.eye(8, dtype=np.float32)
    assert compiled(layered(weight))[0] == compiled(layered(weight))[0]
    assert (
        compiled(layered(weight))[0].header.graph_digest
        != compiled(layered(weight * 2))[0].header.graph_digest
    )


def test_datasheet_claims_what_the_kernels_do():
    sheet = BACKEND.datasheet(TARGET)
    assert sheet.contraction("MatMul", "float32", "float32", "float32").significand_bits == 24
    assert sheet.function("Exp", "float32").ulp == 0.51
    assert sheet.function("HardSwish", "float32") is None
    assert sheet.block("float32", "float4_e2m1fn").scale_rule == "floor"


# -- memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alignment", [1, 64, 4096])
def test_allocations_are_aligned(driver, alignment):
    handle = driver.allocate(100, "device", alignment)
    assert handle.ctypes.data % alignment == 0
    assert handle.nbytes == 100


def test_out_of_memory_has_the_numbers_in_it():
    driver = open_driver(memory=1000)
    first = driver.allocate(600, "device", 64)
    with pytest.raises(OutOfMemory) as caught:
        driver.allocate(401, "device", 64)
    assert (caught.value.requested, caught.value.in_use, caught.value.limit) == (401, 600, 1000)
    driver.free(first)
    driver.allocate(1000, "device", 64)
    stats = driver.memory_stats("device")
    assert (stats.in_use, stats.peak, stats.limit, stats.allocations) == (1000, 1000, 1000, 1)


def test_constants_count_as_memory_until_the_last_user_is_gone():
    weight = np.eye(8, dtype=np.float32)
    program, constants = compiled(layered(weight))
    driver = open_driver(memory=300)
    first = driver.load(program, iter(constants))
    second = driver.load(program, iter(constants), share=first)  # 256 bytes, not 512
    assert driver.memory_stats("device").in_use == 256
    with pytest.raises(OutOfMemory):
        driver.load(program, iter(constants))
    assert driver.memory_stats("device").in_use == 256
    driver.unload(first)
    del first
    assert driver.memory_stats("device").in_use == 256
    driver.unload(second)
    del second
    assert driver.memory_stats("device").in_use == 0


def test_what_depends_on_constants_alone_runs_once_and_is_shared():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 8))
    codes = b.constant(np.arange(64, dtype=np.int8).reshape(8, 8), name="codes")
    weight = b.op("Mul", b.op("Cast", codes, to="float32"), b.scalar(0.5, FLOAT32))
    graph = b.graph([x], [b.op("MatMul", x, weight)])
    program, constants = compiled(graph)
    driver = open_driver()
    first = driver.load(program, iter(constants))
    assert [step.node.op for step in first.steps] == ["MatMul"]
    used = driver.memory_stats("device").in_use
    assert used == 64 + 4 + 2 * 256
    second = driver.load(program, iter(constants), share=first)
    assert driver.memory_stats("device").in_use == used
    view, out = put(driver, np.ones((2, 8), np.float32)), empty(driver, graph.outputs[0].type)
    driver.execute(second, [view], [out])
    assert np.array_equal(get(driver, out)[0], np.arange(64).reshape(8, 8).sum(axis=0) / 2)
    del first, second
    assert driver.memory_stats("device").in_use == 64 + 64  # the two buffers


def test_ranged_copy_fill_and_map(driver):
    view = put(driver, np.arange(16, dtype=np.uint8))
    part = View(view.handle, 4, 8, None, 8)
    driver.fill(part, b"\x01\x02")
    assert get(driver, view).tolist() == [0, 1, 2, 3, *[1, 2] * 4, 12, 13, 14, 15]
    driver.copy(View(view.handle, 0, 4, None, 4), View(view.handle, 12, 4, None, 4))
    with driver.map(view) as memory:
        assert bytes(memory[:4]) == bytes([12, 13, 14, 15])
        memory[0] = 99
    assert get(driver, view)[0] == 99


# -- programs --------------------------------------------------------------------------------


def test_a_program_with_shared_constants(driver):
    weight = np.arange(64, dtype=np.float32).reshape(8, 8) - 30
    x = np.arange(24, dtype=np.float32).reshape(3, 8)
    (out,) = run(driver, layered(weight), x)
    assert np.array_equal(out, np.maximum(x @ weight, 0) @ weight)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16", "int32", "float64", "uint8"])
def test_formats_of_whole_bytes_run_in_place(driver, name):
    fmt = by_name(name)
    a, b = (np.arange(16).reshape(4, 4).astype(fmt.dtype) for _ in range(2))
    (out,) = run(driver, add_graph(fmt=fmt), a, b)
    assert np.array_equal(out.astype(float), (a.astype(float) + b.astype(float)))


@pytest.mark.parametrize(
    "name", ["int4", "float4_e2m1fn", "float6_e3m2fn", "uint4", "int2", "uint2"]
)
def test_packed_formats_go_in_and_out(driver, name):
    fmt = by_name(name)
    kind, turned = TensorType(fmt, (3, 5)), TensorType(fmt, (5, 3))
    x, y = Value("x", kind), Value("y", turned)
    node = Node("Transpose", (x,), (y,), {"perm": (1, 0)}, name="t")
    array = (np.arange(15) % 4).reshape(3, 5).astype(fmt.dtype)
    (out,) = run(driver, Graph((x,), (y,), (), (node,)), array)
    assert np.array_equal(out, array.T)


def test_packed_constants(driver):
    x, y = (Value(n, TensorType(INT4, (2, 3))) for n in "xy")
    whole = Value("whole", TensorType(INT4, (4, 3)))
    constant = Constant.of("c", (np.arange(6) - 3).reshape(2, 3).astype(ml_dtypes.int4))
    node = Node("Concat", (x, constant.value), (whole,), {"axis": 0}, name="join")
    array = np.ones((2, 3), ml_dtypes.int4)
    (out,) = run(driver, Graph((x,), (whole,), (constant,), (node,)), array)
    assert out.tolist() == [[1] * 3, [1] * 3, [-3, -2, -1], [0, 1, 2]]
    assert y.shape == (2, 3)


def test_outputs_may_repeat_and_be_inputs_or_constants(driver):
    a, b = (Value(n, TensorType(FLOAT32, (2,))) for n in "ab")
    total = Value("t", TensorType(FLOAT32, (2,)))
    constant = Constant.of("k", np.array([7, 8], np.float32))
    node = Node("Add", (a, b), (total,), name="add")
    graph = Graph((a, b), (total, total, a, constant.value), (constant,), (node,))
    x, y = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    outs = run(driver, graph, x, y)
    assert [out.tolist() for out in outs] == [[4, 6], [4, 6], [1, 2], [7, 8]]


def test_empty_tensors(driver):
    (out,) = run(driver, add_graph((0, 3)), *[np.zeros((0, 3), np.float32)] * 2)
    assert out.shape == (0, 3)


def test_a_bound_program_sees_what_is_written_later(driver):
    program, constants = compiled(add_graph())
    loaded = driver.load(program, iter(constants))
    views = [put(driver, np.full((4, 4), n, np.float32)) for n in (1, 2, 0)]
    bound = driver.bind(loaded, views[:2], views[2:])
    driver.execute_bound(bound)
    assert get(driver, views[2])[0, 0] == 3
    driver.write(views[0], memoryview(np.full((4, 4), 10, np.float32)).cast("B"))
    driver.execute_bound(bound)
    assert (get(driver, views[2]) == 12).all()


def test_special_results_raise_no_warnings_on_any_thread(driver):
    a, b, c = (Value(n, TensorType(FLOAT32, (3,))) for n in "abc")
    graph = Graph((a, b), (c,), (), (Node("Div", (a, b), (c,), name="div"),))
    outs = []

    def work():
        operands = np.array([1, 0, -1], np.float32), np.zeros(3, np.float32)
        outs.extend(run(driver, graph, *operands))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    work()
    for out in outs:
        assert np.array_equal(out, [np.inf, np.nan, -np.inf], equal_nan=True)
    assert len(outs) == 2


def test_a_profile_names_every_node(driver):
    graph = layered(np.eye(8, dtype=np.float32))
    program, constants = compiled(graph)
    loaded = driver.load(program, iter(constants))
    x = put(driver, np.ones((3, 8), np.float32))
    out = empty(driver, graph.outputs[0].type)
    shapes, profile = driver.execute_profiled(loaded, [x], [out])
    assert shapes is None
    assert [time.node for time in profile] == [node.name for node in graph.nodes]
    assert all(time.started <= time.finished for time in profile)
    assert (get(driver, out) == 1).all()


def test_a_failing_kernel_names_its_node_and_leaves_the_device_usable(driver):
    x = Value("x", TensorType(FLOAT32, (3,)))
    i = Value("i", TensorType(by_name("int64"), (1,)))
    y = Value("y", TensorType(FLOAT32, (1,)))
    graph = Graph((x, i), (y,), (), (Node("Gather", (x, i), (y,), {"axis": 0}, name="pick"),))
    with pytest.raises(InvalidArgument, match="pick"):
        run(driver, graph, np.zeros(3, np.float32), np.array([3]))
    (out,) = run(driver, graph, np.arange(3, dtype=np.float32), np.array([-1]))
    assert out.tolist() == [2]


def test_corrupt_code_is_data_loss(driver):
    from dataclasses import replace

    program, constants = compiled(add_graph())
    with pytest.raises(DataLoss):
        driver.load(replace(program, code=program.code[:-9]), iter(constants))
