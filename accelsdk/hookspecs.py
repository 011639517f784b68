"""The pluggy hooks of accelsdk.

A plugin is a module (or object) published under the entry-point group
``accelsdk.plugins.v1``. It implements `accelsdk_backends`, and any of the others it has use
for::

    from accelsdk.hookspecs import hookimpl

    @hookimpl
    def accelsdk_backends():
        return [AcmeBackend()]

Hooks are the cold path: each is called at the moment its docstring names, never during
execution. Importing a plugin must import no heavy vendor library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pluggy

from accelsdk.backend.backend import Backend
from accelsdk.backend.observer import Observer
from accelsdk.graph.ops import OpDef
from accelsdk.graph.rewrite import LoweringRule

#: Name under which hook markers are collected.
PROJECT = "accelsdk"
#: Entry-point group of this major version of the contract.
ENTRY_POINTS = "accelsdk.plugins.v1"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# pluggy reads the specifications below for names and arguments, and never calls them: each raises,
# so that whoever calls one by hand, instead of the hook, is told at once.


@hookspec
def accelsdk_backends() -> Sequence[Backend]:
    """Returns the vendor's backends. Called once, at discovery."""
    raise NotImplementedError


@hookspec
def accelsdk_lowering_rules() -> Sequence[LoweringRule]:
    """Returns extra lowering rules. Called once, when a pipeline is built."""
    raise NotImplementedError


@hookspec
def accelsdk_composites() -> Sequence[OpDef]:
    """Returns vendor composites, each with a decomposition. Called once, as the rules."""
    raise NotImplementedError


@hookspec
def accelsdk_observers() -> Sequence[Observer]:
    """Returns observers of device events. Called once, when a client opens."""
    raise NotImplementedError


@hookspec
def accelsdk_conformance_cases() -> Sequence[Path]:
    """Returns the vendor's own case files (TOML). Called when conformance collects."""
    raise NotImplementedError
