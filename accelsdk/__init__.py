"""The SDK through which any AI accelerator meets any framework.

These names are the public face; each is imported when it is first used, so that
``import accelsdk`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelsdk.errors import (
        AccelError,
        Cancelled,
        DataLoss,
        DeadlineExceeded,
        DeviceFault,
        FailedPrecondition,
        GraphError,
        IncompatibleProgram,
        Internal,
        InvalidArgument,
        ModelError,
        NotFound,
        OutOfMemory,
        PluginError,
        Unavailable,
        Unimplemented,
        UnsupportedGraph,
    )
    from accelsdk.formats import by_name
    from accelsdk.graph.graph import Graph
    from accelsdk.graph.types import TensorType
    from accelsdk.runtime.binding import IoBinding
    from accelsdk.runtime.buffer import Buffer
    from accelsdk.runtime.cancel import CancelToken
    from accelsdk.runtime.client import Client, connect, open_program
    from accelsdk.runtime.device import Device
    from accelsdk.runtime.executable import (
        Executable,
        ExecuteOptions,
        LoadedExecutable,
        Result,
    )
    from accelsdk.runtime.memory import Memory
    from accelsdk.runtime.session import InferenceSession
    from accelsdk.runtime.stream import Stream
    from accelsdk.runtime.sync import Event, Semaphore, Timepoint

_ERRORS = "accelsdk.errors"
_HOMES = {
    "AccelError": _ERRORS,
    "Buffer": "accelsdk.runtime.buffer",
    "CancelToken": "accelsdk.runtime.cancel",
    "Cancelled": _ERRORS,
    "Client": "accelsdk.runtime.client",
    "DataLoss": _ERRORS,
    "DeadlineExceeded": _ERRORS,
    "Device": "accelsdk.runtime.device",
    "DeviceFault": _ERRORS,
    "Event": "accelsdk.runtime.sync",
    "Executable": "accelsdk.runtime.executable",
    "ExecuteOptions": "accelsdk.runtime.executable",
    "FailedPrecondition": _ERRORS,
    "Graph": "accelsdk.graph.graph",
    "GraphError": _ERRORS,
    "IncompatibleProgram": _ERRORS,
    "InferenceSession": "accelsdk.runtime.session",
    "Internal": _ERRORS,
    "InvalidArgument": _ERRORS,
    "IoBinding": "accelsdk.runtime.binding",
    "LoadedExecutable": "accelsdk.runtime.executable",
    "Memory": "accelsdk.runtime.memory",
    "ModelError": _ERRORS,
    "NotFound": _ERRORS,
    "OutOfMemory": _ERRORS,
    "PluginError": _ERRORS,
    "Result": "accelsdk.runtime.executable",
    "Semaphore": "accelsdk.runtime.sync",
    "Stream": "accelsdk.runtime.stream",
    "TensorType": "accelsdk.graph.types",
    "Timepoint": "accelsdk.runtime.sync",
    "Unavailable": _ERRORS,
    "Unimplemented": _ERRORS,
    "UnsupportedGraph": _ERRORS,
    "by_name": "accelsdk.formats",
    "connect": "accelsdk.runtime.client",
    "open_program": "accelsdk.runtime.client",
}

__all__ = [
    "AccelError",
    "Buffer",
    "CancelToken",
    "Cancelled",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "Device",
    "DeviceFault",
    "Event",
    "Executable",
    "ExecuteOptions",
    "FailedPrecondition",
    "Graph",
    "GraphError",
    "IncompatibleProgram",
    "InferenceSession",
    "Internal",
    "InvalidArgument",
    "IoBinding",
    "LoadedExecutable",
    "Memory",
    "ModelError",
    "NotFound",
    "OutOfMemory",
    "PluginError",
    "Result",
    "Semaphore",
    "Stream",
    "TensorType",
    "Timepoint",
    "Unavailable",
    "Unimplemented",
    "UnsupportedGraph",
    "by_name",
    "connect",
    "open_program",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
