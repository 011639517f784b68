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
        residue: What defects that have a memory keep, as long as the card lives.
    """

    preset: Preset
    defect: Defect | None = None
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
        return cls(preset_of(target), found, {} if residue is None else residue)

    def bind(self, node: Node) -> Kernel:
        """Returns the function that computes a node on this card."""
        if self.defect is not None:
            broken = self.defect.bind(node, self)
            if broken is not None:
                return broken
        return self.sound(node)

    def sound(self, node: Node) -> Kernel:
        """Returns the function of the node without the defect."""
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
    """Returns the preset that a target's options name.

    Raises:
        NotFound: There is no such preset.
    """
    name = str(target.get("preset", DEFAULT))
    if name not in PRESETS:
        raise NotFound(f"no preset {name!r}", remedy="presets: " + ", ".join(PRESETS))
    return PRESETS[name]
