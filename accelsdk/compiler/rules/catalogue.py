"""Every lowering rule from ai.onnx to the core table."""

from __future__ import annotations

from accelsdk.compiler.rules import (
    attention,
    cast,
    clip,
    concat_split,
    conv,
    direct,
    einsum,
    expand_tile,
    fill,
    identity,
    microsoft_norm,
    normalization,
    pad,
    pool,
    qlinear,
    quantize,
    recurrent,
    reduce,
    reshape,
    resize,
    search,
    select,
    shape_of,
    slice,
    space_depth,
    transpose,
    variadic,
)
from accelsdk.graph.rewrite import LoweringRule

_MODULES = (
    *(attention, cast, clip, concat_split, conv, direct, einsum, expand_tile, fill, identity),
    *(normalization, pad, pool, qlinear, quantize, recurrent, reduce, reshape, resize, search),
    *(select, shape_of, slice, space_depth, transpose, variadic),
    *(microsoft_norm,),
)

RULES: tuple[LoweringRule, ...] = tuple(rule for module in _MODULES for rule in module.RULES)
