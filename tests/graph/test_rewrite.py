"""Builder, lowering rules, substitution and dead code."""

import numpy as np
import pytest

from accelsdk import formats as f
from accelsdk.errors import GraphError
from accelsdk.graph.graph import CORE, ONNX, Graph, Node
from accelsdk.graph.rewrite import (
    Builder,
    LoweringRule,
    apply,
    decompositions,
    remove_dead,
    substitute,
)
from accelsdk.graph.types import TensorType, Value
from accelsdk.graph.verify import verify

KIND = TensorType(f.FLOAT32, (2,))


def test_builder_pools_equal_constants_and_never_reuses_a_name():
    b = Builder(taken=["Add", "x"])
    one, two = b.scalar(1, f.FLOAT32), b.scalar(1, f.FLOAT32)
    assert one is two
    assert b.scalar(1, f.FLOAT16) != one
    assert b.constant(-0.0, f.FLOAT32) != b.constant(0.0, f.FLOAT32)
    assert b.op("Add", one, two).name == "Add_1:0"
    assert b.input("x", f.FLOAT32, ()).name == "x_1"


def test_builder_knows_constants_only():
    b = Builder()
    x = b.input("x", f.FLOAT32, (2,))
    assert b.known(b.constant(np.arange(2.0))).tolist() == [0, 1]
    assert b.known(x) is None
    assert b.known(None) is None


def relu_rule(**options):
    return LoweringRule(
        domain=ONNX, op="Relu", rewrite=lambda b, n: (b.op("Relu", n.inputs[0]),), **options
    )


def imported(count=2):
    values = [Value(f"v{i}", KIND) for i in range(count + 1)]
    nodes = tuple(
        Node("Relu", (values[i],), (values[i + 1],), {}, ONNX, f"n{i}") for i in range(count)
    )
    return Graph(tuple(values[:1]), tuple(values[-1:]), (), nodes)


def test_rules_apply_to_what_they_make_and_origin_is_kept():
    lowered = apply(imported(), [relu_rule(), *decompositions()])
    verify(lowered)
    assert [n.op for n in lowered.nodes] == ["Max", "Max"]
    assert [n.origin for n in lowered.nodes] == [("n0",), ("n1",)]
    assert lowered.outputs == imported().outputs


def test_nodes_tell_the_rules_that_made_them_outermost_first():
    rule = relu_rule(name="onnx-relu")
    assert [n.via for n in imported().nodes] == [(), ()]
    once = apply(imported(), [rule])
    assert [n.via for n in once.nodes] == [("onnx-relu",)] * 2
    lowered = apply(once, decompositions())
    assert [n.via for n in lowered.nodes] == [("onnx-relu", "Relu")] * 2


def test_keep_stops_a_rule():
    lowered = apply(imported(), [relu_rule(), *decompositions()], keep=lambda n: n.domain == CORE)
    assert [n.op for n in lowered.nodes] == ["Relu", "Relu"]


def test_guard_leaves_the_node_and_says_why():
    heard = []
    rule = relu_rule(guard=lambda b, n: None if n.name == "n0" else "not today")
    lowered = apply(imported(), [rule], refused=lambda n, why: heard.append((n.name, why)))
    assert [n.domain for n in lowered.nodes] == [CORE, ONNX]
    assert heard == [("n1", "not today")]


def test_second_rule_is_tried_after_the_first_refuses():
    never = relu_rule(guard=lambda b, n: "never")
    assert all(n.domain == CORE for n in apply(imported(), [never, relu_rule()]).nodes)


def test_identity_rules_keep_output_names():
    rule = LoweringRule(domain=ONNX, op="Relu", rewrite=lambda b, n: (n.inputs[0],))
    lowered = apply(imported(), [rule])
    verify(lowered)
    assert [(n.op, n.outputs[0].name) for n in lowered.nodes] == [("Reshape", "v2")]


def test_two_outputs_that_become_one_value_keep_both_names():
    x = Value("x", KIND)
    outs = (Value("a", KIND), Value("b", KIND))
    nodes = tuple(Node("Id", (x,), (o,), {}, ONNX, f"n{o.name}") for o in outs)
    graph = Graph((x,), outs, (), nodes)
    made = []

    def rewrite(b, n):
        if not made:
            made.append(b.op("Neg", x))
        return (made[0],)

    lowered = apply(graph, [LoweringRule(domain=ONNX, op="Id", rewrite=rewrite)])
    verify(lowered)
    assert [v.name for v in lowered.outputs] == ["a", "b"]


def test_output_read_by_a_later_node():
    b = Builder()
    x = b.input("x", f.FLOAT32, (2,))
    y = b.op("Relu", x)
    graph = b.graph([x], [y, b.op("Neg", y)])
    lowered = apply(graph, decompositions())
    verify(lowered)
    assert lowered.outputs == graph.outputs


def test_wrong_result_type_is_refused():
    rule = relu_rule()
    wrong = LoweringRule(
        domain=ONNX, op="Relu", rewrite=lambda b, n: (b.op("Cast", n.inputs[0], to="float16"),)
    )
    with pytest.raises(GraphError) as caught:
        apply(imported(), [wrong, rule])
    assert (caught.value.rule, caught.value.node) == ("rewrite-results", "n0")


def test_endless_rules_are_refused():
    rule = LoweringRule(domain=CORE, op="Neg", rewrite=lambda b, n: (b.op("Neg", n.inputs[0]),))
    b = Builder()
    x = b.input("x", f.FLOAT32, (2,))
    with pytest.raises(GraphError) as caught:
        apply(b.graph([x], [b.op("Neg", x)]), [rule])
    assert caught.value.rule == "rewrite-loop"


def test_substitute_and_remove_dead():
    b = Builder()
    x = b.input("x", f.FLOAT32, (2,))
    c = b.constant(np.ones(2, np.float32), name="c")
    y = b.op("Add", x, c)
    z = b.op("Neg", y)
    graph = b.graph([x], [z, y])
    changed = substitute(graph, {y.name: x})
    verify(changed)
    assert [v.name for v in changed.outputs] == [z.name, y.name]
    slim = remove_dead(changed)
    verify(slim)
    assert [n.op for n in slim.nodes] == ["Neg", "Reshape"]
    assert slim.constants == ()
    assert slim.inputs == graph.inputs
