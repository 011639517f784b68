"""``accelsdk doctor``: does each device do the simplest things?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from accelsdk.cli.console import Options, console, parse_options, table
from accelsdk.errors import AccelError, DataLoss

if TYPE_CHECKING:
    from accelsdk.runtime.client import Client
    from accelsdk.runtime.device import Device

_NBYTES = 1024


def command(
    plugin: Annotated[
        str | None, typer.Option("--plugin", "-p", help="Only this backend.", show_default="all")
    ] = None,
    option: Options = None,
) -> None:
    """Try each device: open it, move 1 KiB there and back, run one Add.

    Quarantined plugins are listed with cause and remedy. Exit code 1 if anything failed.
    """
    from accelsdk.registry import Status, registry
    from accelsdk.runtime.client import Client

    found = registry()
    backends = [found.backend(plugin)] if plugin else list(found.backends)
    options = parse_options(option)
    for backend in backends:
        backend.info.resolve(options)  # a wrong option is no finding about the device
    shown = table(None, "device", "check", "verdict", "detail")
    failed = False
    for backend in backends:
        try:
            with Client(backend, options) as client:
                rows = [row for device in client.devices for row in _examine(client, device)]
                if not rows:
                    reason = client.discovery.reason or "no devices"
                    rows = [(backend.info.name, "enumerate", "none", reason)]
        except AccelError as error:
            rows = [(backend.info.name, "connect", "FAIL", str(error))]
        for row in rows:
            shown.add_row(*row)
            failed = failed or row[2] == "FAIL"
    for record in found.plugins if plugin is None else ():
        if record.status in (Status.QUARANTINED, Status.OTHER_VERSION):
            shown.add_row(record.name, "plugin", "FAIL", f"{record.cause} ({record.remedy})")
            failed = True
    console().print(shown)
    if failed:
        raise typer.Exit(1)


def _examine(client: Client, device: Device) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, check in (("move 1 KiB", _move), ("run one Add", _add)):
        try:
            rows.append((device.id, name, "ok", check(client, device)))
        except AccelError as error:
            rows.append((device.id, name, "FAIL", str(error)))
    return rows


def _move(client: Client, device: Device) -> str:
    import numpy as np

    sent = (np.arange(_NBYTES) * 37 % 251).astype(np.uint8)
    with device.put(sent) as buffer:
        got = buffer.numpy()
    if not np.array_equal(sent, got):
        wrong = int(np.flatnonzero(sent != got)[0])
        raise DataLoss(f"byte {wrong} of {_NBYTES} came back as {got[wrong]}", device=device.id)
    return f"{_NBYTES} bytes came back unchanged"


def _add(client: Client, device: Device) -> str:
    import numpy as np

    from accelsdk.errors import UnsupportedGraph
    from accelsdk.formats import FLOAT32
    from accelsdk.graph.rewrite import Builder

    builder = Builder()
    a, b = (builder.input(name, FLOAT32, (4,)) for name in "ab")
    graph = builder.graph([a, b], [builder.op("Add", a, b)], "doctor")
    try:
        program = client.compile(graph, target=device.info.target)
    except UnsupportedGraph:
        return "the backend does not support a float32 Add"
    left, right = np.arange(4, dtype=np.float32), np.full(4, 0.5, np.float32)
    with client.load(program, device) as loaded:
        result = loaded.execute([device.put(left), device.put(right)])
        got = result.outputs[0].numpy()
    if not np.array_equal(got, left + right):
        raise DataLoss(f"{left} + {right} gave {got}", device=device.id)
    return "0.5 1.5 2.5 3.5"
