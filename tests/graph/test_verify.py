"""Each rule of the verifier, broken once."""

from dataclasses import replace

import numpy as np
import pytest

from accelsdk import formats as f
from accelsdk.errors import GraphError
from accelsdk.graph.graph import CORE, ONNX, Constant, Graph, Node
from accelsdk.graph.opdef import Family, NumericsClass, OpDef, copied, operands, results
from accelsdk.graph.rewrite import Builder, apply, decompositions
from accelsdk.graph.types import TensorType, Value
from accelsdk.graph.verify import verify

KIND = TensorType(f.FLOAT32, (2, 3))
X, Y, Z = (Value(name, KIND) for name in "xyz")


def good():
    b = Builder()
    x = b.input("x", f.FLOAT32, (2, 3))
    c = b.constant(np.ones(3, np.float32))
    y = b.op("Add", x, c)
    return b.graph([x], [b.op("Softmax", y)])


def changed(graph: Graph, index: int, **changes: object) -> Graph:
    nodes = list(graph.nodes)
    nodes[index] = replace(nodes[index], **changes)
    return replace(graph, nodes=tuple(nodes))


def test_good_graph_passes():
    verify(good())
    verify(good(), level="imported")


def refused(graph: Graph, rule: str, node: str | None = None, **options: object) -> None:
    with pytest.raises(GraphError) as caught:
        verify(graph, **options)
    assert caught.value.rule == rule
    assert caught.value.node == node
    assert rule in str(caught.value)


def test_two_inputs_share_a_name():
    refused(replace(good(), inputs=(X, X)), "name-unique")


def test_input_and_constant_share_a_name():
    constant = Constant.of("x", np.ones(3, np.float32))
    refused(replace(good(), constants=(constant,)), "name-unique")


def test_two_nodes_share_a_name():
    refused(changed(good(), 1, name="Add"), "name-unique", "Add")


def test_node_without_a_name():
    refused(changed(good(), 0, name=""), "name-empty", "Add")


def test_value_without_a_name():
    refused(replace(good(), inputs=(replace(X, name=""),)), "name-empty")


def test_result_without_a_name():
    graph = good()
    refused(changed(graph, 0, outputs=(Value("", KIND),)), "name-empty", "Add")


def test_value_made_twice():
    graph = good()
    twice = changed(graph, 1, outputs=graph.nodes[0].outputs)
    refused(twice, "single-assignment", "Softmax")


def test_node_overwrites_an_input():
    refused(changed(good(), 0, outputs=(X,)), "single-assignment", "Add")


def test_operand_never_made():
    refused(changed(good(), 1, inputs=(Z,)), "define-before-use", "Softmax")


def test_nodes_in_the_wrong_order():
    graph = good()
    back_to_front = replace(graph, nodes=graph.nodes[::-1])
    refused(back_to_front, "define-before-use", "Softmax")


def test_operand_type_differs_from_its_source():
    graph = good()
    lied = replace(graph.nodes[0].result, type=TensorType(f.FLOAT16, (2, 3)))
    refused(changed(graph, 1, inputs=(lied,)), "operand-type", "Softmax")


def test_result_type_differs_from_inference():
    graph = good()
    lied = replace(graph.nodes[1].result, type=TensorType(f.FLOAT32, (3, 2)))
    refused(changed(graph, 1, outputs=(lied,)), "result-type", "Softmax")


def test_output_never_made():
    refused(replace(good(), outputs=(Z,)), "output-missing")


def test_output_type_differs():
    graph = good()
    lied = replace(graph.outputs[0], type=TensorType(f.INT32, (2, 3)))
    refused(replace(graph, outputs=(lied,)), "output-type")


def test_unknown_op():
    refused(changed(good(), 1, op="Sofmax"), "unknown-op", "Softmax")


def test_foreign_domain():
    refused(changed(good(), 1, domain="acme"), "domain", "Softmax")


def test_unknown_attribute():
    refused(changed(good(), 1, attributes={"axes": 1}), "unknown-attribute", "Softmax")


def test_missing_operand():
    graph = good()
    refused(changed(graph, 0, inputs=graph.nodes[0].inputs[:1]), "operands", "Add")


def test_attribute_that_can_change():
    refused(changed(good(), 1, attributes={"axis": [1]}), "attribute-frozen", "Softmax")


def test_required_result_left_out():
    b = Builder()
    x = b.input("x", f.FLOAT32, (4,))
    values, positions = b.op("TopK", x, k=2, outputs=2)
    graph = b.graph([x], [positions])
    verify(graph)
    refused(changed(graph, 0, outputs=(None, positions)), "results", "TopK")
    assert values.name not in [v.name for v in graph.outputs]


def test_node_that_makes_nothing():
    b = Builder()
    x, w, r = (b.input(n, f.FLOAT32, (1, 4 if n != "x" else 1, 1)) for n in "xwr")
    y, h, c = b.op("LSTM", x, w, r, hidden_size=1, outputs=3)
    graph = b.graph([x, w, r], [c])
    verify(changed(graph, 0, outputs=(None, None, c)))
    refused(replace(changed(graph, 0, outputs=(None, None, None)), outputs=()), "results", "LSTM")
    assert y.shape == (1, 1, 1, 1)
    assert h.shape == (1, 1, 1)


def test_imported_level_admits_onnx_and_core_does_not():
    node = Node("Einsum", (X,), (Y,), {"equation": "ij->ij"}, ONNX, "e")
    graph = Graph((X,), (Y,), (), (node,))
    verify(graph, level="imported")
    refused(graph, "domain", "e")


def test_vendor_composite_is_admitted_and_decomposed():
    row = OpDef(
        name="Double",
        domain="acme",
        family=Family.COMPOUND,
        help="x + x",
        operands=operands("x"),
        results=results("y"),
        infer=lambda call: (call.operand(0),),
        numerics=NumericsClass.COMPOSITE,
        work=copied,
        decompose=lambda b, node: (b.op("Add", node.inputs[0], node.inputs[0]),),
    )
    graph = Graph((X,), (Y,), (), (Node("Double", (X,), (Y,), {}, "acme", "d"),))
    refused(graph, "domain", "d")
    verify(graph, composites=[row])
    lied = Graph((X,), (Z,), (), (Node("Double", (X, X), (Z,), {}, "acme", "d"),))
    refused(lied, "operands", "d", composites=[row])
    lowered = apply(graph, decompositions([row]))
    verify(lowered)
    assert [(n.domain, n.op, n.origin) for n in lowered.nodes] == [(CORE, "Add", ("d",))]


def test_domains_with_lowering_rules_are_admitted_at_the_imported_level():
    graph = good()
    node = replace(graph.nodes[0], domain="com.acme")
    foreign = replace(graph, nodes=(node, *graph.nodes[1:]))
    verify(foreign, level="imported", foreign={"com.acme"})
    for arguments in ({"level": "imported"}, {"foreign": {"com.acme"}}):
        with pytest.raises(GraphError) as caught:
            verify(foreign, **arguments)
        assert caught.value.rule == "domain"
