"""The onnxruntime plugin: an honest table, no copies, errors of ours, and life without it."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

import accelsdk
from accelsdk import formats as f
from accelsdk.backend.backend import NATIVE, Compatibility, Refusal, Verdict
from accelsdk.backend.driver import View
from accelsdk.backend.info import Requirement
from accelsdk.backend.optional import PROTOCOLS
from accelsdk.backend.program import ConstantSpec, PackedConstant, Program
from accelsdk.compiler.pipeline import lower
from accelsdk.errors import Internal, InvalidArgument, OutOfMemory
from accelsdk.formats import FLOAT32, UINT8, by_name
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.ops import TABLE
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import evaluate
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import Problem, always, expect_exact
from accelsdk_conformance.subject import ClientSubject
from accelsdk_onnxruntime_cpu import support
from tests.plugins.onnxruntime_kernels import (
    BACKEND,
    OPTIONS,
    TARGET,
    compiled,
    drawn,
    empty,
    failure,
    get,
    open_driver,
    put,
    run,
)
from tests.plugins.test_reference_cpu import Packer

MEASURED = sorted(support.kernels()["formats"])


@pytest.fixture
def driver():
    card = open_driver()
    yield card
    card.close()


def add(shape=(4, 4), fmt=FLOAT32, op="Add"):
    a, b, c = (Value(n, TensorType(fmt, shape)) for n in "abc")
    return Graph((a, b), (c,), (), (Node(op, (a, b), (c,), name="sum"),))


# -- what it says it runs, it runs ------------------------------------------------------------


@pytest.mark.parametrize("op", MEASURED)
def test_what_is_supported_compiles_runs_and_is_right(op, driver):
    checked = 0
    for least in (1, 0):
        for seed in range(1000, 1016):
            graph, feeds = drawn(op, seed, least)
            if BACKEND.supports(graph, graph.nodes[0], TARGET):
                checked += 1
                assert failure(driver, graph, feeds) == "", (seed, least, graph.nodes[0])
    assert checked


@pytest.mark.parametrize("op", MEASURED)
def test_verdicts_do_not_depend_on_constants(op):
    graph, feeds = drawn(op, 7)
    (node,) = graph.nodes
    b = Builder()
    values = {v.name: b.constant(feeds[v.name], v.format, name=v.name) for v in graph.inputs}
    fixed = Node(
        op,
        tuple(None if v is None else values[v.name] for v in node.inputs),
        node.outputs,
        node.attributes,
        name=node.name,
    )
    constant = Graph((), graph.outputs, tuple(b.constants), (fixed,))
    assert BACKEND.supports(constant, fixed, TARGET) == BACKEND.supports(graph, node, TARGET)


def test_refusals_have_reasons():
    unknown = BACKEND.supports(add(), Node("Magic", (), (), domain="acme"), TARGET)
    assert (unknown.verdict, unknown.refusal) == (Verdict.UNSUPPORTED, Refusal.OPERATOR)
    for graph, refusal, text in (
        (add(fmt=f.BFLOAT16), Refusal.FORMAT, "bfloat16"),
        (add(op="Pow", fmt=f.FLOAT16), Refusal.FORMAT, "float16"),
    ):
        answer = BACKEND.supports(graph, graph.nodes[0], TARGET)
        assert (answer.verdict, answer.refusal) == (Verdict.UNSUPPORTED, refusal)
        assert text in answer.text


def test_composites_that_onnxruntime_has_stay_whole():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 8))
    scale = b.constant(np.ones(8, np.float32))
    y = b.op("Gelu", b.op("Softmax", b.op("LayerNormalization", x, scale)))
    lowered = lower(b.graph([x], [y]), BACKEND, TARGET)
    assert [node.op for node in lowered.nodes] == ["LayerNormalization", "Softmax", "Gelu"]


def test_composites_that_it_lacks_are_decomposed(driver):
    b = Builder()
    x = b.input("x", f.FLOAT64, (2, 8))
    graph = lower(b.graph([x], [b.op("Elu", x)]), BACKEND, TARGET)
    assert "Elu" not in {node.op for node in graph.nodes}
    feeds = {"x": np.linspace(-3, 3, 16).reshape(2, 8)}
    (found,) = run(driver, graph, feeds)
    wanted = evaluate(graph, feeds)[graph.outputs[0].name]
    assert np.allclose(found, wanted, rtol=1e-15, atol=0)


# -- no copies -------------------------------------------------------------------------------


def test_arguments_are_read_and_written_where_they_lie(driver):
    program, constants = compiled(add())
    loaded = driver.load(program, iter(constants))
    views = [put(driver, np.full((4, 4), n, np.float32), FLOAT32) for n in (1, 2, 0)]
    bound = driver.bind(loaded, views[:2], views[2:])
    (output,) = bound.binding.get_outputs()
    assert output.data_ptr() == views[2].handle.address
    assert output.data_ptr() == views[2].handle.array.ctypes.data
    views[0].handle.array.view(np.float32)[:] = 10  # behind the driver's back
    driver.execute_bound(bound)
    assert (views[2].handle.array.view(np.float32) == 12).all()


@pytest.mark.parametrize("count", [4, 1 << 16])
def test_constants_are_read_where_they_lie(driver, count):
    b = Builder()
    x = b.input("x", f.INT64, (1,))
    table = b.constant(np.arange(count, dtype=np.float32), name="table")
    graph = b.graph([x], [b.op("Gather", table, x)])
    program, constants = compiled(graph)
    assert len(program.code) < 1000
    loaded = driver.load(program, iter(constants))
    (array,) = loaded.constants.values()
    array.view(np.float32)[3] = 77  # what nobody may do, to see who reads it
    out = empty(driver, graph.outputs[0].type)
    driver.execute(loaded, [put(driver, np.array([3]), f.INT64)], [out])
    assert get(driver, out).tolist() == [77]


def test_constants_come_in_pieces_and_are_shared():
    weight = np.arange(64, dtype=np.float32).reshape(8, 8)
    b = Builder()
    x = b.input("x", FLOAT32, (2, 8))
    graph = b.graph([x], [b.op("MatMul", x, b.constant(weight, name="w"))])
    program, (constant,) = compiled(graph)
    data = constant.tobytes()
    pieces = PackedConstant(
        constant.spec, lambda: (memoryview(data[i : i + 96]) for i in range(0, 256, 96))
    )
    driver = open_driver(memory=600)
    first = driver.load(program, iter([pieces]))
    second = driver.load(program, iter([pieces]), share=first)
    assert driver.memory_stats("device").in_use == 256
    views = (
        put(driver, np.eye(2, 8, dtype=np.float32), FLOAT32),
        empty(driver, graph.outputs[0].type),
    )
    driver.unload(first)
    driver.execute(second, views[:1], views[1:])
    assert np.array_equal(get(driver, views[1]), weight[:2])
    driver.unload(second)
    assert driver.memory_stats("device").in_use == 2 * 64


def test_lent_memory_is_used_in_place_and_is_not_on_the_account(driver):
    lent = np.full((4, 4), 3, np.float32)
    handle = driver.import_host(memoryview(lent).cast("B"))
    kind = TensorType(FLOAT32, (4, 4))
    out = empty(driver, kind)
    program, constants = compiled(add())
    view = View(handle, 0, 64, kind, 64)
    driver.execute(driver.load(program, iter(constants)), [view, view], [out])
    assert (get(driver, out) == 6).all()
    driver.free(handle)
    assert driver.memory_stats("device").in_use == 64


# -- the driver ------------------------------------------------------------------------------


def test_declared_capabilities_have_their_methods(driver):
    for capability in TARGET.capabilities:
        assert isinstance(driver, PROTOCOLS[capability]), capability


def test_out_of_memory_has_the_numbers_in_it():
    driver = open_driver(memory=1000)
    first = driver.allocate(600, "device", 64)
    assert first.address % 64 == 0
    with pytest.raises(OutOfMemory) as caught:
        driver.allocate(401, "device", 64)
    assert (caught.value.requested, caught.value.in_use, caught.value.limit) == (401, 600, 1000)
    driver.free(first)
    stats = driver.memory_stats("device")
    assert (stats.in_use, stats.peak, stats.allocations) == (0, 600, 0)


@pytest.mark.parametrize("name", ["int4", "uint4", "float4_e2m1fn", "float6_e3m2fn"])
def test_packed_formats_go_in_and_out(driver, name):
    b = Builder()
    kept = (np.arange(15) % 4).reshape(3, 5).astype(by_name(name).dtype)
    x = b.input("x", by_name(name), (2, 5))
    y = b.op("Concat", x, b.constant(kept, by_name(name)), axis=0)
    feeds = {"x": np.ones((2, 5)).astype(by_name(name).dtype)}
    (found,) = run(driver, b.graph([x], [y]), feeds)
    assert np.array_equal(found, np.concatenate([feeds["x"], kept]))


def test_outputs_may_repeat_and_be_inputs_or_constants(driver):
    b = Builder()
    x = b.input("x", FLOAT32, (2,))
    c = b.constant(np.array([7, 8], np.float32), name="c")
    y = b.op("Neg", x)
    found = run(driver, b.graph([x], [y, y, x, c]), {"x": np.array([1, 2], np.float32)})
    assert [array.tolist() for array in found] == [[-1, -2], [-1, -2], [1, 2], [7, 8]]


def test_ranged_copy_fill_and_map(driver):
    view = put(driver, np.arange(16, dtype=np.uint8), f.UINT8)
    driver.fill(View(view.handle, 4, 8, None, 8), b"\x01\x02")
    driver.copy(View(view.handle, 0, 4, None, 4), View(view.handle, 12, 4, None, 4))
    with driver.map(view) as memory:
        memory[0] = 99
    assert get(driver, view).tolist() == [99, 13, 14, 15, *[1, 2] * 4, 12, 13, 14, 15]


@pytest.mark.parametrize("level", ["disabled", "basic", "extended", "all"])
@pytest.mark.parametrize("prepack", [True, False])
def test_every_way_of_loading_gives_the_result(level, prepack):
    driver = open_driver(optimization=level, prepack=prepack, threads=2)
    b = Builder()
    x = b.input("x", FLOAT32, (2, 8))
    w = b.constant(np.arange(64, dtype=np.float32).reshape(8, 8) - 30)
    graph = b.graph([x], [b.op("Relu", b.op("MatMul", x, w))])
    feeds = {"x": np.arange(16, dtype=np.float32).reshape(2, 8)}
    (found,) = run(driver, graph, feeds)
    assert np.array_equal(found, evaluate(graph, feeds)[graph.outputs[0].name])


@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_integers_are_not_divided_as_reals_are(driver, op):
    """An optimiser of onnxruntime makes y / x of 1 / x * y, in integers as well."""
    b = Builder()
    x = b.input("x", f.INT64, (2,))
    settings = {"fmod": 1} if op == "Mod" else {}
    graph = b.graph([x], [b.op(op, b.constant(np.array([1])), x, **settings)])
    (found,) = run(driver, graph, {"x": np.array([1, 2])})
    assert found.tolist() == ([0, 1] if op == "Mod" else [1, 0])


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_extremes_of_no_booleans_are_refused(op):
    for shape, supported in (((0, 2), False), ((3, 2), True)):
        b = Builder()
        x = b.input("x", f.BOOL, shape)
        graph = b.graph([x], [b.op(op, x, axes=(0,), keepdims=0)])
        assert bool(BACKEND.supports(graph, graph.nodes[0], TARGET)) is supported


def test_threads_run_one_program_at_a_time_each_its_own(driver):
    program, constants = compiled(add())
    loaded = driver.load(program, iter(constants))
    wrong = []

    def use(number):
        x = put(driver, np.full((4, 4), number, np.float32), FLOAT32)
        out = empty(driver, TensorType(FLOAT32, (4, 4)))
        for _ in range(50):
            driver.execute(loaded, [x, x], [out])
            if not (get(driver, out) == 2 * number).all():
                wrong.append(number)

    threads = [threading.Thread(target=use, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- errors ----------------------------------------------------------------------------------


def test_a_kernel_that_is_missing_is_an_error_that_names_the_node(driver):
    program, constants = compiled(add(fmt=f.BFLOAT16))  # which supports() refuses
    with pytest.raises(Internal, match="Add") as caught:
        driver.load(program, iter(constants))
    assert caught.value.node == "sum"
    assert caught.value.device == "onnxruntime_cpu:0"


def test_an_index_out_of_range_is_an_error_that_names_the_node(driver):
    b = Builder()
    x, i = b.input("x", FLOAT32, (3,)), b.input("i", f.INT64, (1,))
    graph = b.graph([x, i], [b.op("Gather", x, i)])
    feeds = {"x": np.ones(3, np.float32), "i": np.array([7])}
    with pytest.raises(InvalidArgument, match="out of data bounds") as caught:
        run(driver, graph, feeds)
    assert caught.value.node == graph.nodes[0].name


def test_code_that_is_no_model_is_an_error(driver):
    program, _ = compiled(add())
    broken = Program(header=program.header, code=b"no model")
    with pytest.raises(Internal, match="loading failed"):
        driver.load(broken, iter(()))


# -- programs --------------------------------------------------------------------------------


def test_compiling_is_deterministic_and_checks_its_own_programs():
    first, second = (compiled(add())[0] for _ in range(2))
    assert first == second
    assert BACKEND.check(first.header, TARGET) is Compatibility.OPTIMAL


def test_constants_beyond_two_gibibytes_compile_unread():
    class Weighed:
        """A packer that reads nothing."""

        def graph_constant(self, constant):
            kind = constant.value.type
            return ConstantSpec(name=constant.name, nbytes=kind.nbytes, digest="0", type=kind)

    shape = (1 << 30,)
    x, y = (Value(n, TensorType(FLOAT32, shape)) for n in "xy")
    from accelsdk.exchange.export import to_onnx
    from accelsdk.graph.graph import Constant

    def load():
        raise AssertionError("must not be read")

    huge = Constant(Value("w", TensorType(FLOAT32, shape)), load)
    graph = Graph((x,), (y,), (huge,), (Node("Add", (x, huge.value), (y,), name="a"),))
    assert to_onnx(graph, contents=False).ByteSize() < 1000


# -- the extra -------------------------------------------------------------------------------


def without_onnxruntime(code):
    """Runs code in a fresh interpreter where onnxruntime cannot be imported."""
    lines = "import sys\nsys.modules['onnxruntime'] = None\n" + code
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", lines], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


INSTALL = "pip install 'accelsdk[onnxruntime]'"


def test_registering_the_plugin_does_not_import_onnxruntime():
    code = """
