"""The catalogue of variants: every one by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from accelsdk_sim_card.variants import (
    accumulators,
    algorithms,
    conversions,
    devices,
    dialects,
    integers,
    layers,
    orders,
    restricted,
    specials,
    vectors,
)
from accelsdk_sim_card.variants.variant import Variant

VARIANTS: tuple[Variant, ...] = (
    *accumulators.VARIANTS,
    *orders.VARIANTS,
    *algorithms.VARIANTS,
    *conversions.VARIANTS,
    *integers.VARIANTS,
    *dialects.VARIANTS,
    *vectors.VARIANTS,
    *specials.VARIANTS,
    *layers.VARIANTS,
    *devices.VARIANTS,
    *restricted.VARIANTS,
)

BY_NAME: Mapping[str, Variant] = MappingProxyType({variant.name: variant for variant in VARIANTS})
