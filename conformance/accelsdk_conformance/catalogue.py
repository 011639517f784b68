"""Reads case files and expands them into cases, deterministically.

A file holds groups. A group names op, profile, generator and parameters; lists under
``grid`` multiply out, ``formats`` may hold several rows (``crossed``: a list of choices for
each operand) and ``op`` several ops. The id is a template over all of them, so that it is
stable and readable::

    [[group]]
    id = "fp8/ScaledMatMul/{formats}/exact_grid/k{k}"
    profile = "fp8"
    op = "ScaledMatMul"
    formats = [["float8_e4m3fn", "float8_e4m3fn"]]
    generator = "contraction.exact_grid"
    grid = { k = [1, 2, 33] }
    smoke = { k = [33] }

``smoke`` marks the points that the level of that name runs, too; ``level = "exhaustive"`` keeps
a whole group out of the standard level.
"""

from __future__ import annotations

import itertools
import tomllib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from accelsdk.errors import InvalidArgument
from accelsdk.formats import ALIASES
from accelsdk_conformance.case import Case, Level, Profile

_SHORT = {fmt.name: alias for alias, fmt in ALIASES.items()}
_KEYS = {
    *("id", "profile", "op", "formats", "generator", "rows", "crossed"),
    *("grid", "parameters", "smoke", "level"),
}


def short(name: str) -> str:
    """Returns the short name of a format (``e4m3``), as ids and reports use it."""
    return _SHORT.get(name, name)


@cache
def bundled() -> tuple[Case, ...]:
    """Returns every case that ships with the suite, in order."""
    folder = resources.files("accelsdk_conformance") / "cases"
    files = sorted(
        (item for item in folder.iterdir() if item.name.endswith(".toml")),
        key=lambda item: item.name,
    )
    cases = [case for item in files for case in expand(item.read_text("utf-8"), item.name)]
    _check_unique(cases)
    return tuple(cases)


def collect(extra: Sequence[Path] = ()) -> tuple[Case, ...]:
    """Returns the bundled cases and those of a vendor's own files.

    Raises:
        InvalidArgument: A file is not a case file, or two cases share an id.
    """
    cases = list(bundled())
    for path in extra:
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise InvalidArgument(
                f"cannot read the case file {path}: {error.strerror}",
                remedy="see the plugin's hook accelsdk_conformance_cases",
            ) from error
        cases += expand(text, str(path))
    _check_unique(cases)
    return tuple(cases)


def _check_unique(cases: Sequence[Case]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise InvalidArgument(
                f"two conformance cases are called {case.id!r}",
                remedy="make the group's id name every parameter of its grid",
            )
        seen.add(case.id)


def expand(text: str, source: str) -> Iterator[Case]:
    """Yields the cases of one case file.

    Args:
        text: The file's contents.
        source: Its name, for messages.

    Raises:
        InvalidArgument: The text is not a case file, or a group expands to nothing.
    """
    try:
        file = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(
            f"{source} is not TOML: {error}", remedy="see docs/conformance.md"
        ) from error
    for group in file.get("group", []):
        name = group.get("id", "?")
        unknown = sorted(set(group) - _KEYS)
        if unknown or not {"id", "generator"} <= set(group):
            raise InvalidArgument(
                f"{source}: group {name!r} has unknown keys {unknown} or lacks id or generator",
                remedy="see docs/conformance.md",
            )
        try:
            cases = [case for row in _rows(file, group) for case in _expand_row(group, row)]
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidArgument(
                f"{source}: group {name!r}: {type(error).__name__}: {error}",
                remedy="see docs/conformance.md",
            ) from error
        if not cases:
            raise InvalidArgument(
                f"{source}: group {name!r} expands to no case",
                remedy="give every list of its grid at least one value",
            )
        yield from cases


def _rows(file: Mapping[str, Any], group: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields profile, op, formats and parameters of each row that a group covers."""
    if "rows" in group:
        yield from file["rows"][group["rows"]]
        return
    crossed = itertools.product(*group["crossed"]) if "crossed" in group else ()
    formats = [*group.get("formats", ()), *crossed] or [()]
    named = group.get("op", "")
    for op in [named] if isinstance(named, str) else named:
        for row in formats:
            yield {"profile": group["profile"], "op": op, "formats": row}


def _expand_row(group: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[Case]:
    grid: Mapping[str, list[Any]] = group.get("grid", {})
    smoke: Mapping[str, list[Any]] | None = group.get("smoke")
    parameters = {**row.get("parameters", {}), **group.get("parameters", {})}
    formats = tuple(map(short, row["formats"]))
    fixed = {"profile": row["profile"], "op": row["op"], "formats": "x".join(formats) or "-"}
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        place = {**parameters, **point, **fixed}
        in_smoke = smoke is not None and all(
            place.get(key) in wanted for key, wanted in smoke.items()
        )
        level = Level.SMOKE if in_smoke else Level(group.get("level", Level.STANDARD))
        name = group["id"].format(**{key: _text(value) for key, value in place.items()})
        yield Case(
            id=name,
            profile=Profile(row["profile"]),
            op=row["op"],
            formats=formats,
            generator=group["generator"],
            parameters={**parameters, **point},
            seed=zlib.crc32(name.encode()),
            level=level,
        )


def _text(value: object) -> str:
    if isinstance(value, list):
        return "x".join(map(_text, value)) or "scalar"
    return str(value)
