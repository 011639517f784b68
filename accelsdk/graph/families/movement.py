"""Ops that move elements and compute nothing (Resize, which interpolates, stands here too)."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.formats import INT64
from accelsdk.graph.families.sets import BYTES, FLOATS, INDICES, NUMBERS
from accelsdk.graph.opdef import (
    AttributeDef,
    Call,
    Family,
    InferRule,
    NumericsClass,
    OpDef,
    WorkRule,
    choice,
    copied,
    flag,
    integer,
    integers,
    operands,
    per_result,
    product,
    real,
    reals,
    results,
)
from accelsdk.graph.types import TensorType

_REDUCTIONS = choice(
    "reduction", ("none", "add", "mul", "max", "min"), "none", "how updates meet what is there"
)


def _reshape(call: Call) -> Sequence[TensorType]:
    x, shape = call.operand(0), call.ints("shape")
    call.check(
        all(extent >= 0 for extent in shape) and product(shape) == x.count,
        "shape",
        f"{x} has {x.count} elements; shape {shape} does not",
    )
    return (TensorType(x.format, shape),)


def _transpose(call: Call) -> Sequence[TensorType]:
    x, perm = call.operand(0), call.ints("perm")
    call.check(sorted(perm) == list(range(x.rank)), "axis", f"perm {perm} does not permute {x}")
    return (TensorType(x.format, tuple(x.shape[axis] for axis in perm)),)


def _concat(call: Call) -> Sequence[TensorType]:
    first = call.operand(0)
    axis = call.axis(call.integer("axis"), first.rank)
    extent = 0
    for index in range(len(call.inputs)):
        x = call.operand(index)
        call.same_format(first, x)
        matches = x.rank == first.rank and all(
            i == axis or a == b for i, (a, b) in enumerate(zip(x.shape, first.shape, strict=True))
        )
        call.check(matches, "shape", f"{x} does not join {first} along axis {axis}")
        extent += x.shape[axis]
    return (TensorType(first.format, (*first.shape[:axis], extent, *first.shape[axis + 1 :])),)


def slice_range(start: int, end: int, step: int, extent: int) -> range:
    """Returns the positions that one axis of an ONNX Slice takes.

    Negative ``start`` and ``end`` count from the end of the axis; both are then clamped, to
    where an item is or (``end``) one step before it or after it. Backwards, a start before the
    first item is therefore the first item (ONNX Slice-13), where NumPy takes nothing.
    """
    start += extent if start < 0 else 0
    end += extent if end < 0 else 0
    if step > 0:
        return range(min(max(start, 0), extent), min(max(end, 0), extent), step)
    return range(min(max(start, 0), extent - 1), min(max(end, -1), extent - 1), step)


def _slice(call: Call) -> Sequence[TensorType]:
    x, axes = call.operand(0), call.axes("axes", call.operand(0).rank)
    starts, ends, steps = call.ints("starts"), call.ints("ends"), call.ints("steps")
    lengths = {len(axes), len(starts), len(ends), len(steps)}
    call.check(len(lengths) == 1, "shape", "starts, ends, axes and steps differ in length")
    call.check(0 not in steps, "shape", "a step is 0")
    shape = list(x.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        shape[axis] = len(slice_range(start, end, step, shape[axis]))
    return (TensorType(x.format, tuple(shape)),)


def _split(call: Call) -> Sequence[TensorType]:
    x, split = call.operand(0), call.ints("split")
    axis = call.axis(call.integer("axis"), x.rank)
    call.check(
        min(split, default=0) >= 0 and sum(split) == x.shape[axis],
        "shape",
        f"split {split} does not sum to {x.shape[axis]}",
    )
    call.check(call.outputs == len(split), "results", f"{call.outputs} results for {split}")
    return [TensorType(x.format, (*x.shape[:axis], n, *x.shape[axis + 1 :])) for n in split]


def _gather(call: Call) -> Sequence[TensorType]:
    x, indices = call.operand(0), call.operand(1)
    call.among(indices, INDICES, "indices")
    axis = call.axis(call.integer("axis"), x.rank)
    return (TensorType(x.format, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])),)


def _gather_nd(call: Call) -> Sequence[TensorType]:
    x, indices, batch = call.operand(0), call.operand(1), call.integer("batch_dims")
    call.among(indices, (INT64,), "indices")
    call.check(
        0 <= batch < min(x.rank, indices.rank) and x.shape[:batch] == indices.shape[:batch],
        "shape",
        f"batch_dims {batch} does not fit {x} and {indices}",
    )
    depth = indices.shape[-1]
    call.check(1 <= depth <= x.rank - batch, "shape", f"indices of {depth} items for {x}")
    return (TensorType(x.format, (*indices.shape[:-1], *x.shape[batch + depth :])),)


def _gather_elements(call: Call) -> Sequence[TensorType]:
    x, indices = call.operand(0), call.operand(1)
    _check_elements(call, x, indices)
    return (TensorType(x.format, indices.shape),)


def _check_elements(call: Call, x: TensorType, indices: TensorType) -> None:
    call.among(indices, INDICES, "indices")
    axis = call.axis(call.integer("axis"), x.rank)
    fits = x.rank == indices.rank and all(
        i == axis or small <= large
        for i, (small, large) in enumerate(zip(indices.shape, x.shape, strict=True))
    )
    call.check(fits, "shape", f"indices {indices} reach beyond {x}")


def _check_reduction(call: Call, x: TensorType) -> None:
    if call.string("reduction") != "none":
        call.among(x, NUMBERS, "data")


def _scatter_elements(call: Call) -> Sequence[TensorType]:
    x, indices, updates = call.operand(0), call.operand(1), call.operand(2)
    _check_elements(call, x, indices)
    call.same_format(x, updates)
    call.has_shape(updates, indices.shape, "updates")
    _check_reduction(call, x)
    return (x,)


def _scatter_nd(call: Call) -> Sequence[TensorType]:
    x, indices, updates = call.operand(0), call.operand(1), call.operand(2)
    call.among(indices, (INT64,), "indices")
    call.check(x.rank >= 1 and indices.rank >= 1, "rank", "data and indices need an axis")
    call.same_format(x, updates)
    depth = indices.shape[-1]
    call.check(1 <= depth <= x.rank, "shape", f"indices of {depth} items for {x}")
    call.has_shape(updates, (*indices.shape[:-1], *x.shape[depth:]), "updates")
    _check_reduction(call, x)
    return (x,)


def _pad(call: Call) -> Sequence[TensorType]:
    x, fill, pads = call.operand(0), call.optional(1), call.ints("pads")
    call.same_format(x, fill)
    call.has_shape(fill, (), "constant_value")
    call.check(len(pads) == 2 * x.rank, "shape", f"pads {pads} for rank {x.rank}")
    shape = tuple(e + pads[i] + pads[i + x.rank] for i, e in enumerate(x.shape))
    call.check(min(shape, default=0) >= 0, "shape", f"the result would be {shape}")
    if call.string("mode") != "constant":
        _check_source(call, x, pads)
    return (TensorType(x.format, shape),)


def _check_source(call: Call, x: TensorType, pads: tuple[int, ...]) -> None:
    """Checks that there is something to repeat: reflection needs extents above the pads."""
    for axis, extent in enumerate(x.shape):
        widest = max(pads[axis], pads[axis + x.rank])
        least = widest + 1 if call.string("mode") == "reflect" else min(widest, 1)
        call.check(
            widest <= 0 or extent >= least,
            "shape",
            f"{call.string('mode')} padding of {widest} needs an extent of {least}, not {extent}",
        )


def _expand(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    return (TensorType(x.format, call.broadcast(x.shape, call.ints("shape"))),)


def _tile(call: Call) -> Sequence[TensorType]:
    x, repeats = call.operand(0), call.ints("repeats")
    call.check(
        len(repeats) == x.rank and min(repeats, default=0) >= 0,
        "shape",
        f"repeats {repeats} for rank {x.rank}",
    )
    return (TensorType(x.format, tuple(a * b for a, b in zip(x.shape, repeats, strict=True))),)


def _resize(call: Call) -> Sequence[TensorType]:
    x, shape = call.operand(0), call.ints("output_shape")
    call.among(x, (*FLOATS, *BYTES))
    scales, roi = call.floats("scales"), call.floats("roi")
    call.check(
        len(shape) == x.rank and min(shape, default=0) >= 0,
        "shape",
        f"output_shape {shape} for rank {x.rank}",
    )
    call.check(
        len(scales) == x.rank and all(scale > 0 for scale in scales),
        "shape",
        f"scales {scales} for rank {x.rank}",
    )
    crops = call.string("coordinate_transformation_mode") == "tf_crop_and_resize"
    call.check(
        len(roi) == (2 * x.rank if crops or roi else 0), "shape", f"roi {roi} for rank {x.rank}"
    )
    empty = any(a == 0 < b for a, b in zip(x.shape, shape, strict=True))
    call.check(not empty, "shape", f"{x} has an empty axis to interpolate")
    return (TensorType(x.format, shape),)


def _row(
    name: str,
    names: str,
    infer: InferRule,
    help: str,
    attributes: tuple[AttributeDef, ...],
    *,
    result: str = "Y",
    numerics: NumericsClass = NumericsClass.EXACT,
    work: WorkRule = copied,
    formats: str = "any",
) -> OpDef:
    return OpDef(
        name=name,
        family=Family.MOVEMENT,
        help=help,
        operands=operands(names),
        results=results(result),
        attributes=attributes,
        infer=infer,
        numerics=numerics,
        work=work,
        formats=formats,
    )


_RESIZE = (
    integers("output_shape", help="every extent of the result"),
    reals("scales", help="one per axis; those given, or result over source extent"),
    choice("mode", ("nearest", "linear", "cubic"), "nearest"),
    choice(
        "coordinate_transformation_mode",
        (
            "half_pixel",
            "half_pixel_symmetric",
            "pytorch_half_pixel",
            "align_corners",
            "asymmetric",
            "tf_crop_and_resize",
        ),
        "half_pixel",
    ),
    real("cubic_coeff_a", -0.75),
    choice(
        "nearest_mode",
        ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
        "round_prefer_floor",
    ),
    flag("exclude_outside", 0),
    real("extrapolation_value", 0.0),
    flag("antialias", 0),
    reals("roi", (), "begins, then ends, of tf_crop_and_resize"),
)
_SCATTER = NumericsClass.REDUCTION

ROWS: tuple[OpDef, ...] = (
    _row("Reshape", "data", _reshape, "Same elements, other shape", (integers("shape"),)),
    _row("Transpose", "data", _transpose, "Permutes axes", (integers("perm"),)),
    _row("Concat", "inputs*", _concat, "Joins along an axis", (integer("axis"),)),
    _row(
        "Slice",
        "data",
        _slice,
        "Every step-th item from start to end (ONNX clamping)",
        tuple(integers(name) for name in ("starts", "ends", "axes", "steps")),
    ),
    _row(
        "Split",
        "input",
        _split,
        "Cuts along an axis into parts of the extents of split",
        (integer("axis", 0), integers("split")),
        result="outputs*",
    ),
    _row(
        "Gather",
        "data indices",
        _gather,
        "Slices of an axis by index; negative from the end",
        (integer("axis", 0),),
    ),
    _row(
        "GatherND",
        "data indices",
        _gather_nd,
        "Slices by index tuples",
        (integer("batch_dims", 0),),
    ),
    _row(
        "GatherElements",
        "data indices",
        _gather_elements,
        "Elements by index along an axis",
        (integer("axis", 0),),
    ),
    _row(
        "ScatterElements",
        "data indices updates",
        _scatter_elements,
        "Copy of data with elements replaced by index along an axis",
        (integer("axis", 0), _REDUCTIONS),
        numerics=_SCATTER,
    ),
    _row(
        "ScatterND",
        "data indices updates",
        _scatter_nd,
        "Copy of data with slices replaced by index tuples",
        (_REDUCTIONS,),
        numerics=_SCATTER,
    ),
    _row(
        "Pad",
        "data constant_value?",
        _pad,
        "Adds (or, negative, removes) items at the ends",
        (
            integers("pads", help="begin of every axis, then every end"),
            choice("mode", ("constant", "reflect", "edge", "wrap"), "constant"),
        ),
    ),
    _row("Expand", "input", _expand, "Broadcasts with a shape", (integers("shape"),)),
    _row("Tile", "input", _tile, "Repeats along every axis", (integers("repeats"),)),
    _row(
        "Resize",
        "X",
        _resize,
        "Interpolates to another grid (ONNX 19)",
        _RESIZE,
        numerics=NumericsClass.REDUCTION,
        work=per_result(2),
        formats="floats, int8, uint8",
    ),
)
