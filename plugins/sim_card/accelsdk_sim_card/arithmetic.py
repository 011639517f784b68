"""Which engine computes which node, and how a defect gets in between.

The sound arithmetic is a function of the preset alone, and so is the datasheet. A defect is
laid around it when nodes are bound: the card then lies about its arithmetic, as a card with
a defect does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accelsdk.backend.info import Options
from accelsdk.errors import NotFound
from accelsdk.graph.graph import CORE, Node
from accelsdk.kernels import api as kernels
from accelsdk.kernels.kernel import Binder, Kernel, operand_format
from accelsdk_sim_card.defects import catalogue
from accelsdk_sim_card.defects.defect import Defect
from accelsdk_sim_card.engines import blocks, convert, half, integer, narrow, requantize
from accelsdk_sim_card.engines.presets import DEFAULT, PRESETS, Preset
from accelsdk_sim_card.variants import catalogue as variants
from accelsdk_sim_card.variants.variant import Variant

_ENGINES = (integer, convert, blocks, requantize)

#: Ops that an engine of the card computes, whatever the preset.
_OWN: Mapping[str, Binder] = {
    op: binder for engine in _ENGINES for op, binder in engine.BINDERS.items()
}
OWN_OPS = frozenset({"ScaledMatMul", *_OWN})


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The arithmetic of a card.

    Attributes:
        preset: Accumulators of the matrix engine.
        defect: What is wrong with it, or None.
        variant: The other way of being right that the target asks for, or None.
        residue: What defects that have a memory keep, as long as the card lives.
    """

    preset: Preset
    defect: Defect | None = None
    variant: Variant | None = None
    residue: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, target: Options, defect: str, residue: dict[Any, Any] | None = None) -> Arithmetic:
        """Returns the arithmetic of a target's options, with the named defect (or ``""``).

        Args:
            target: Options of the target.
            defect: Name of the defect, or ``""``.
            residue: What earlier programs on the card left; None for nothing.

        Raises:
            NotFound: There is no such preset or defect.
        """
        found = catalogue.BY_NAME.get(defect)
        if defect and found is None:
            raise NotFound(
                f"no defect {defect!r}", remedy="defects: " + ", ".join(catalogue.BY_NAME)
            )
        kept = {} if residue is None else residue
        return cls(preset_of(target), found, variant_of(target), kept)

    def bind(self, node: Node) -> Kernel:
        """Returns the function that computes a node on this card."""
        if self.defect is not None:
            broken = self.defect.bind(node, self)
            if broken is not None:
                return broken
        return self.sound(node)

    def sound(self, node: Node) -> Kernel:
        """Returns the function of the node without the defect."""
        if self.variant is not None:
            other = self.variant.bind(node, self)
            if other is not None:
                return other
        return self.plain(node)

    def plain(self, node: Node) -> Kernel:
        """Returns the function of the node without the defect and the variant."""
        if node.domain == CORE:
            if node.op == "ScaledMatMul":
                a, b = operand_format(node, 0), operand_format(node, 1)
                return narrow.bind(node, self.preset.scaled(a.name, b.name))
            if half.concerns(node):
                spec = self.preset.sixteen(operand_format(node, 0).name)
                if spec is not None:
                    return half.bind(node, spec)
            if node.op in _OWN:
                return _OWN[node.op](node)
        return kernels.bind(node)


def preset_of(target: Options) -> Preset:
    """Returns the preset that a target's options name, as the variant changes it.

    Raises:
        NotFound: There is no such preset or variant.
    """
    name = str(target.get("preset", DEFAULT))
    if name not in PRESETS:
        raise NotFound(f"no preset {name!r}", remedy="presets: " + ", ".join(PRESETS))
    variant = variant_of(target)
    return PRESETS[name] if variant is None else variant.preset(PRESETS[name])


def variant_of(target: Options) -> Variant | None:
    """Returns the variant that a target's options name, or None.

    Raises:
        NotFound: There is no such variant.
    """
    name = str(target.get("variant", ""))
    if name and name not in variants.BY_NAME:
        raise NotFound(f"no variant {name!r}", remedy="variants: " + ", ".join(variants.BY_NAME))
    return variants.BY_NAME[name] if name else None
