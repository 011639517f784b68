"""The catalogue of numerics defects: every one by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from accelsdk_sim_card.defects import (
    attributes,
    blocks,
    contractions,
    decoding,
    dialects,
    elementwise,
    encoding,
    images,
    integers,
    lanes,
    layers,
    layers_wide,
    long_layers,
    lookups,
    movement,
    programs,
    ranks,
    reductions,
    residue,
    scales,
    sums,
    tails,
    vectors,
)
from accelsdk_sim_card.defects.defect import Defect

DEFECTS: tuple[Defect, ...] = (
    *decoding.DEFECTS,
    *encoding.DEFECTS,
    *blocks.DEFECTS,
    *contractions.DEFECTS,
    *integers.DEFECTS,
    *vectors.DEFECTS,
    *dialects.DEFECTS,
    *scales.DEFECTS,
    *lanes.DEFECTS,
    *sums.DEFECTS,
    *residue.DEFECTS,
    *elementwise.DEFECTS,
    *reductions.DEFECTS,
    *movement.DEFECTS,
    *images.DEFECTS,
    *layers.DEFECTS,
    *layers_wide.DEFECTS,
    *lookups.DEFECTS,
    *tails.DEFECTS,
    *programs.DEFECTS,
    *long_layers.DEFECTS,
    *ranks.DEFECTS,
    *attributes.DEFECTS,
)

BY_NAME: Mapping[str, Defect] = MappingProxyType({defect.name: defect for defect in DEFECTS})
