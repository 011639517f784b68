"""Whether a compiled program fits, judged from its header, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable

from accelsdk.backend.ask import ask
from accelsdk.backend.backend import Backend, Compatibility
from accelsdk.backend.info import OptionScope, Target
from accelsdk.backend.program import ProgramHeader
from accelsdk.errors import IncompatibleProgram

_WORST_LAST = (
    Compatibility.OPTIMAL,
    Compatibility.PREFER_RECOMPILE,
    Compatibility.UNSUPPORTED,
    Compatibility.NOT_APPLICABLE,
)


def judge(backend: Backend, header: ProgramHeader, target: Target) -> Compatibility:
    """Says how well a program fits a backend and one of its targets."""
    if header.backend != backend.info.name:
        return Compatibility.NOT_APPLICABLE
    return ask(backend, "check", Compatibility, header, target)


def worst(found: Iterable[Compatibility]) -> Compatibility:
    """Returns the worst of several judgements."""
    return max(found, key=_WORST_LAST.index)


def admit(backend: Backend, header: ProgramHeader, target: Target, part: str = "") -> None:
    """Raises `IncompatibleProgram` unless a program fits.

    Args:
        backend: Whose driver would load it.
        header: Of the program.
        target: What it would run on.
        part: Name of the part, for the message, where it is one of a plan.
    """
    match judge(backend, header, target):
        case Compatibility.OPTIMAL | Compatibility.PREFER_RECOMPILE:
            return
        case Compatibility.NOT_APPLICABLE:
            reason = f"it was compiled by backend {header.backend}"
        case _:
            reason = "; ".join(_differences(header, backend, target))
    what = f"part {part!r} of the program" if part else "the program"
    raise IncompatibleProgram(
        f"{what} does not fit target {target.name}: {reason}",
        backend=backend.info.name,
        remedy="compile the model again for this target",
    )


def _differences(header: ProgramHeader, backend: Backend, target: Target) -> list[str]:
    mine = {
        "target": (header.target, target.name),
        "backend version": (header.backend_version, backend.info.version),
        "contract version": (header.api_version[0], backend.info.api_version[0]),
        **{
            f"option {name}": (header.target_options.get(name), target.options.get(name))
            for name in {*header.target_options, *target.options}
            if name not in {s.name for s in backend.info.options if s.scope is OptionScope.DEVICE}
        },
    }
    found = [f"{what} {was!r}, here {now!r}" for what, (was, now) in mine.items() if was != now]
    return found or ["the backend refuses it"]