import sys
from accelsdk.registry import registry
backend = registry().backend("onnxruntime_cpu")
backend.targets(backend.info.resolve({}))
backend.enumerate_devices(backend.info.resolve({}))
print([m for m in ("onnxruntime", "onnx") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_extra_the_plugin_is_listed_with_the_command_that_installs_it():
    out = without_onnxruntime(
        """
from accelsdk.registry import Status, registry
record = next(r for r in registry().plugins if r.name == "onnxruntime_cpu")
assert record.status is Status.NEEDS_EXTRA
print(record.cause, "|", record.remedy)
"""
    )
    assert out.strip() == f"onnxruntime is not installed | {INSTALL}"


@pytest.mark.parametrize("command", ["plugins", "doctor", "devices"])
def test_without_the_extra_the_commands_say_so(command):
    out = without_onnxruntime(
        f"""
from accelsdk.cli.main import run
sys.argv = ["accelsdk", {command!r}]
try:
    run()
except SystemExit as end:
    assert not end.code, end.code
"""
    )
    assert INSTALL in " ".join(out.split())


def test_without_the_extra_programs_compile_and_connecting_tells_what_is_missing():
    out = without_onnxruntime(
        """
import accelsdk
from accelsdk.errors import Unavailable
from accelsdk.formats import FLOAT32
from accelsdk.graph.rewrite import Builder
b = Builder()
x = b.input("x", FLOAT32, (2,))
with accelsdk.connect("onnxruntime_cpu") as client:
    program = client.compile(b.graph([x], [b.op("Neg", x)]))
    try:
        client.device(0)
    except Unavailable as error:
        print(error)
"""
    )
    assert INSTALL in out


def test_a_requirement_is_looked_for_and_not_imported():
    assert Requirement(module="numpy", install="x").met
    assert not Requirement(module="no_such_module", install="x").met


# -- through the SDK -------------------------------------------------------------------------


def test_a_session_runs_on_it():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 3))
    w = b.constant(np.ones((3, 2), np.float32))
    graph = b.graph([x], [b.op("MatMul", x, w)])
    with accelsdk.InferenceSession(graph, "onnxruntime_cpu") as session:
        (found,) = session.run(None, {"x": np.ones((2, 3), np.float32)})
    assert (found == 3).all()


