"""Compiled programs kept on disk, so that a model is compiled once and not in each process.

An entry is a program file whose name is the digest of all that compiling depends on: the
model's bytes, the shapes, the backends with versions, targets, options and code, and the
version of accelsdk. It is checked whole before it is used, and is never the reason of an
error: what cannot be read is compiled again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from accelsdk.backend.info import Options
from accelsdk.backend.program_file import PLAN_FORMAT, ProgramFile
from accelsdk.errors import AccelError, InvalidArgument, NotFound
from accelsdk.graph import serialize
from accelsdk.graph.graph import Graph
from accelsdk.graph.types import Shape
from accelsdk.runtime.plan import opened

if TYPE_CHECKING:
    from accelsdk.compiler.partition.plan import Place
    from accelsdk.registry import Registry
    from accelsdk.runtime.executable import Executable, Specialise

#: Environment variable: the folder to keep programs in, or "off".
VARIABLE = "ACCELSDK_CACHE"
#: Bytes that a cache holds at most, unless told otherwise.
LIMIT = 4 << 30
_SUFFIX = ".accel"
#: Age at which a file that was never finished is taken to be nobody's, seconds.
_ABANDONED = 24 * 3600.0


class CacheWarning(UserWarning):
    """An entry of a program cache cannot be used, or not be written."""


class ProgramCache:
    """A folder of compiled programs, the least recently used given up first.

    Safe for several processes and threads at once: entries take their place whole.

    Args:
        folder: Where; made when something is kept.
        limit: Bytes that it holds at most.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int = LIMIT) -> None:
        if limit < 0:
            raise InvalidArgument(f"a cache of {limit} bytes", remedy="give 0 or more")
        self.folder = Path(folder)
        self.limit = limit

    @classmethod
    def of_user(cls) -> ProgramCache | None:
        """Returns the user's cache: of the platform's cache folder, unless ACCELSDK_CACHE is set.

        The variable names another folder; ``off`` gives None.
        """
        import platformdirs

        chosen = os.environ.get(VARIABLE, "")
        if chosen.lower() == "off":
            return None
        own = Path(platformdirs.user_cache_dir("accelsdk", appauthor=False), "programs")
        return cls(Path(chosen).expanduser() if chosen else own)

    def __repr__(self) -> str:
        return f"<ProgramCache in {self.folder}, up to {self.limit:,} bytes>"

    def get(self, key: str, respecialise: Specialise | None = None) -> Executable | None:
        """Returns what is kept under a key, or None.

        Args:
            key: As `key_of` returns it.
            respecialise: Compiles the same model for other input shapes.
        """
        path = self._path(key)
        try:
            file = ProgramFile(path)
            file.verify()
            found = opened(file, respecialise)
        except NotFound:
            return None
        except (AccelError, OSError) as error:
            _warn(f"the cached program {path} is of no use and is compiled again: {error}")
            return None
        with suppress(OSError):  # a folder that may only be read is as good
            os.utime(path)
        return found

    def put(self, key: str, executable: Executable) -> None:
        """Keeps a program, in place of what was there."""
        if sum(spec.nbytes for p in executable.parts for spec in p.program.constants) > self.limit:
            return
        path = self._path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            executable.save(path)
            self._shrink(path)
        except (AccelError, OSError) as error:
            _warn(f"the compiled program cannot be kept in {self.folder}: {error}")

    def clear(self) -> None:
        """Removes every entry."""
        for path, _ in self._entries():
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):  # another process was faster
                yield path, path.stat()

    def _shrink(self, newest: Path) -> None:
        """Removes the least recently used until the rest fits, and what was left unfinished."""
        for path in self.folder.glob(".*.partial"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _ABANDONED:
                    path.unlink()
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime_ns)
        total = sum(stat.st_size for _, stat in entries)
        for path, stat in entries:
            if total <= self.limit:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= stat.st_size


def key_of(
    model: Graph | str | os.PathLike[str] | bytes,
    input_shapes: Mapping[str, Shape] | None,
    places: Sequence[Place],
    options: Sequence[Options],
    plugins: Registry | None,
    input_values: Mapping[str, ArrayLike] | None = None,
) -> str:
    """Returns the digest of all that the compiled program depends on.

    Found without lowering the model; its weights are read once.

    Args:
        model: A graph, or the path or bytes of an ONNX file.
        input_shapes: What its inputs are specialised to.
        places: Where parts can run, in order.
        options: All options of each place's backend, resolved.
        plugins: Whose lowering rules and composites are used.
        input_values: What its inputs are bound to.

    Raises:
        NotFound: There is no such file.
        ModelError: It is no ONNX model.
    """
    rules = () if plugins is None else plugins.lowering_rules()
    composites = () if plugins is None else plugins.composites()
    described = {
        "model": _model_digest(model),
        "shapes": sorted((name, list(shape)) for name, shape in (input_shapes or {}).items()),
        "values": sorted(_value(*item) for item in (input_values or {}).items()),
        "places": [_described(place, given) for place, given in zip(places, options, strict=True)],
        "plugins": sorted({_code(type(item).__module__) for item in (*rules, *composites)}),
        "rules": [[rule.domain, rule.op] for rule in rules],
        "accelsdk": _code("accelsdk"),
        "onnx": importlib.metadata.version("onnx"),
        "format": PLAN_FORMAT,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _value(name: str, given: ArrayLike) -> list[object]:
    array = np.ascontiguousarray(given)
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return [name, array.dtype.name, list(np.shape(given)), digest]


def _model_digest(model: Graph | str | os.PathLike[str] | bytes) -> str:
    if isinstance(model, Graph):
        return serialize.digest(model)
    from accelsdk.compiler.model_files import digest  # reads ONNX: loaded only when needed

    return digest(model if isinstance(model, bytes) else Path(model))


def _described(place: Place, options: Options) -> dict[str, object]:
    info, target = place.backend.info, place.target
    return {
        "backend": [info.name, info.version, list(info.api_version)],
        "code": _code(type(place.backend).__module__),
        "target": [target.name, sorted(target.options.items())],
        "options": sorted(options.items()),
    }


@cache
def _code(module: str) -> str:
    """Returns a digest of the files that a module's package consists of, by size and time.

    Whoever works on a plugin, or on accelsdk, changes code and leaves the version as it is.
    """
    found = sys.modules[module]
    package = sys.modules.get(found.__package__ or "", found)
    roots = [Path(path) for path in getattr(package, "__path__", ())]
    files = [path for root in roots for path in root.rglob("*") if path.suffix in _CODE]
    if not files and getattr(found, "__file__", None):
        files = [Path(str(found.__file__))]
    stats = sorted((str(path), path.stat()) for path in files)
    lines = [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


_CODE = frozenset({".py", ".pyd", ".so", ".dll", ".dylib"})


def _warn(text: str) -> None:
    warnings.warn(text, CacheWarning, stacklevel=4)
