"""The catalogue of numerics defects: every one by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from accelsdk_sim_card.defects import blocks, contractions, decoding, encoding, integers, vectors
from accelsdk_sim_card.defects.defect import Defect

DEFECTS: tuple[Defect, ...] = (
    *decoding.DEFECTS,
    *encoding.DEFECTS,
    *blocks.DEFECTS,
    *contractions.DEFECTS,
    *integers.DEFECTS,
    *vectors.DEFECTS,
)

BY_NAME: Mapping[str, Defect] = MappingProxyType({defect.name: defect for defect in DEFECTS})
