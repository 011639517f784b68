"""The catalogue of variants: every one by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from accelsdk_sim_card.variants import accumulators, conversions, devices, orders, vectors
from accelsdk_sim_card.variants.variant import Variant

VARIANTS: tuple[Variant, ...] = (
    *accumulators.VARIANTS,
    *orders.VARIANTS,
    *conversions.VARIANTS,
    *vectors.VARIANTS,
    *devices.VARIANTS,
)

BY_NAME: Mapping[str, Variant] = MappingProxyType({variant.name: variant for variant in VARIANTS})
