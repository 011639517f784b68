"""The catalogue of numerics defects: every one by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from accelsdk_sim_card.defects.defect import Defect

DEFECTS: tuple[Defect, ...] = ()

BY_NAME: Mapping[str, Defect] = MappingProxyType({defect.name: defect for defect in DEFECTS})
