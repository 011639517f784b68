"""Every lowering rule from ai.onnx to the core table."""

from __future__ import annotations

from accelsdk.compiler.rules import (
    attention,
    audio,
    bits,
    cast,
    clip,
    concat_split,
    conv,
    cumulative,
    deform_conv,
    determinant,
    dft,
    direct,
    einsum,
    expand_tile,
    fill,
    grid_sample,
    identity,
    microsoft_elementwise,
    microsoft_fused,
    microsoft_matmul,
    microsoft_norm,
    microsoft_window,
    normalization,
    pad,
    pool,
    qlinear,
    quantize,
    recurrent,
    reduce,
    reshape,
    resize,
    roi_align,
    search,
    select,
    sequence_axis,
    shape_of,
    slice,
    space_depth,
    transpose,
    unpool,
    variadic,
)
from accelsdk.graph.rewrite import LoweringRule

_MODULES = (
    *(attention, cast, clip, concat_split, conv, direct, einsum, expand_tile, fill, identity),
    *(normalization, pad, pool, qlinear, quantize, recurrent, reduce, reshape, resize, search),
    *(bits, cumulative, deform_conv, grid_sample, roi_align, sequence_axis, unpool),
    *(audio, determinant, dft),
    *(select, shape_of, slice, space_depth, transpose, variadic),
    *(
            microsoft_elementwise,
        microsoft_fused,
        microsoft_matmul,
        microsoft_norm,
        microsoft_window,
    ),
    *(microsoft_window,),
)

RULES: tuple[LoweringRule, ...] = tuple(rule for module in _MODULES for rule in module.RULES)
