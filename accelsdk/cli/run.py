"""``accelsdk run``: a model on a device, npz in, npz out, with a profile of its nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accelsdk.cli.console import (
    Binds,
    Cache,
    Fallback,
    Model,
    Options,
    Plugin,
    Shapes,
    amount,
    console,
    duration,
    existing_file,
    number,
    parse_binds,
    parse_options,
    parse_shapes,
    short,
    table,
)
from accelsdk.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike
    from rich.console import Console

    from accelsdk.backend.optional import Profile
    from accelsdk.backend.program import TensorSpec
    from accelsdk.runtime.client import Client
    from accelsdk.runtime.executable import Executable

    Feeds = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]

#: Rows of the profile that are shown unless ``--all`` asks for every node.
_ROWS = 15


def command(
    model: Model,
    plugin: Plugin = "reference_cpu",
    input: Annotated[  # the word that people type
        Path | None,
        typer.Option("--input", "-i", help="npz file with one array for each input."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-O", help="npz file for the outputs.")
    ] = None,
    random: Annotated[
        int | None,
        typer.Option(min=0, help="Feed random numbers from this seed instead of --input."),
    ] = None,
    device: Annotated[int, typer.Option(help="Position of the device.")] = 0,
    shape: Shapes = None,
    bind: Binds = None,
    option: Options = None,
    fallback: Fallback = True,
    cache: Cache = True,
    all: Annotated[bool, typer.Option("--all", help="Show every node of the profile.")] = False,
) -> None:
    """Run a model, or a compiled program, on a device.

    Prints the outputs, and which nodes ran where and for how long, on the device's own
    clock. Feeds of fixed shape also fix the shapes of the model's open dimensions.

    What the plugin refuses runs on reference_cpu unless --no-fallback is given, and the output
    then says how much ran where. The compiled program is kept for the next time; a model, a
    plugin or an option that has changed is compiled again.
    """
    import accelsdk
    from accelsdk.runtime.client import FALLBACK

    existing_file(model)
    feeds = _read(input) if input is not None else {}
    shapes = {name: array.shape for name, array in feeds.items()} | parse_shapes(shape)
    values = parse_binds(bind)
    out = console()
    with ExitStack() as stack:
        client = stack.enter_context(
            accelsdk.connect(
                plugin,
                parse_options(option),
                fallback=FALLBACK if fallback else None,
                cache=cache,
            )
        )
        card = client.device(device)
        with out.status(f"compiling {model.name} for {plugin}"):
            program = _program(client, model, card.info.target, shapes, values, fixed=bool(shape))
        if input is not None:
            feeds = _checked(program.inputs, feeds)
        elif random is None and program.inputs:
            listed = ", ".join(f"{spec.name}: {spec.type}" for spec in program.inputs)
            raise InvalidArgument(
                f"the model has inputs: {listed}", remedy="give --input FEEDS.npz, or --random SEED"
            )
        loaded = stack.enter_context(client.load(program, card))
        # Before random numbers are made: what the card cannot hold, the host need not make.
        arguments = [card.empty(spec.type) for spec in program.inputs]
        if input is None:
            feeds = _random_feeds(program.inputs, random)
        for buffer, spec in zip(arguments, program.inputs, strict=True):
            buffer.copy_from_host(feeds[spec.name])
        profiled = any({"profiling", "queues"} & one.capabilities for one in loaded.devices)
        options = accelsdk.ExecuteOptions(block=True, profile=profiled)
        result = loaded.execute(arguments, options=options)
        outputs = [buffer.numpy() for buffer in result.outputs]
        devices = " and ".join(one.id for one in loaded.devices)
    names = [spec.name for spec in program.outputs]
    if output is not None:
        _write(output, dict(zip(names, outputs, strict=True)))
    for name, array in zip(names, outputs, strict=True):
        out.print(f"{name}: {array.dtype}{list(array.shape)} {_preview(array)}")
    if program.crossings:
        _print_places(out, program)
    _print_profile(out, result.profile, devices, len(result.profile) if all else _ROWS)


def _print_places(out: Console, program: Executable) -> None:
    """Says how much of a model ran where."""
    parts = Counter(f"{part.header.backend}/{part.header.target}" for part in program.parts)
    listed = " and ".join(f"{number(count, 'part')} on {place}" for place, count in parts.items())
    total = sum(crossing.value.type.nbytes for crossing in program.crossings)
    out.print(f"\nran {listed}; {amount(total)} copied between them")


def _program(
    client: Client,
    model: Path,
    target: str,
    shapes: dict[str, tuple[int, ...]],
    values: dict[str, ArrayLike],
    *,
    fixed: bool,
) -> Executable:
    from accelsdk.backend.program_file import MAGIC
    from accelsdk.runtime.client import open_program

    with model.open("rb") as file:
        compiled = file.read(len(MAGIC)) == MAGIC
    if compiled and (fixed or values):
        raise InvalidArgument(
            f"{model} is a compiled program, whose shapes and inputs are fixed",
            remedy="leave --shape and --bind out, or run the model that it was compiled from",
        )
    if compiled:
        return open_program(model)
    return client.compile(model, target=target, input_shapes=shapes, input_values=values)


def _read(path: Path) -> Feeds:
    """Returns the arrays of an npz file."""
    import zipfile

    import numpy as np

    try:
        with np.load(existing_file(path), allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise InvalidArgument(
            f"{path} cannot be read as an npz file: {error}",
            remedy="write it with numpy.savez(path, input_name=array, ...)",
        ) from None


def _random_feeds(specs: Sequence[TensorSpec], seed: int | None) -> Feeds:
    import numpy as np

    from accelsdk.formats import FLOAT32
    from accelsdk.numerics.codec import cast

    generator = np.random.default_rng(seed)
    return {
        spec.name: cast(
            generator.standard_normal(spec.type.shape, np.float32), FLOAT32, spec.type.format
        )
        for spec in specs
    }


def _checked(specs: Sequence[TensorSpec], feeds: Feeds) -> Feeds:
    """Returns the feeds, each of its input's type."""
    import numpy as np

    unknown = sorted(set(feeds) - {spec.name for spec in specs})
    missing = [spec.name for spec in specs if spec.name not in feeds]
    if unknown or missing:
        listed = ", ".join(f"{spec.name}: {spec.type}" for spec in specs)
        parts = [f"no input is named {name!r}" for name in unknown]
        parts += [f"input {name!r} is not fed" for name in missing]
        raise InvalidArgument("; ".join(parts), remedy=f"inputs: {listed}")
    found = {}
    for spec in specs:
        array = feeds[spec.name]
        dtype = spec.type.format.dtype
        if dtype.kind == "V" and array.dtype == np.dtype(("V", dtype.itemsize)):
            array = array.view(dtype)  # npz files keep bits of ml_dtypes, but not their names
        if array.shape != spec.type.shape or array.dtype != dtype:
            raise InvalidArgument(
                f"input {spec.name!r} wants {spec.type}, got {array.dtype}{list(array.shape)}",
                remedy="cast or reshape the array, or compile for its shape with --shape",
            )
        found[spec.name] = array
    return found


