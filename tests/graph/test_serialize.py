"""Graphs as bytes: they come back equal, and corruption is noticed."""

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from accelsdk import formats as f
from accelsdk.errors import (
    DataLoss,
    FailedPrecondition,
    IncompatibleProgram,
    InvalidArgument,
    NotFound,
)
from accelsdk.formats import FORMATS
from accelsdk.graph.graph import Constant, Graph
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.serialize import (
    MAGIC,
    VERSION,
    digest,
    dump,
    load,
    load_file,
    parse_structure,
    structure,
)
from accelsdk.graph.text import print_graph
from accelsdk.graph.verify import verify
from tests.graph.strategies import graphs


def same(one: Graph, two: Graph) -> bool:
    return (
        (one.name, one.inputs, one.outputs) == (two.name, two.inputs, two.outputs)
        and print_graph(one) == print_graph(two)
        and [n.origin for n in one.nodes] == [n.origin for n in two.nodes]
        and [c.digest() for c in one.constants] == [c.digest() for c in two.constants]
    )


@given(graph=graphs(least_extent=0))
@settings(max_examples=80)
def test_round_trip(graph):
    data = dump(graph)
    back = load(data)
    verify(back)
    assert same(graph, back)
    assert dump(back) == data
    assert digest(back) == digest(graph)


def with_constants():
    """One constant of every format, with every bit of a pattern in it."""
    b = Builder()
    rng = np.random.default_rng(3)
    values = []
    for row in FORMATS:
        raw = rng.integers(0, 256, 15 * row.dtype.itemsize, dtype=np.uint8)
        if row.bits < 8:
            raw = raw & ((1 << row.bits) - 1)
        array = raw.view(row.dtype).reshape(3, 5)
        if row in (f.INT4, f.INT2):
            array = (raw.astype(np.int8) + np.int8(row.min)).astype(row.dtype).reshape(3, 5)
        if row == f.BOOL:
            array = (raw & 1).astype(bool).reshape(3, 5)
        values.append(b.constant(array, row, name=row.name))
    x = b.input("x", f.FLOAT32, (2,))
    y = b.op("LeakyRelu", x, alpha=float("inf"))
    return b.graph([x], [y, *values], "constants")


def test_constants_of_every_format_round_trip(tmp_path):
    graph = with_constants()
    path = tmp_path / "graph.bin"
    path.write_bytes(b"in front" + dump(graph))
    for back in (load(dump(graph)), load_file(path, offset=8)):
        for one, two in zip(graph.constants, back.constants, strict=True):
            assert one.array().dtype == two.array().dtype
            # Packed, because hosts differ in the unused bits of 4-bit integers.
            assert one.digest() == two.digest()
            assert two.array().shape == (3, 5)


def test_file_constants_are_lazy_and_located(tmp_path):
    graph = with_constants()
    path = tmp_path / "graph.bin"
    path.write_bytes(dump(graph))
    back = load_file(path)
    for one, two in zip(graph.constants, back.constants, strict=True):
        name, offset, nbytes = two.location
        with open(name, "rb") as file:
            file.seek(offset)
            assert file.read(nbytes) == b"".join(bytes(c) for c in one.chunks())
    path.unlink()
    with pytest.raises(FileNotFoundError):
        back.constants[0].array()


def test_constants_are_read_only():
    back = load(dump(with_constants()))
    with pytest.raises(ValueError, match="read-only"):
        back.constants[0].array()[0] = 1


def test_digest_is_stable_and_sees_everything():
    graph = with_constants()
    # Pinned: a change of the digest invalidates every compiled program.
    b = Builder()
    x = b.input("x", f.FLOAT32, (2, 3))
    small = b.graph([x], [b.op("Add", x, b.constant(np.ones(3, np.float32)))])
    assert digest(small) == PINNED
    assert digest(graph) == digest(with_constants())
    first = graph.constants[0]
    other = np.array(first.array())
    other.flat[0] = 1.5
    changed = Constant.of(first.name, other, first.value.format)
    assert digest(replace(graph, constants=(changed, *graph.constants[1:]))) != digest(graph)
    renamed = replace(graph.nodes[0], attributes={"alpha": 1.0})
    assert digest(replace(graph, nodes=(renamed,))) != digest(graph)
    assert structure(replace(graph, constants=(changed, *graph.constants[1:]))) == structure(graph)


PINNED = "765fd3e678170bfb38dd4fc6755ff98df1883982a5fe2886c4db881d00f9352b"


def test_attribute_order_does_not_matter():
    b = Builder()
    x = b.input("x", f.FLOAT32, (2, 3))
    graph = b.graph([x], [b.op("ReduceSum", x, axes=(0,), keepdims=0)])
    node = graph.nodes[0]
    turned = replace(node, attributes=dict(reversed(node.attributes.items())))
    assert digest(replace(graph, nodes=(turned,))) == digest(graph)


def test_every_corrupt_byte_is_noticed():
    graph = with_constants()
    data = dump(graph)
    body = 56 + struct.unpack_from("<8sIIQ", data)[2]
    rng = np.random.default_rng(5)
    for place in [*range(56), *rng.integers(56, len(data), 200).tolist()]:
        broken = bytearray(data)
        broken[place] ^= 0x40
        padding = False
        try:
            back = load(bytes(broken))
            for constant in back.constants:
                constant.array()
            padding = place >= body
        except (DataLoss, InvalidArgument, IncompatibleProgram):
            continue
        assert padding, f"byte {place}"
        assert data[place] == 0, "only the zeros between constants may change unnoticed"


@pytest.mark.parametrize("kept", [0, 7, 8, 40, 60, -1])
def test_cut_short(kept, tmp_path):
    data = dump(with_constants())[:kept]
    path = tmp_path / "graph.bin"
    path.write_bytes(data)
    for read in (lambda: load(data), lambda: load_file(path)):
        with pytest.raises((DataLoss, InvalidArgument)):
            read()


def test_newer_version_is_refused():
    data = bytearray(dump(with_constants()))
    struct.pack_into("<I", data, len(MAGIC), VERSION + 1)
    with pytest.raises(IncompatibleProgram, match=f"up to {VERSION}"):
        load(bytes(data))


def test_what_made_a_node_comes_back_and_old_files_do_without():
    graph = with_constants()
    made = replace(graph, nodes=tuple(replace(n, via=("Gemm", "Add")) for n in graph.nodes))
    assert {n.via for n in load(dump(made)).nodes} == {("Gemm", "Add")}
    assert b'"via"' not in structure(graph)
    assert {n.via for n in load(dump(graph)).nodes} == {()}


def test_right_digest_and_wrong_form():
    body = b'{"name": "g", "inputs": [], "outputs": [], "constants": [], "nodes": [{}]}'
    fields = struct.pack("<8sIIQ", MAGIC, VERSION, len(body), 0)
    with pytest.raises(DataLoss, match="malformed"):
        load(fields + hashlib.sha256(fields + body).digest() + body)
    for data in (body, b"not json", b"[]"):
        with pytest.raises(DataLoss, match="malformed"):
            parse_structure(data)


def test_structure_alone_has_types_and_no_contents():
    graph = with_constants()
    back = parse_structure(structure(graph))
    assert print_graph(back) == print_graph(graph)
    with pytest.raises(FailedPrecondition, match="travel apart"):
        back.constants[0].array()


def test_other_file_and_no_file(tmp_path):
    with pytest.raises(InvalidArgument, match="no graph file"):
        load(hashlib.sha256().digest() * 4)
    with pytest.raises(NotFound):
        load_file(tmp_path / "nothing")
