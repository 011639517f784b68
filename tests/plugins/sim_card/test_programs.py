"""Programs: compiled without a card, loaded into device memory, run in place."""

from dataclasses import replace

import numpy as np
import pytest

from accelsdk.backend.backend import Compatibility, Refusal, Verdict
from accelsdk.backend.driver import View
from accelsdk.errors import DataLoss, FailedPrecondition, InvalidArgument, OutOfMemory
from accelsdk.formats import E2M1, FLOAT32, FLOAT64, INT4
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.ops import TABLE
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import TensorType, Value

F32 = np.float32


def _with_constant(rows=64):
    """y = x @ w; also hands out w and x."""
    build = Builder()
    x = build.input("x", FLOAT32, (2, rows))
    w = build.constant(np.arange(rows * 4, dtype=F32).reshape(rows, 4), name="w")
    y = build.op("MatMul", x, w)
    return Graph(
        inputs=(x,),
        outputs=(y, w, x, y),
        constants=build.constants,
        nodes=tuple(build.nodes),
        name="product",
    )


def _load(rig, graph, share=None):
    program, kept = rig.compile(graph)
    return rig.card().load(program, iter(kept), share)


def test_an_output_may_be_an_input_a_constant_or_repeated(rig):
    graph = _with_constant()
    x = np.random.default_rng(0).integers(-4, 5, (2, 64)).astype(F32)
    y, w, same, again = rig.run(graph, [x])
    np.testing.assert_array_equal(w, np.arange(256, dtype=F32).reshape(64, 4))
    np.testing.assert_array_equal(y, x @ w)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(again, y)


def test_constants_and_workspace_are_device_memory(rig):
    build = Builder()
    x = build.input("x", FLOAT32, (100,))
    y = build.op("Neg", build.op("Abs", build.op("Neg", x)))
    chain = Graph(inputs=(x,), outputs=(y,), constants=(), nodes=tuple(build.nodes))
    program, _ = rig.compile(chain)
    assert program.header.workspace == 2 * 448  # two of 400 bytes at once, aligned to 64
    loaded = _load(rig, chain)
    assert rig.card().memory_stats("device").in_use == 2 * 448
    rig.card().unload(loaded)
    weights = _load(rig, _with_constant())
    assert rig.card().memory_stats("device").in_use == 1024
    rig.card().unload(weights)
    assert rig.card().memory_stats("device").in_use == 0


def test_programs_that_share_hold_equal_constants_once(rig):
    first = _load(rig, _with_constant())
    second = _load(rig, _with_constant(), share=first)
    assert rig.card().memory_stats("device").in_use == 1024
    rig.card().unload(first)
    assert rig.card().memory_stats("device").in_use == 1024
    x = rig.view(np.ones((2, 64), F32))
    outs = [rig.view(n) for n in (32, 1024, 512, 32)]
    rig.card().execute(second, (x,), outs)
    rig.card().unload(second)
    assert rig.card().memory_stats("device").allocations == 5


def test_sharing_with_a_program_from_before_a_reset_loads_anew(rig):
    first = _load(rig, _with_constant())
    rig.card().reset()
    _load(rig, _with_constant(), share=first)
    assert rig.card().memory_stats("device").in_use == 1024


def test_a_program_that_does_not_fit_leaves_nothing_behind(rigs):
    rig = rigs(memory_bytes=2048)
    build = Builder()
    x = build.input("x", FLOAT32, (16,))
    big = [build.constant(np.full((16 * n,), n, F32), name=f"c{n}") for n in (8, 40)]
    graph = Graph(inputs=(x,), outputs=(x, *big), constants=build.constants, nodes=())
    with pytest.raises(OutOfMemory, match="2,560 bytes requested"):
        _load(rig, graph)
    assert rig.card().memory_stats("device").in_use == 0


@pytest.mark.parametrize("change", [-1, 1])
def test_a_constant_of_another_length_is_data_loss(rig, change):
    program, kept = rig.compile(_with_constant())
    data = kept[0].tobytes()
    wrong = data[:-1] if change < 0 else data + b"\0"
    broken = replace(kept[0], read=lambda: iter([memoryview(wrong)]))
    with pytest.raises(DataLoss, match="1024 bytes"):
        rig.card().load(program, iter([broken]))
    assert rig.card().memory_stats("device").in_use == 0


def test_a_source_that_fails_leaves_nothing_behind(rig):
    program, kept = rig.compile(_with_constant())

    def read():
        yield memoryview(kept[0].tobytes()[:10])
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        rig.card().load(program, iter([replace(kept[0], read=read)]))
    assert rig.card().memory_stats("device").in_use == 0


