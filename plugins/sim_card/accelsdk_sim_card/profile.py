"""What a card is made of: every number of the simulation, read from a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from accelsdk.errors import InvalidArgument, NotFound

_SUFFIX = ".toml"


def _row(help: str) -> Any:  # noqa: ANN401 # as dataclasses.field, which it wraps
    """Declares a number that a profile must give, and says what it is."""
    return field(metadata={"help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One model of card, and the host it sits in.

    Times are nanoseconds, rates are operations or bytes per second (a multiply and an add
    are two operations), sizes are bytes.
    """

    kind: str = _row("product name")
    count: int = _row("cards on one host")
    memory_bytes: int = _row("device memory of a card")
    memory_bandwidth: float = _row("to and from device memory")
    sram_bytes: int = _row("on-chip memory; an operand that is larger lives in device memory")
    sram_bandwidth: float = _row("to and from on-chip memory")
    int8_rate: float = _row("matrix engine, 8-bit integers")
    fp8_rate: float = _row("matrix engine, FP8, FP6, FP4 and MXINT8")
    fp16_rate: float = _row("matrix engine, float16 and bfloat16")
    fp32_rate: float = _row("matrix engine, float32")
    vector_rate: float = _row("vector engine, any format")
    link_bandwidth: float = _row("one card's link, each way")
    uplink_bandwidth: float = _row("the switch's link to the host, each way")
    link_latency_ns: int = _row("first byte of a transfer")
    doorbell_ns: int = _row("from submission until the card sees the batch; once a batch")
    command_ns: int = _row("decoding one command")
    launch_ns: int = _row("starting one program")
    node_ns: int = _row("starting one node")
    copy_engines: int = _row("transfers that one card runs at once")
    alignment: int = _row("of allocations")
    view_alignment: int = _row("of the views that commands name")
    throttle_factor: float = _row("how much slower the engines are when the card is too hot")
    temperature_c: float = _row("reading of a healthy card")
    power_w: float = _row("reading of a healthy card")


def names() -> tuple[str, ...]:
    """Returns the names of the profiles that come with the plugin."""
    folder = files("accelsdk_sim_card") / "profiles"
    found = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


@cache
def load(name: str) -> Profile:
    """Reads a profile.

    Args:
        name: One of `names`, or the path of a TOML file with every field of `Profile`.

    Raises:
        NotFound: Neither a profile nor a readable file.
        InvalidArgument: A field is missing, unknown, of the wrong type or not positive.
    """
    if name in names():
        text = (files("accelsdk_sim_card") / "profiles" / f"{name}{_SUFFIX}").read_text("utf-8")
    else:
        text = _read(name)
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(
            f"profile {name} is not TOML: {error}", remedy="see docs/sim-card.md"
        ) from error
    return _check(name, given)


def _read(name: str) -> str:
    try:
        return Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(
            f"no profile {name!r}: {error}",
            remedy=f"give one of {', '.join(names())}, or the path of a TOML file",
        ) from error


def _check(name: str, given: dict[str, object]) -> Profile:
    wanted = {row.name: row.type for row in fields(Profile)}
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        raise InvalidArgument(
            f"profile {name}: missing {missing}, unknown {unknown}",
            remedy="copy profiles/default.toml and change its numbers",
        )
    values: dict[str, object] = {}
    for key, kind in wanted.items():
        value = given[key]
        right = isinstance(value, str) if kind == "str" else _is_number(value, kind == "int")
        if not right:
            raise InvalidArgument(
                f"profile {name}: {key} = {value!r}", remedy=f"give a {kind} above or equal 0"
            )
        values[key] = float(value) if kind == "float" else value  # type: ignore[arg-type] # checked above
    zero_allowed = {name for name in wanted if name.endswith("_ns")} | {"temperature_c"}
    for key, value in values.items():
        if value == 0 and key not in zero_allowed:
            raise InvalidArgument(f"profile {name}: {key} = 0", remedy="give a positive number")
    return Profile(**values)  # type: ignore[arg-type] # names and types checked above


def _is_number(value: object, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 0 and (isinstance(value, int) or not whole)
