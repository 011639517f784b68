"""Finding plugins, and keeping a broken one from taking the others down.

Plugins are published under the entry-point group `accelsdk.hookspecs.ENTRY_POINTS`. Each is
loaded by itself; one that fails to import, misspells a hook, raises, returns the wrong thing,
repeats a backend's name or speaks another major version of the contract is quarantined with
its cause and the remedy.
"""

from __future__ import annotations

import difflib
import inspect
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy

from accelsdk import hookspecs
from accelsdk.backend.backend import Backend
from accelsdk.backend.info import API_VERSION, BackendInfo
from accelsdk.backend.observer import Observer
from accelsdk.errors import NotFound, PluginError
from accelsdk.graph.opdef import OpDef
from accelsdk.graph.rewrite import LoweringRule
from accelsdk.hookspecs import ENTRY_POINTS, PROJECT

_GROUP = re.compile(r"accelsdk\.plugins\.v(\d+)")
_PREFIX = f"{PROJECT}_"


class Status(StrEnum):
    """State of a plugin."""

    OK = "ok"
    NEEDS_EXTRA = "needs-extra"  # compiles, but lacks a package for running
    QUARANTINED = "quarantined"
    OTHER_VERSION = "other-version"  # written for another major version; not imported


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRecord:
    """What became of one published plugin.

    Attributes:
        name: Name of its entry point.
        status: Whether it is used.
        cause: Why it is not; empty if it is.
        remedy: What to do about it; empty if it is.
        backends: Names of its backends.
        distribution: The installed distribution that published it.
        version: Version of that distribution.
    """

    name: str
    status: Status
    cause: str = ""
    remedy: str = ""
    backends: tuple[str, ...] = ()
    distribution: str = ""
    version: str = ""


