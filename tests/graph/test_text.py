"""The printer: readable, complete and the same every time."""

import numpy as np

from accelsdk import formats as f
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.text import print_graph

EXPECTED = """\
graph mlp
  input   %x: float32[2,3]
  const   %w: float32[3,4]  48 bytes
  %MatMul:0: float32[2,4] = MatMul(%x, %w)  # MatMul from /dense/MatMul
  %Clip:0: float32[2,4] = Clip(%MatMul:0, _, %const)  # Clip
  %ReduceSum:0: float32[2] = ReduceSum(%Clip:0) {axes=[1], keepdims=0}  # ReduceSum
  output  %ReduceSum:0: float32[2]
"""


def test_printed_graph():
    b = Builder()
    x = b.input("x", f.FLOAT32, (2, 3))
    w = b.constant(np.zeros((3, 4), np.float32), name="w")
    b.origin = ("/dense/MatMul",)
    y = b.op("MatMul", x, w)
    b.origin = ()
    y = b.op("Clip", y, None, b.scalar(6, f.FLOAT32))
    graph = b.graph([x], [b.op("ReduceSum", y, keepdims=0, axes=(1,))], "mlp")
    printed = print_graph(graph)
    assert printed.replace("  const   %const: float32[]  4 bytes\n", "") == EXPECTED
    assert printed == print_graph(graph)
