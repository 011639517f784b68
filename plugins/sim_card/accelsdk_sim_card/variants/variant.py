"""What a variant is: another way of being right, honestly declared.

A defect lies about the arithmetic; a variant changes arithmetic and datasheet together. A suite
that fails a variant raises a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.backend.info import DeviceInfo, Target
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel
from accelsdk_sim_card.defects.defect import Bind
from accelsdk_sim_card.engines.presets import Preset

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic


#: Makes the datasheet of a variant of the sound card's.
Declare = Callable[[NumericsDatasheet], NumericsDatasheet]


def _nothing(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    return None


def _same_preset(preset: Preset) -> Preset:
    return preset


def _same_sheet(sheet: NumericsDatasheet) -> NumericsDatasheet:
    return sheet


def _same_target(target: Target) -> Target:
    return target


def _same_device(device: DeviceInfo) -> DeviceInfo:
    return device


def _claims_all(node: Node) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the catalogue.

    Attributes:
        name: As given by ``--option variant=``.
        summary: What is different, in one sentence.
        legal: Why it is right: who does it, or what declares it.
        touches: The ops whose results or declarations it changes; ``*`` for all.
        bind: Lays it around a node, as a defect is laid.
        preset: Makes the accumulators, of which engines and datasheet are made.
        declare: Makes the rest of the datasheet.
        target: Makes what the target says of itself.
        device: Makes what each card says of itself.
        refuses: Says which nodes it does not claim.
    """

    name: str
    summary: str
    legal: str
    touches: str
    _: KW_ONLY
    bind: Bind = _nothing
    preset: Callable[[Preset], Preset] = _same_preset
    declare: Declare = _same_sheet
    target: Callable[[Target], Target] = _same_target
    device: Callable[[DeviceInfo], DeviceInfo] = _same_device
    refuses: Callable[[Node], bool] = _claims_all