class _Broken(Exception):
    """Why a plugin cannot be used, and the remedy."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


class Registry:
    """The plugins of this environment. Thread-safe.

    Use `registry` for the one of this process; `discover` looks afresh.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._records: dict[str, PluginRecord] = {}
        self._managers: dict[str, pluggy.PluginManager] = {}
        self._backends: dict[str, tuple[str, Backend]] = {}

    @classmethod
    def discover(cls) -> Registry:
        """Loads every published plugin; never raises because of one."""
        found = cls()
        published = entry_points()
        for group in sorted(published.groups):
            match = _GROUP.fullmatch(group)
            if match is None:
                continue
            for entry in sorted(published.select(group=group), key=lambda e: e.name):
                if group == ENTRY_POINTS:
                    found._add(entry)
                else:
                    found._note_other_version(entry, int(match[1]))
        return found

    # -- what there is ---------------------------------------------------------------------

    @property
    def plugins(self) -> tuple[PluginRecord, ...]:
        """What became of each plugin, by name."""
        return tuple(self._records[key] for key in sorted(self._records))

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The backends that can be used, by name."""
        return tuple(self._backends[name][1] for name in sorted(self._backends))

    def backend(self, name: str) -> Backend:
        """Returns a backend by name.

        Raises:
            NotFound: There is none of that name; the message suggests the nearest.
            PluginError: Its plugin is quarantined; the message has cause and remedy.
        """
        if name in self._backends:
            return self._backends[name][1]
        for record in self._records.values():
            if record.status is not Status.OK and name in (record.name, *record.backends):
                raise PluginError(
                    f"plugin {record.name!r} is {record.status}: {record.cause}",
                    backend=name,
                    remedy=record.remedy,
                )
        known = sorted(self._backends)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        listed = ", ".join(known) or "none"
        raise NotFound(
            f"no backend {name!r}",
            remedy=f"{hint}installed: {listed}; see 'accelsdk plugins'",
        )

    # -- what the other hooks give ---------------------------------------------------------

    def lowering_rules(self) -> tuple[LoweringRule, ...]:
        """Calls `accelsdk_lowering_rules` of every plugin."""
        return tuple(self._gather("accelsdk_lowering_rules", LoweringRule))

    def composites(self) -> tuple[OpDef, ...]:
        """Calls `accelsdk_composites` of every plugin."""
        return tuple(self._gather("accelsdk_composites", OpDef))

    def observers(self) -> tuple[Observer, ...]:
        """Calls `accelsdk_observers` of every plugin."""
        return tuple(self._gather("accelsdk_observers", Observer))

    def conformance_cases(self) -> tuple[Path, ...]:
        """Calls `accelsdk_conformance_cases` of every plugin."""
        return tuple(self._gather("accelsdk_conformance_cases", Path))

    def _gather(self, hook: str, wanted: type) -> list[Any]:
        gathered: list[Any] = []
        for name in sorted(self._managers):
            try:
                gathered += _call(self._managers[name], hook, wanted)
            except _Broken as broken:
                self._quarantine(name, broken)
        return gathered

    # -- loading ---------------------------------------------------------------------------

    def _add(self, entry: EntryPoint) -> None:
        record = _record(entry, Status.OK)
        with self._lock:
            try:
                if record.name in self._records:
                    other = self._records[record.name].distribution
                    raise _Broken(
                        f"another plugin of that name comes from {other!r}",
                        f"uninstall {record.distribution!r} or {other!r}",
                    )
                manager = _load(entry)
                backends: list[Backend] = _call(manager, "accelsdk_backends", Backend)
                infos = [_check_info(backend) for backend in backends]
                self._check_names(infos)
            except _Broken as broken:
                key = record.name if record.name not in self._records else _key(record)
                self._records[key] = _replace(
                    record, status=Status.QUARANTINED, cause=broken.cause, remedy=broken.remedy
                )
                return
            self._managers[record.name] = manager
            names = tuple(info.name for info in infos)
            self._records[record.name] = _with_missing(_replace(record, backends=names), infos)
            self._backends.update(
                {name: (record.name, b) for name, b in zip(names, backends, strict=True)}
            )

    def _check_names(self, infos: Sequence[BackendInfo]) -> None:
        seen = {name: plugin for name, (plugin, _) in self._backends.items()}
        for info in infos:
            if info.name in seen:
                raise _Broken(
                    f"its backend {info.name!r} has the name of one of plugin {seen[info.name]!r}",
                    "rename one of them, or uninstall one of the two plugins",
                )
            seen[info.name] = "the same"

    def _note_other_version(self, entry: EntryPoint, major: int) -> None:
        record = _replace(
            _record(entry, Status.OTHER_VERSION),
            cause=f"it speaks version {major} of the plugin contract, this accelsdk "
            f"version {API_VERSION[0]}",
            remedy="update the plugin" if major < API_VERSION[0] else "update accelsdk",
        )
        key = record.name if record.name not in self._records else f"{record.name} (v{major})"
        self._records[key] = record

    def _quarantine(self, name: str, broken: _Broken) -> None:
        with self._lock:
            self._managers.pop(name, None)
            for backend in [b for b, (plugin, _) in self._backends.items() if plugin == name]:
                del self._backends[backend]
            self._records[name] = _replace(
                self._records[name],
                status=Status.QUARANTINED,
                cause=broken.cause,
                remedy=broken.remedy,
            )


@cache
def registry() -> Registry:
    """Returns the plugins of this process, discovered on first use."""
    return Registry.discover()


def _record(entry: EntryPoint, status: Status) -> PluginRecord:
    distribution = entry.dist
    return PluginRecord(
        name=entry.name,
        status=status,
        distribution=distribution.name if distribution else "",
        version=distribution.version if distribution else "",
    )


def _replace(record: PluginRecord, **changes: Any) -> PluginRecord:  # noqa: ANN401 # fields of the record
    fields = {name: getattr(record, name) for name in PluginRecord.__dataclass_fields__}
    return PluginRecord(**{**fields, **changes})


def _with_missing(record: PluginRecord, infos: Sequence[BackendInfo]) -> PluginRecord:
    """Notes the packages that the backends of a plugin lack."""
    missing = [package for info in infos for package in info.missing()]
    if not missing:
        return record
    return _replace(
        record,
        status=Status.NEEDS_EXTRA,
        cause="; ".join(dict.fromkeys(map(str, missing))),
        remedy="; ".join(dict.fromkeys(package.install for package in missing)),
    )


def _key(record: PluginRecord) -> str:
    return f"{record.name} ({record.distribution})"


def _load(entry: EntryPoint) -> pluggy.PluginManager:
    """Imports a plugin and registers it with a manager of its own."""
    plugin = _import(entry)
    _check_hooks(plugin)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, entry.name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise _Broken(
            f"it does not fit the hooks: {error}", "compare it with accelsdk.hookspecs"
        ) from error
    return manager


def _import(entry: EntryPoint) -> Any:  # noqa: ANN401 # a plugin is any object
    try:
        return entry.load()
    except KeyboardInterrupt:
        raise
    except ImportError as error:
        missing = error.name or "what it needs"
        raise _Broken(
            f"importing {entry.value} failed: {error}",
            f"if {missing!r} is an optional part of it: pip install {missing.partition('.')[0]}; "
            "else install the plugin again"
            if error.name
            else "install the plugin again",
        ) from error
    except BaseException as error:  # SystemExit too: a plugin must not end the host
        raise _Broken(
            f"importing {entry.value} raised {type(error).__name__}: {error}",
            "report it to the vendor of the plugin, or uninstall it",
        ) from error


def _check_hooks(plugin: object) -> None:
    """Finds hooks that pluggy would pass over in silence: misspelt, or without the marker."""
    known = {name for name in vars(hookspecs) if name.startswith(_PREFIX)}
    for name in dir(plugin):
        if not name.startswith(_PREFIX) or not callable(getattr(plugin, name, None)):
            continue
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise _Broken(
                f"it has no known hook {name}", f"{hint}hooks: {', '.join(sorted(known))}"
            )
        function = inspect.unwrap(getattr(plugin, name))
        marked = getattr(function, f"{PROJECT}_impl", None)
        if marked is None and getattr(plugin, "__name__", "") != hookspecs.__name__:
            raise _Broken(
                f"its {name} lacks the marker", "put @hookimpl of accelsdk.hookspecs before it"
            )


def _call(manager: pluggy.PluginManager, hook: str, wanted: type) -> list[Any]:
    """Calls one hook of one plugin and checks what it returns."""
    try:
        answers: Iterable[Any] = getattr(manager.hook, hook)()
        given = [list(answer) if _is_series(answer) else answer for answer in answers]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _Broken(
            f"its {hook} raised {type(error).__name__}: {error}",
            "report it to the vendor of the plugin",
        ) from error
    for answer in given:
        if not isinstance(answer, list) or not all(isinstance(item, wanted) for item in answer):
            raise _Broken(
                f"its {hook} returned {_describe(answer)}",
                f"return a sequence of {wanted.__name__}",
            )
    return [item for answer in given for item in answer]


def _is_series(answer: object) -> bool:
    return isinstance(answer, Iterable) and not isinstance(answer, str | bytes)


def _describe(answer: object) -> str:
    if isinstance(answer, list):
        return "a sequence with " + ", ".join(sorted({type(item).__name__ for item in answer}))
    return f"a {type(answer).__name__}"


def _check_info(backend: Backend) -> BackendInfo:
    try:
        info = backend.info
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _Broken(
            f"info of its {type(backend).__name__} raised {type(error).__name__}: {error}",
            "report it to the vendor of the plugin",
        ) from error
    if not isinstance(info, BackendInfo):
        raise _Broken(
            f"info of its {type(backend).__name__} is a {type(info).__name__}",
            "return a BackendInfo",
        )
    if info.api_version[0] != API_VERSION[0]:
        raise _Broken(
            f"its backend {info.name!r} speaks version {info.api_version[0]} of the contract, "
            f"this accelsdk version {API_VERSION[0]}",
            "update accelsdk" if info.api_version[0] > API_VERSION[0] else "update the plugin",
        )
    return info