def test_every_measured_op_is_in_the_core_table():
    assert set(MEASURED) <= set(TABLE)
    assert set(support.kernels()["empty"]["ops"]) <= set(MEASURED)
    for names in support.kernels()["formats"].values():
        assert [by_name(name).name for name in names] == names
    assert OPTIONS["threads"] == 1


def test_a_contraction_with_its_requantize_is_one_native_region(driver):
    b = Builder()
    x, w = b.input("x", UINT8, (4, 16)), b.constant(np.arange(-24, 24).reshape(16, 3).astype("i1"))
    scale = b.constant(np.float32(1e-3))
    total = b.op("MatMulInteger", x, w)
    graph = b.graph([x], [b.op("Requantize", total, scale, to="uint8", axis=1)])
    (claim,) = BACKEND.claim(graph, TARGET)
    assert (set(claim.nodes), claim.support, claim.name) == (
        {node.name for node in graph.nodes},
        NATIVE,
        "QLinearMatMul",
    )
    feeds = {"x": np.arange(64, dtype=np.uint8).reshape(4, 16)}
    (found,) = run(driver, graph, feeds)
    (wanted,) = evaluate(graph, feeds).values()
    assert np.array_equal(found, wanted)


def test_constants_that_one_op_does_without_are_not_in_the_program():
    b = Builder()
    x, w = b.input("x", UINT8, (1, 2, 5, 5)), b.constant(np.ones((3, 2, 3, 3), np.int8))
    zeros = b.constant(np.zeros(3, np.int8), name="zeros")
    window = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
    total = b.op("ConvInteger", x, w, None, zeros, **window)
    out = b.op("Requantize", total, b.constant(np.float32(0.1)), to="uint8", axis=1)
    program, _ = compiled(b.graph([x], [out]))
    assert "zeros" not in [constant.name for constant in program.constants]
    assert len(program.constants) == 2


