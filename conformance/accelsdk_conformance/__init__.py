"""Conformance of accelerator plugins; see docs/conformance.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelsdk_conformance.vendor import run_conformance as run_conformance

__all__ = ["run_conformance"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 # the lazy face of the package
    if name == "run_conformance":
        from accelsdk_conformance.vendor import run_conformance

        return run_conformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
