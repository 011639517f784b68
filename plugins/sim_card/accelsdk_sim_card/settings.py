"""The options of the simulated card, and the record that they become."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from accelsdk.backend.info import Options, OptionScope, OptionSpec
from accelsdk.errors import InvalidArgument, NotFound
from accelsdk_sim_card import faults, profile
from accelsdk_sim_card.defects import catalogue
from accelsdk_sim_card.engines import presets
from accelsdk_sim_card.variants import catalogue as variants

OPTIONS: tuple[OptionSpec, ...] = (
    OptionSpec(
        name="preset",
        default=presets.DEFAULT,
        help="Accumulator model of the matrix engine: the card's own, or a published unit's.",
        scope=OptionScope.TARGET,
        choices=tuple(presets.PRESETS),
    ),
    OptionSpec(
        name="variant",
        default="",
        help="Another way of being right, declared in the datasheet (docs/sim-card.md).",
        scope=OptionScope.TARGET,
        choices=("", *variants.BY_NAME),
    ),
    OptionSpec(
        name="profile",
        default="default",
        help="Model of card: a profile's name, or the path of a TOML file with every field.",
    ),
    OptionSpec(name="count", default=0, help="Cards on the host; 0 takes the profile's number."),
    OptionSpec(
        name="memory_bytes",
        default=0,
        help="Device memory of each card in bytes; 0 takes the profile's number.",
    ),
    OptionSpec(
        name="defect",
        default="",
        help="Name of a numerics defect of the arithmetic; empty for none (docs/sim-card.md).",
        choices=("", *catalogue.BY_NAME),
    ),
    OptionSpec(
        name="fault",
        default="none",
        help="Way in which a card breaks (docs/sim-card.md).",
        choices=tuple(faults.BY_NAME),
    ),
    OptionSpec(
        name="fault_at",
        default=1,
        help="The event at which the fault strikes, counted from 1 on each card.",
    ),
    OptionSpec(name="fault_card", default=0, help="Card that has the fault; -1 for every card."),
    OptionSpec(name="seed", default=0, help="Seed of the faults' random choices."),
    OptionSpec(
        name="trace",
        default="",
        help="Path of a Chrome JSON trace, written when the last card is closed; empty for none.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The device options, parsed; equal settings share one host.

    Attributes:
        profile: Numbers of the card.
        count: Cards on the host.
        defect: Name of the numerics defect, or ``""``.
        fault: How a card breaks.
        fault_at: When.
        fault_card: Which; -1 for all.
        seed: Of the fault's random choices.
        trace: Path, or ``""``.
    """

    profile: profile.Profile
    count: int
    defect: str
    fault: faults.Fault
    fault_at: int
    fault_card: int
    seed: int
    trace: str

    @property
    def domain(self) -> str:
        """Name of the ticket domain: equal for equal settings, in any process."""
        return "sim_card:" + hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def parse(options: Options) -> Settings:
    """Returns the settings that resolved options ask for.

    Raises:
        NotFound: No such profile, defect or fault.
        InvalidArgument: A number is out of range.
    """
    numbers = profile.load(str(options["profile"]))
    for name in ("count", "memory_bytes"):
        if int(options[name]) < 0:
            raise InvalidArgument(f"option {name} = {options[name]}", remedy="give 0 or more")
    if int(options["fault_at"]) < 1:
        raise InvalidArgument(f"option fault_at = {options['fault_at']}", remedy="count from 1")
    if int(options["memory_bytes"]):
        numbers = replace(numbers, memory_bytes=int(options["memory_bytes"]))
    fault = faults.BY_NAME.get(str(options["fault"]))
    if fault is None:
        raise NotFound(
            f"no fault {options['fault']!r}", remedy="faults: " + ", ".join(faults.BY_NAME)
        )
    return Settings(
        profile=numbers,
        count=int(options["count"]) or numbers.count,
        defect=str(options["defect"]),
        fault=fault,
        fault_at=int(options["fault_at"]),
        fault_card=int(options["fault_card"]),
        seed=int(options["seed"]),
        trace=str(options["trace"]),
    )
