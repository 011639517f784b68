"""Recipes of random nodes whose results are as large as the data says."""

from __future__ import annotations

from accelsdk import formats as f
from accelsdk.formats import FORMATS
from accelsdk.graph.families import sets
from tests.graph.source import Drawn, Source


def nonzero(s: Source) -> Drawn:
    return (s.any((*sets.NUMBERS, f.BOOL)),), {}, 1


def compress(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    axis = s.int(0, x.type.rank - 1)
    return (x, s.new(f.BOOL, (s.int(0, x.shape[axis]),))), {"axis": axis}, 1


def unique(s: Source) -> Drawn:
    x = s.any((*sets.NUMBERS, f.BOOL), 1)
    return (x,), {"axis": s.int(0, x.type.rank - 1), "sorted": s.flag()}, 4


def suppression(s: Source) -> Drawn:
    batches, classes, count = s.int(0, 2), s.int(0, 2), s.int(0, 4)
    boxes = s.new(f.FLOAT32, (batches, count, 4))
    scores = s.new(f.FLOAT32, (batches, classes, count))
    thresholds = [s.new(f.FLOAT32, ()) if s.flag() else None for _ in range(2)]
    given = {"max_output_boxes_per_class": s.int(0, 4), "center_point_box": s.flag()}
    return (boxes, scores, *thresholds), given, 1
