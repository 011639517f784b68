"""What onnxruntime raises, as errors of accelsdk that name the node."""

from __future__ import annotations

import re
from typing import Final

from onnxruntime.capi import onnxruntime_pybind11_state as native

from accelsdk.errors import AccelError, Internal, InvalidArgument
from accelsdk_onnxruntime_cpu.memory import Account

#: What its calls raise. Most of its own exceptions derive from nothing but Exception.
FAILURES: Final[tuple[type[Exception], ...]] = (
    *(MemoryError, RuntimeError, ValueError),
    *(native.EPFail, native.Fail, native.InvalidArgument, native.InvalidGraph),
    *(native.InvalidProtobuf, native.NotImplemented, native.RuntimeException),
)
_NODE = re.compile(r"node with name '([^']*)'|Name:'([^']*)'")
_SIZE = re.compile(r"requested buffer of size (\d+)")
#: Runs through a binding tell wrong data and defects apart in their text alone.
_DATA = re.compile(r"out of (data )?(bounds|range)")


def explained(error: Exception, doing: str, device: str, account: Account) -> AccelError:
    """Returns one of `FAILURES` as an error of accelsdk, to be raised from it.

    Args:
        error: What onnxruntime raised.
        doing: What failed, such as ``"loading"``.
        device: Identity of the device.
        account: Its memory, for the numbers of an `OutOfMemory`.
    """
    text = str(error)
    size = _SIZE.search(text)
    if size is not None or isinstance(error, MemoryError):
        return account.full(int(size[1]) if size is not None else 0)
    found = _NODE.search(text)
    node = next((name for name in found.groups() if name), None) if found else None
    message = f"{doing} failed: onnxruntime: {text}"
    if doing == "running" and _DATA.search(text):
        return InvalidArgument(message, remedy="check the inputs", device=device, node=node)
    return Internal(message, remedy="report it with the model", device=device, node=node)