def test_corrupt_code_is_data_loss(rig):
    program, kept = rig.compile(_with_constant())
    with pytest.raises(DataLoss):
        rig.card().load(replace(program, code=program.code[:-3]), iter(kept))


def test_an_untyped_constant_is_refused(rig):
    program, kept = rig.compile(_with_constant())
    untyped = replace(kept[0], spec=replace(kept[0].spec, type=None))
    with pytest.raises(FailedPrecondition, match="no type"):
        rig.card().load(program, iter([untyped]))


@pytest.mark.parametrize("fmt", [INT4, E2M1], ids=str)
def test_packed_formats_stay_packed_in_device_memory(rig, graphs, fmt):
    x = np.array([1, 2, 3], np.int8).astype(fmt.dtype)
    view = rig.view(x)
    assert view.nbytes == 2
    (y,) = rig.op("Concat", x, x, axis=0)
    np.testing.assert_array_equal(y, np.concatenate([x, x]))


def test_a_donated_input_may_hold_the_output(rig):
    build = Builder()
    a, b = build.input("a", FLOAT32, (8,)), build.input("b", FLOAT32, (8,))
    flip = build.op("Slice", b, starts=(7,), ends=(-9,), axes=(0,), steps=(-1,))
    graph = Graph(
        inputs=(a, b),
        outputs=(build.op("Neg", a), flip),
        constants=(),
        nodes=tuple(build.nodes),
    )
    program, _ = rig.compile(graph)
    assert program.header.aliases == ((0, 0), (1, 1))
    loaded = _load(rig, graph)
    x, y = np.arange(8, dtype=F32), np.arange(8, 16, dtype=F32)
    first, second = rig.view(x), rig.view(y)
    # Both outputs lie in the other's input: each must be read before it is overwritten.
    rig.card().execute(loaded, (first, second), (second, first))
    np.testing.assert_array_equal(rig.bytes(second).view(F32), -x)
    np.testing.assert_array_equal(rig.bytes(first).view(F32), y[::-1])


def test_views_at_odd_offsets(rig, graphs):
    x = np.arange(4, dtype=F32)
    loaded = rig.load(graphs("Neg", x))
    raw = rig.view(np.concatenate([np.zeros(3, np.uint8), x.view(np.uint8)]))
    kind = TensorType(FLOAT32, (4,))
    inside = View(raw.handle, 3, 16, kind, 16)
    rig.card().execute(loaded, (inside,), (inside,))
    np.testing.assert_array_equal(rig.bytes(inside).view(F32), -x)


def test_an_error_names_node_and_device(rig, graphs):
    table, index = np.zeros((2, 2), F32), np.array([9], np.int64)
    with pytest.raises(InvalidArgument) as caught:
        rig.op("Gather", table, index, axis=0)
    assert caught.value.node == "Gather"
    assert caught.value.device == rig.devices[0].id


def test_compiling_is_deterministic_and_needs_no_card(rig):
    first, second = (rig.compile(_with_constant())[0] for _ in range(2))
    assert (first.code, first.header) == (second.code, second.header)
    assert rig.drivers == {}


def test_check_looks_at_the_preset(rigs):
    program, _ = rigs().compile(_with_constant())
    judge = rigs().backend.check
    assert judge(program.header, rigs().target) is Compatibility.OPTIMAL
    assert judge(program.header, rigs(preset="h100").target) is Compatibility.UNSUPPORTED
    other = replace(program.header, backend="acme")
    assert judge(other, rigs().target) is Compatibility.NOT_APPLICABLE


def test_every_op_of_the_table_is_supported(rig):
    value = Value("x", TensorType(FLOAT32, (2,)))
    graph = Graph(inputs=(value,), outputs=(), constants=(), nodes=())
    for op in TABLE:
        node = Node(op, (value,), (value,), name=op)
        assert rig.backend.supports(graph, node, rig.target).verdict is Verdict.NATIVE, op


def test_float64_is_emulated_and_foreign_ops_are_refused(rig):
    value = Value("x", TensorType(FLOAT64, (2,)))
    graph = Graph(inputs=(value,), outputs=(), constants=(), nodes=())
    answer = rig.backend.supports(graph, Node("Neg", (value,), (value,)), rig.target)
    assert answer.verdict is Verdict.EMULATED
    foreign = Node("Neg", (value,), (value,), domain="acme")
    answer = rig.backend.supports(graph, foreign, rig.target)
    assert (answer.verdict, answer.refusal) == (Verdict.UNSUPPORTED, Refusal.OPERATOR)
