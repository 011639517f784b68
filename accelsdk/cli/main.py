"""The ``accelsdk`` command: finds its sub-commands by name and loads only the one invoked.

``accelsdk --help`` therefore imports neither NumPy nor any plugin. Third parties add
commands under the entry-point group ``accelsdk.commands``; each entry is a function with
Typer annotations, or a Typer application of sub-commands.

Exit codes of every command:

    0  done, and the answer is good
    1  done, and the answer is bad (non-conformant, a check failed)
    2  could not be done
    3  the command line is wrong (unknown plugin, option, file or argument)
    130  interrupted, as shells have it
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from io import TextIOWrapper
from typing import Any, Final

import typer

from accelsdk.errors import AccelError, InvalidArgument, NotFound

GROUP: Final = "accelsdk.commands"

OK, BAD, COULD_NOT_RUN, USAGE = range(4)
INTERRUPTED = 130

HELP: Final = """One device API for every AI accelerator.

Plugins bring cards; `accelsdk` lists them, runs models on them and checks their arithmetic.
"""

_BUILT_IN: Final = {
    "plugins": "List plugins: what works, what does not, and the remedy.",
    "devices": "List the devices of a plugin, with memory and abilities.",
    "doctor": "Try each device: open it, move bytes, run one Add.",
    "explain": "Show how a model is lowered and placed, node by node.",
    "run": "Run an ONNX model on a device: npz in, npz out.",
    "compile": "Compile a model ahead of time to a program file.",
}
_KNOWN_ENTRIES: Final = {
    "conformance": "Check a plugin's arithmetic and behaviour, exactly.",
    "probe": "Measure a plugin's arithmetic from outside.",
}

#: What an entry point may name.
Loaded = Callable[..., Any] | typer.Typer


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command that is not loaded yet."""

    name: str
    summary: str
    load: Callable[[], Loaded]


def find_commands() -> dict[str, Command]:
    """Returns every sub-command by name, without importing one; built-in names win."""
    found = {entry.name: _entry_command(entry) for entry in entry_points(group=GROUP)}
    for name, summary in _BUILT_IN.items():
        found[name] = Command(name, summary, partial(_built_in, name))
    return found


def _built_in(name: str) -> Callable[..., Any]:
    command: Callable[..., Any] = import_module(f"accelsdk.cli.{name}").command
    return command


def _entry_command(entry: EntryPoint) -> Command:
    origin = entry.dist.name if entry.dist else "an installed package"
    summary = _KNOWN_ENTRIES.get(entry.name, f"Provided by {origin}.")

    def load() -> Loaded:
        try:
            command: Loaded = entry.load()
        except ImportError as error:
            if (error.name or "").startswith("accelsdk"):
                raise  # a defect of ours, not a missing extra
            raise missing_extra(entry.name, error) from error
        return command

    return Command(entry.name, summary, load)


def missing_extra(command: str, error: ImportError) -> AccelError:
    """Returns the error for a command whose packages are not installed."""
    return NotFound(
        f"the command {command!r} needs a package that is not installed: {error.name or error}",
        remedy=f"pip install 'accelsdk[{command}]'",
    )


def _unloaded() -> None:
    """Stands for a command that was not invoked."""


def build(invoked: str | None) -> typer.Typer:
    """Returns the Typer application with only the command ``invoked`` loaded."""
    app = typer.Typer(
        name="accelsdk",
        help=HELP,
        add_completion=False,
        # Typer's panels import a Markdown parser: worth it for a command's page, too slow here.
        rich_markup_mode="markdown" if invoked else None,
    )
    app.callback()(_global_options)
    for command in find_commands().values():
        if command.name == invoked:
            loaded = command.load()
            if isinstance(loaded, typer.Typer):
                app.add_typer(loaded, name=command.name)
            else:
                app.command(command.name)(loaded)
        else:
            app.command(command.name, help=command.summary)(_unloaded)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"accelsdk {version('accelsdk')}")
        raise typer.Exit


def _global_options(
    version: bool = typer.Option(  # read by its callback; Typer's way
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code; errors print one message.

    Set ``ACCELSDK_DEBUG=1`` to see the traceback behind an error.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    invoked = next((word for word in given if not word.startswith("-")), None)
    try:
        code = build(invoked)(given, standalone_mode=False, prog_name="accelsdk")
    except typer.TyperException as error:
        return _fail(error.format_message(), USAGE, hint=_help_hint(invoked))
    except AccelError as error:
        _traceback_if_asked()
        usage = isinstance(error, (InvalidArgument, NotFound))
        return _fail(str(error), USAGE if usage else COULD_NOT_RUN)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        return COULD_NOT_RUN  # the reader has gone: there is nothing to tell anybody
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # how rich ends then
            return COULD_NOT_RUN
        raise
    except MemoryError as error:
        return _fail(f"out of host memory: {error}", COULD_NOT_RUN, hint="use smaller shapes")
    except OSError as error:
        _traceback_if_asked()
        what = error.filename or "cannot write the output"
        return _fail(f"{what}: {error.strerror or error}", COULD_NOT_RUN)
    except Exception as error:  # the last stop before the user
        _traceback_if_asked()
        text = f"internal error: {type(error).__name__}: {error}"
        return _fail(text, COULD_NOT_RUN, hint="set ACCELSDK_DEBUG=1 to see where")
    return code if isinstance(code, int) else OK


def _help_hint(invoked: str | None) -> str:
    known = invoked if invoked in find_commands() else None
    return f"try: accelsdk {known + ' ' if known else ''}--help"


def _traceback_if_asked() -> None:
    if os.environ.get("ACCELSDK_DEBUG"):
        import traceback

        traceback.print_exc()


def _fail(message: str, code: int, hint: str | None = None) -> int:
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(hint, err=True)
    return code


def run() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        # File names are bytes and terminals may be ASCII: neither stops a report.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(_flushed(main()))


def _flushed(code: int) -> int:
    """Writes out what is buffered, so that its failure has an exit code and no traceback."""
    try:
        if sys.stdout is not None:  # as it is where the shell closed it
            sys.stdout.flush()
    except OSError as error:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())  # what is left goes nowhere when Python ends
        os.close(null)
        if isinstance(error, BrokenPipeError):
            return COULD_NOT_RUN
        return _fail(f"cannot write the output: {error.strerror}", COULD_NOT_RUN)
    return code
