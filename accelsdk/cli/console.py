"""What the commands share: option parsing, tables, numbers for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from accelsdk.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from accelsdk.graph.types import Shape
    from accelsdk.runtime.executable import Executable

Plugin = Annotated[
    str, typer.Option("--plugin", "-p", help="Backend to use, as 'accelsdk plugins' lists it.")
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="NAME=VALUE", help="Option of the plugin; repeatable."),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        "-s",
        metavar="INPUT=1,3,48,320",
        help="Shape of an input whose own is not fixed; repeatable.",
    ),
]
Binds = Annotated[
    list[str] | None,
    typer.Option(
        "--bind",
        "-b",
        metavar="INPUT=VALUE",
        help="Bind an input of an ONNX model to a constant (a number, true, or a JSON list); "
        "repeatable.",
    ),
]
Fallback = Annotated[
    bool,
    typer.Option(
        "--fallback/--no-fallback",
        help="Run what the plugin refuses on reference_cpu, with copies in between; or refuse "
        "the model, and list every reason.",
    ),
]
Cache = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        help="Keep the compiled program, and take it from there next time. The folder is the "
        "user's cache folder, or what ACCELSDK_CACHE names.",
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.", show_default=False)]


def console() -> Console:
    """Returns a console on standard output, which rich sizes to the terminal.

    Text is shown as it is: names and messages may have brackets and colons in them.
    """
    return Console(highlight=False, soft_wrap=False, markup=False, emoji=False)


def parse_options(given: Iterable[str] | None) -> dict[str, str]:
    """Returns ``NAME=VALUE`` words as a mapping.

    Raises:
        InvalidArgument: A word has no ``=`` or a name comes twice.
    """
    found: dict[str, str] = {}
    for word in given or ():
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"--option {word!r} has no value", remedy="write NAME=VALUE")
        if name in found:
            raise InvalidArgument(f"--option {name} is given twice", remedy="give it once")
        found[name] = value
    return found


def parse_shapes(given: Iterable[str] | None) -> dict[str, Shape]:
    """Returns ``INPUT=1,3,48,320`` words as a mapping; ``INPUT=`` is a scalar.

    Raises:
        InvalidArgument: A word is not of that form, or a name comes twice.
    """
    found: dict[str, Shape] = {}
    for word in given or ():
        match = re.fullmatch(r"(.+)=((?:\d+(?:[,x]\d+)*)?)", word)
        if not match:
            raise InvalidArgument(
                f"--shape {word!r} is not a shape", remedy="write INPUT=1,3,48,320"
            )
        if match.group(1) in found:
            text = f"--shape {match.group(1)} is given twice"
            raise InvalidArgument(text, remedy="give it once")
        found[match.group(1)] = tuple(int(part) for part in re.findall(r"\d+", match.group(2)))
    return found


def parse_binds(given: Iterable[str] | None) -> dict[str, ArrayLike]:
    """Returns ``INPUT=VALUE`` words as a mapping; a value is a number or a list in JSON.

    Raises:
        InvalidArgument: A word is not of that form, or a name comes twice.
    """
    found: dict[str, ArrayLike] = {}
    for word in given or ():
        name, equals, text = word.rpartition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not equals or not name or not isinstance(value, int | float | list):
            raise InvalidArgument(
                f"--bind {word!r} is not a value", remedy="write INPUT=16000 or INPUT=[1,2]"
            )
        if name in found:
            raise InvalidArgument(f"--bind {name} is given twice", remedy="give it once")
        found[name] = value
    return found


def existing_file(path: Path) -> Path:
    """Returns ``path`` if a file is there.

    Raises:
        NotFound: There is none.
        InvalidArgument: It is a folder.
    """
    if path.is_dir():
        raise InvalidArgument(f"{path} is a folder", remedy="give the path of a file")
    if not path.is_file():
        raise NotFound(f"no file {path}", remedy="check the path")
    return path


def table(title: str | None, *columns: str, right: Sequence[str] = ()) -> Table:
    """Returns an empty table; columns named in ``right`` are numbers."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def short(name: str, width: int = 36) -> str:
    """Returns a node's name, its front cut off where it is long: the end tells most."""
    return name if len(name) <= width else "…" + name[1 - width :]


def amount(nbytes: float) -> str:
    """Returns a number of bytes for people, in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"


def duration(nanoseconds: float) -> str:
    """Returns a time for people."""
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= scale:
            return f"{nanoseconds / scale:.2f} {unit}"
    return f"{nanoseconds:.0f} ns"


def number(quantity: int, noun: str) -> str:
    """Returns a number of things for people, such as ``"1 node"``."""
    return f"{quantity} {noun}" if quantity == 1 else f"{quantity} {noun}s"


def count(number: float) -> str:
    """Returns a large number for people, in decimal units."""
    for unit, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.2f} {unit}"
    return f"{number:.0f}"


#: Rows of a list of copies that are shown.
_COPIES = 20


def print_parts(out: Console, program: Executable) -> None:
    """Prints the parts of a program that runs on more than one backend, and what is copied."""
    shown = table(None, "part", "runs on", "code", "constants", right=("code", "constants"))
    places = [f"{part.header.backend}/{part.header.target}" for part in program.parts]
    for part, place in zip(program.parts, places, strict=True):
        weights = sum(spec.nbytes for spec in part.program.constants)
        shown.add_row(short(part.name), place, amount(len(part.program.code)), amount(weights))
    out.print(f"\n{number(len(places), 'part')}, one after the other:")
    out.print(shown)
    crossings = program.crossings
    total = sum(crossing.value.type.nbytes for crossing in crossings)
    copies = "copy" if len(crossings) == 1 else "copies"
    out.print(f"\n{len(crossings)} {copies} in each run, {amount(total)}:")
    for crossing in crossings[:_COPIES]:
        made = program.parts[crossing.after].name if crossing.after >= 0 else "the caller"
        last = crossing.before == len(program.parts)
        read = "the caller" if last else program.parts[crossing.before].name
        size = amount(crossing.value.type.nbytes)
        out.print(f"  {crossing.value.name} ({size}): {short(made)} to {short(read)}")
    if len(crossings) > _COPIES:
        out.print(f"  ... and {len(crossings) - _COPIES} more")
