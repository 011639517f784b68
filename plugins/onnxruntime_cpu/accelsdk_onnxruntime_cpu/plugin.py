"""Registers the backend; imported at discovery, so it must stay light."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.backend.backend import Backend
from accelsdk.hookspecs import hookimpl
from accelsdk_onnxruntime_cpu.backend import OnnxruntimeCpu


@hookimpl
def accelsdk_backends() -> Sequence[Backend]:
    """Returns the one backend of this plugin."""
    return [OnnxruntimeCpu()]
