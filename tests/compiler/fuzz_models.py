"""What the importer is fuzzed with: small models, bombs, and how models are damaged."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Mutation = Callable[[random.Random, onnx.ModelProto], None]

_HUGE = (2**60, 2**62, -(2**63), 2**31, 2**40, -1, 0, 1, 10**9)
_OPS = (
    *("Add", "MatMul", "Conv", "Reshape", "Expand", "Tile", "Pad", "Resize", "Range", "Loop"),
    *("If", "Scan", "Concat", "Slice", "Gather", "TopK", "OneHot", "LSTM", "Split", "Cast"),
    *("ConstantOfShape", "NonZero", "Einsum", "Softmax", "Nonsense", "Constant", "Trilu"),
    *("EyeLike", "QuantizeLinear", "CumSum", "Transpose", "Squeeze", "ReduceSum", "Identity"),
)


def model(nodes, inputs, outputs, weights=None, opset: int = 18, **more) -> onnx.ModelProto:
    """A model; inputs are shapes of float32 by name, weights are arrays by name."""
    graph = helper.make_graph(
        nodes,
        "fuzzed",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *more.pop("opsets", ())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def _node(op: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), f"n_{op}", **attributes)


def _ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _cnn() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "m": rng.standard_normal((8 * 36, 10)).astype(np.float32),
        "s": _ints(1, -1),
    }
    nodes = [
        _node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        _node("Relu", "c", "r"),
        _node("Reshape", "r s", "f"),
        _node("MatMul", "f m", "l"),
        _node("Softmax", "l", "y", axis=-1),
    ]
    return model(nodes, {"x": [1, 3, 6, 6]}, ["y"], weights)


def _shapes() -> onnx.ModelProto:
    nodes = [
        _node("Shape", "x", "s"),
        _node("Gather", "s i", "d"),
        _node("Concat", "d one", "t", axis=0),
        _node("Reshape", "x t", "r"),
        _node("Slice", "r zero two", "c"),
        _node("Pad", "c p", "q"),
        _node("Tile", "q two2", "z"),
        _node("TopK", "z k", "v at"),
    ]
    weights = {
        "i": _ints(0),
        "one": _ints(-1),
        "zero": _ints(0),
        "two": _ints(2),
        "p": _ints(0, 1, 0, 1),
        "two2": _ints(2, 2),
        "k": _ints(2),
    }
    return model(nodes, {"x": [4, 6]}, ["v", "at"], weights)


def _branches() -> onnx.ModelProto:
    z = onnx.ValueInfoProto(name="z")
    one = helper.make_graph([_node("Relu", "x", "z")], "then", [], [z])
    two = helper.make_graph([_node("Neg", "x", "z")], "else", [], [z])
    nodes = [helper.make_node("If", ["c"], ["y"], "choose", then_branch=one, else_branch=two)]
    return model(nodes, {"x": [4]}, ["y"], {"c": np.array(True)})


def _loops() -> onnx.ModelProto:
    values = [("i", TensorProto.INT64, []), ("g", TensorProto.BOOL, []), ("s", 1, [4])]
    inputs = [helper.make_tensor_value_info(*v) for v in values]
    outputs = [onnx.ValueInfoProto(name=n) for n in ("go", "t")]
    nodes = [_node("Identity", "g", "go"), _node("Add", "s s", "t")]
    body = helper.make_graph(nodes, "body", inputs, outputs)
    loop = helper.make_node("Loop", ["n", "c", "x"], ["y"], "again", body=body)
    return model([loop], {"x": [4]}, ["y"], {"n": np.array(3), "c": np.array(True)})


def _recurrent() -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    weights = {
        n: rng.standard_normal(s).astype(np.float32)
        for n, s in {"w": (1, 20, 3), "r": (1, 20, 5), "b": (1, 40)}.items()
    }
    return model(
        [_node("LSTM", "x w r b", "y h c", hidden_size=5)], {"x": [6, 2, 3]}, ["y"], weights
    )


def _quantised() -> onnx.ModelProto:
    weights = {"s": np.float32(0.1), "z": np.uint8(3), "w": np.zeros((4, 4), np.uint8)}
    nodes = [
        _node("QuantizeLinear", "x s z", "q"),
        _node("QLinearMatMul", "q s z w s z s z", "p"),
        _node("DequantizeLinear", "p s z", "y"),
    ]
    return model(nodes, {"x": [2, 4]}, ["y"], weights)


def _function() -> onnx.ModelProto:
    nodes = [helper.make_node("Twice", ["a"], ["b"], domain="mine")]
    body = [_node("Add", "p p", "q")]
    function = helper.make_function(
        "mine", "Twice", ["p"], ["q"], body, [helper.make_opsetid("", 18)]
    )
    opsets = [helper.make_opsetid("mine", 1)]
    return model(nodes, {"a": [3]}, ["b"], opsets=opsets, functions=[function])


def small() -> dict[str, onnx.ModelProto]:
    """Small valid models, by name."""
    made = (_cnn, _shapes, _branches, _loops, _recurrent, _quantised, _function)
    return {make.__name__.lstrip("_"): make() for make in made}


# -- bombs: small models that ask for too much -------------------------------------------------


def _constant(op: str, *operands, **attributes) -> onnx.ModelProto:
    names = [f"c{i}" for i in range(len(operands))]
    weights = dict(zip(names, operands, strict=True))
    return model(
        [helper.make_node(op, names, ["y"], "bomb", **attributes)], {"x": [1]}, ["y"], weights
    )


def _doubling(op: str, count: int) -> onnx.ModelProto:
    nodes = []
    for i in range(count):
        pair = [f"v{i}", f"v{i}"]
        nodes.append(helper.make_node(op, pair, [f"v{i + 1}"], f"n{i}", **{"axis": 0}))
    return model(nodes, {"x": [1]}, [f"v{count}"], {"v0": np.zeros(1, np.float32)})


def _nested(depth: int) -> onnx.ModelProto:
    made = helper.make_graph([_node("Relu", "x", "z")], "in", [], [onnx.ValueInfoProto(name="z")])
    for level in range(depth):
        node = (
            helper.make_node("If", ["c"], ["z"], f"i{level}", then_branch=made, else_branch=made)
            if level < 3
            else helper.make_node("If", ["c"], ["z"], f"i{level}", then_branch=made)
        )
        made = helper.make_graph([node], "in", [], [onnx.ValueInfoProto(name="z")])
    return model(made.node, {"x": [4]}, ["z"], {"c": np.array(True)})


def _recursion() -> onnx.ModelProto:
    nodes = [helper.make_node("F", ["a"], ["b"], domain="mine")]
    body = [
        helper.make_node("F", ["p"], ["m"], domain="mine"),
        helper.make_node("F", ["m"], ["q"], domain="mine"),
    ]
    opsets = [helper.make_opsetid("mine", 1), helper.make_opsetid("", 18)]
    function = helper.make_function("mine", "F", ["p"], ["q"], body, opsets)
    return model(nodes, {"a": [3]}, ["b"], opsets=opsets[:1], functions=[function])


def bombs() -> dict[str, onnx.ModelProto]:
    """Models of a few hundred bytes that would take terabytes, or years, by name."""
    one, many = np.ones((1, 1), np.float32), 2**40
    big = {"x": [2**20, 2**22]}
    made = {
        "ConstantOfShape": _constant("ConstantOfShape", _ints(many, many)),
        "ConstantOfShape-1TB": _constant("ConstantOfShape", _ints(2**19, 2**19)),
        "Expand": _constant("Expand", one, _ints(many, 2**20)),
        "Tile": _constant("Tile", one, _ints(many, 2**20)),
        "Range": _constant("Range", np.array(0), np.array(2**62), np.array(1)),
        "Range-float": _constant("Range", *(np.float32(v) for v in (0, 1, 1e-38))),
        "Range-nan": _constant("Range", *(np.float32(v) for v in (0, np.nan, 1))),
        "Range-inf": _constant("Range", *(np.float32(v) for v in (0, np.inf, 1))),
        "Pad": _constant("Pad", one, _ints(many, 0, 0, many)),
        "Resize-scales": _constant("Resize", one, np.float32([]), np.float32([1e9, 1e9])),
        "Resize-sizes": _constant(
            "Resize", one, np.float32([]), np.float32([]), _ints(2**50, 2**50)
        ),
        "Resize-nan": _constant("Resize", one, np.float32([]), np.float32([np.nan, np.inf])),
        "OneHot": _constant("OneHot", np.array([1]), np.array(2**50), np.float32([0, 1])),
        "OneHot-deep": _constant(
            "OneHot", np.zeros(999, np.int64), np.array(2**24), np.float32([0, 1])
        ),
        "TopK": _constant("TopK", one, _ints(2**60)),
        "CumSum": model([_node("CumSum", "x a", "y")], big, ["y"], {"a": np.array(0)}),
        "EyeLike": model([_node("EyeLike", "x", "y")], big, ["y"]),
        "Trilu": model([_node("Trilu", "x", "y")], big, ["y"]),
        "Dropout": model([_node("Dropout", "x", "y m")], big, ["y", "m"]),
        "Hardmax": model([_node("Hardmax", "x", "y")], big, ["y"]),
        "LRN": model([_node("LRN", "x", "y", size=2**40)], {"x": [1, 2**20, 4]}, ["y"]),
        "Split": model([_node("Split", "x", "y z", num_outputs=2**40)], {"x": [8]}, ["y"]),
        "MaxPool": model(
            [_node("MaxPool", "x", "y", kernel_shape=[2**40], pads=[2**40, 2**40])],
            {"x": [1, 1, 8]},
            ["y"],
        ),
        "Conv": model(
            [_node("Conv", "x w", "y", pads=[2**50, 2**50])],
            {"x": [1, 1, 8]},
            ["y"],
            {"w": np.ones((1, 1, 1), np.float32)},
        ),
        "LSTM": model(
            [_node("LSTM", "x w r", "y", hidden_size=2)],
            {"x": [2**40, 1, 1]},
            ["y"],
            {"w": np.ones((1, 8, 1), np.float32), "r": np.ones((1, 8, 2), np.float32)},
        ),
        "Einsum": model([_node("Einsum", "x x", "y", equation="ab,cd->abcd")], big, ["y"]),
        "Concat": _doubling("Concat", 60),
        "nested": _nested(25),
        "recursion": _recursion(),
        "input": model([_node("Relu", "x", "y")], {"x": [2**60, 2**60]}, ["y"]),
    }
    loop = _loops()
    loop.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(2**62), "n"))
    made["Loop"] = loop
    return made


# -- damage ------------------------------------------------------------------------------------


def _names(made: onnx.ModelProto) -> list[str]:
    graph = made.graph
    named = [*graph.input, *graph.initializer]
    return [v.name for v in named] + [o for n in graph.node for o in n.output] + ["", "ghost"]


def _drop(rng: random.Random, made: onnx.ModelProto) -> None:
    groups = (made.graph.node, made.graph.initializer, made.graph.input, made.graph.output)
    group = rng.choice([g for g in groups if len(g)] or [made.opset_import])
    if len(group):
        del group[rng.randrange(len(group))]


def _duplicate(rng: random.Random, made: onnx.ModelProto) -> None:
    group = rng.choice([g for g in (made.graph.node, made.graph.initializer) if len(g)] or [[]])
    if group:
        group.add().CopyFrom(rng.choice(group))


def _rewire(rng: random.Random, made: onnx.ModelProto) -> None:
    """Reads another value, perhaps one that is made later, or by nobody."""
    node = _any_node(rng, made)
    if node is not None and len(node.input):
        node.input[rng.randrange(len(node.input))] = rng.choice(_names(made))


def _rename(rng: random.Random, made: onnx.ModelProto) -> None:
    node = _any_node(rng, made)
    if node is not None and len(node.output):
        node.output[rng.randrange(len(node.output))] = rng.choice(_names(made))


def _retype(rng: random.Random, made: onnx.ModelProto) -> None:
    node = _any_node(rng, made)
    if node is not None:
        node.op_type = rng.choice(_OPS)


def _operands(rng: random.Random, made: onnx.ModelProto) -> None:
    node = _any_node(rng, made)
    if node is not None and len(node.input) and rng.random() < 0.5:
        node.input.pop()
    elif node is not None:
        node.input.append(rng.choice(_names(made)))


def _attribute(rng: random.Random, made: onnx.ModelProto) -> None:
    """Gives an attribute a value of another kind, or an absurd one."""
    node = _any_node(rng, made)
    if node is None:
        return
    names = ["axis", "pads", "to", "value", "equation", "mode", "kernel_shape", "group", "perm"]
    name = (
        rng.choice([a.name for a in node.attribute] or names)
        if rng.random() < 0.7
        else rng.choice(names)
    )
    kept = [a for a in node.attribute if a.name != name]
    values = (
        rng.choice(_HUGE),
        0.5,
        float("nan"),
        "nonsense",
        [rng.choice(_HUGE)] * 2,
        [1.5, 2.5],
        ["a"],
        numpy_helper.from_array(np.zeros(3, np.float32)),
        [],
    )
    del node.attribute[:]
    node.attribute.extend(kept)
    chosen = rng.choice(values)
    kind = onnx.AttributeProto.INTS if chosen == [] else None
    node.attribute.append(helper.make_attribute(name, chosen, attr_type=kind))


def _dims(rng: random.Random, made: onnx.ModelProto) -> None:
    if len(made.graph.initializer) and rng.random() < 0.5:
        tensor = rng.choice(made.graph.initializer)
        if len(tensor.dims) and rng.random() < 0.7:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_HUGE)
        else:
            tensor.dims.append(rng.choice(_HUGE))
        return
    if len(made.graph.input):
        shape = rng.choice(made.graph.input).type.tensor_type.shape
        if len(shape.dim):
            rng.choice(shape.dim).dim_value = rng.choice(_HUGE)
        else:
            shape.dim.add().dim_value = rng.choice(_HUGE)


def _contents(rng: random.Random, made: onnx.ModelProto) -> None:
    """Puts absurd numbers into a tensor of integers: a shape, pads, repeats."""
    whole = [t for t in made.graph.initializer if t.data_type == TensorProto.INT64]
    if whole:
        tensor = rng.choice(whole)
        try:
            array = numpy_helper.to_array(tensor).copy()
        except Exception:  # damaged before
            return
        if array.size:
            array.reshape(-1)[rng.randrange(array.size)] = rng.choice(_HUGE)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _elements(rng: random.Random, made: onnx.ModelProto) -> None:
    kind = rng.choice((0, 1, 6, 7, 8, 9, 10, 11, 14, 16, 17, 23, 24, 25, 99, -5))
    if len(made.graph.initializer) and rng.random() < 0.6:
        rng.choice(made.graph.initializer).data_type = kind
    elif len(made.graph.input):
        rng.choice(made.graph.input).type.tensor_type.elem_type = kind


def _external(rng: random.Random, made: onnx.ModelProto) -> None:
    if len(made.graph.initializer):
        tensor = rng.choice(made.graph.initializer)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", rng.choice(("../../secret", "w.bin", "/dev/zero"))),
            ("offset", str(rng.choice(_HUGE))),
            ("length", "1e9"),
        ):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value


def _version(rng: random.Random, made: onnx.ModelProto) -> None:
    if len(made.opset_import):
        rng.choice(made.opset_import).version = rng.choice((0, -1, 1, 7, 9, 12, 17, 23, 24, 2**40))
    made.ir_version = rng.choice((0, 3, 8, 99))


def _swap(rng: random.Random, made: onnx.ModelProto) -> None:
    nodes = list(made.graph.node)
    rng.shuffle(nodes)
    kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del made.graph.node[:]
    made.graph.node.extend(kept)


def _any_node(rng: random.Random, made: onnx.ModelProto) -> onnx.NodeProto | None:
    """A node of the model, or of a body within it."""
    groups = [made.graph.node, *(f.node for f in made.functions)]
    groups += [a.g.node for n in made.graph.node for a in n.attribute if a.HasField("g")]
    groups = [group for group in groups if len(group)]
    return rng.choice(rng.choice(groups)) if groups else None


MUTATIONS: tuple[Mutation, ...] = (
    *(_drop, _duplicate, _rewire, _rename, _retype, _operands, _attribute, _attribute, _dims),
    *(_dims, _contents, _contents, _elements, _external, _version, _swap),
)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A damaged copy of a serialised model."""
    if rng.random() < 0.25:
        return _damaged_bytes(rng, data)
    made = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(MUTATIONS)(rng, made)
    return made.SerializeToString()


def _damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data))]
    held = bytearray(data)
    # Weights say nothing wrong whatever they are: mostly the head and the tail are hit.
    for _ in range(rng.choice((1, 2, 8))):
        near = rng.choice((len(held), min(len(held), 4096)))
        place = rng.randrange(near)
        place = len(held) - 1 - place if rng.random() < 0.5 else place
        held[place] = rng.randrange(256)
    return bytes(held)