def _write(path: Path, arrays: Feeds) -> None:
    """Writes an npz file, the same bytes for the same arrays.

    Not with `numpy.savez`, which takes names as keywords: an output may be called "file".
    """
    import zipfile

    import numpy as np

    from accelsdk.backend.files import written

    with written(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980: no clock in results
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _preview(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    import numpy as np

    first = array.ravel()[:4]
    text = " ".join(f"{item:.6g}" for item in first.astype(np.float64)) if first.size else ""
    return text + (" ..." if array.size > first.size else "")


def _print_profile(out: Console, profile: Profile, device: str, rows: int) -> None:
    if not profile:
        out.print(f"\nran on {device}, which keeps no profile")
        return
    times = [(entry, entry.finished - entry.started) for entry in profile]
    total = sum(time for _, time in times) or 1
    slowest = sorted(times, key=lambda pair: -pair[1])[:rows]
    shown = table(None, "node", "op", "engine", "time", "share", right=("time", "share"))
    for entry, time in slowest:
        share = f"{100 * time / total:.1f} %"
        shown.add_row(short(entry.node), entry.op, entry.engine, duration(time), share)
    out.print(f"\n{number(len(profile), 'node')} on {device}, {duration(total)}; slowest first:")
    out.print(shown)
    if len(profile) > len(slowest):
        out.print(f"... and {len(profile) - len(slowest)} more (--all)")
    by_op: Counter[str] = Counter()
    for entry, time in times:
        by_op[entry.op] += time
    listed = ", ".join(f"{op} {100 * time / total:.0f} %" for op, time in by_op.most_common(6))
    out.print(f"by op: {listed}")
