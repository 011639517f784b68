"""A vendor's own case files, from the hook ``accelsdk_conformance_cases``."""

from __future__ import annotations

from pathlib import Path

from accelsdk.registry import registry


def vendor_case_files() -> list[Path]:
    """Returns the case files of all healthy plugins, in the order of discovery."""
    return [Path(path) for path in registry().conformance_cases()]