# -- all kernels, right or wrong --------------------------------------------------------------

EVERY = BACKEND.info.resolve({"threads": 1, "kernels": "all"})
(EVERY_TARGET,) = BACKEND.targets(EVERY)


@pytest.mark.parametrize(
    ("op", "feeds", "options"),
    [
        ("Sign", {"x": np.array([1, -2, 0], np.float16)}, {}),
        ("Max", {"x": np.array([5, -7], np.int64), "y": np.array(2, np.int64)}, {}),
        ("Cast", {"x": np.array([0.3, -5, 449], np.float32)}, {"to": "float8_e4m3fn"}),
        ("Cast", {"x": np.array([0.3, -5, 6e4], np.float16)}, {"to": "float8_e5m2"}),
        ("MatMulInteger", {"x": np.ones((2, 3), np.int8), "y": np.ones((3, 2), np.int8)}, {}),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_all_kernels_of_onnxruntime_may_be_used(op, feeds, options):
    b = Builder()
    inputs = [
        b.input(name, f.from_dtype(array.dtype), array.shape) for name, array in feeds.items()
    ]
    graph = b.graph(inputs, [b.op(op, *inputs, **options)])
    assert BACKEND.supports(graph, graph.nodes[0], EVERY_TARGET)
    with accelsdk.connect("onnxruntime_cpu", {"threads": 1, "kernels": "all"}, fallback=None) as c:
        session = accelsdk.InferenceSession(c.compile(graph), c)
        (found,) = session.run(None, feeds)
    (wanted,) = evaluate(graph, feeds).values()
    assert np.array_equal(found.view(np.uint8), np.asarray(wanted).view(np.uint8))


def test_what_went_wrong_is_used_only_if_asked_for():
    b = Builder()
    x = b.input("x", f.FLOAT16, (3,))
    empty, w = b.input("e", UINT8, (2, 0)), b.input("w", UINT8, (0, 2))
    graph = b.graph([x, empty, w], [b.op("Sign", x), b.op("MatMulInteger", empty, w)])
    for node in graph.nodes:
        assert not BACKEND.supports(graph, node, TARGET)
        assert BACKEND.supports(graph, node, EVERY_TARGET)


def test_programs_for_all_kernels_are_not_those_for_the_right_ones():
    header = BACKEND.compile(add(), EVERY_TARGET, EVERY, Packer()).header
    assert BACKEND.check(header, EVERY_TARGET) is Compatibility.OPTIMAL
    assert BACKEND.check(header, TARGET) is Compatibility.UNSUPPORTED


# -- results whose size comes with the data ----------------------------------------------------


def test_results_sized_by_the_data_are_cut_to_their_shape(driver):
    b = Builder()
    x, keep = b.input("x", by_name("int4"), (5,)), b.input("keep", f.BOOL, (5,))
    graph = b.graph([x, keep], [b.op("Compress", x, keep, axis=0), b.op("NonZero", keep)])
    feeds = {
        "x": np.arange(-2, 3).astype(x.format.dtype),
        "keep": np.array([1, 0, 0, 1, 1], bool),
    }
    found = run(driver, graph, feeds)
    assert found[0].astype(np.int8).tolist() == [-2, 1, 2]
    assert found[1].tolist() == [[0, 3, 4]]
    nothing = run(driver, graph, feeds | {"keep": np.zeros(5, bool)})
    assert [array.shape for array in nothing] == [(0,), (1, 0)]


def test_windows_that_onnxruntime_does_not_pad_or_interpolate_are_refused():
    b = Builder()
    x = b.input("x", FLOAT32, (1, 1, 9))
    window = {"kernel_shape": (2,), "dilations": (3,), "strides": (1,), "pads": (2, 2)}
    volume = b.op("Resize", x, mode="cubic", output_shape=(1, 1, 18), scales=(1.0, 1.0, 2.0))
    graph = b.graph([x], [b.op("MaxPool", x, **window), volume])
    for node, refusal in zip(graph.nodes[::-1], (Refusal.ATTRIBUTE, Refusal.SHAPE), strict=True):
        for target in (TARGET, EVERY_TARGET):
            assert BACKEND.supports(graph, node, target).refusal is refusal


def test_a_failed_run_does_not_stay_with_later_ones():
    """As the suite runs it: one device, and memory that is kept from case to case."""
    subject = ClientSubject("onnxruntime_cpu", {"threads": 1})
    far = Tensor(f.INT64, np.array([9], np.uint64))
    near = Tensor(f.INT64, np.array([1], np.uint64))
    table = Tensor(FLOAT32, np.arange(3, dtype=np.float32).view(np.uint32))

    def gather(index):
        oracle = always(expect_exact(Tensor(FLOAT32, table.codes[1:2])))
        return Problem(op="Gather", operands=(table, index), oracle=oracle)

    with pytest.raises(InvalidArgument):
        subject.run(gather(far), 0xA5)
    (found,) = subject.run(gather(near), 0xA5)
    assert found.codes.tolist() == table.codes[1:2].tolist()
