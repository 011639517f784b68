"""What a real model is to the tests, and where installed packages keep theirs.

Models and their tables come from installed packages (requirements.txt); the packages are
located by their metadata and never imported.
"""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from numpy.typing import NDArray

Feeds = dict[str, NDArray]
#: Runs a model on feeds; returns its outputs by name.
Run = Callable[[Feeds], Mapping[str, NDArray]]


class Missing(Exception):
    """A package that carries a model, or makes it, is not installed."""


def locate(package: str, path: str) -> Path:
    """Returns a file of an installed package, without importing it."""
    try:
        found = Path(str(importlib.metadata.distribution(package).locate_file(path)))
    except importlib.metadata.PackageNotFoundError:
        raise Missing(f"{package} is not installed") from None
    if not found.is_file():
        raise Missing(f"{package} has no {path}")
    return found


@functools.cache
def folder() -> Path:
    """Returns a folder for models that are made here; it goes with the process."""
    made = Path(tempfile.mkdtemp(prefix="accelsdk-models-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@dataclass(frozen=True, eq=False)  # one of each, hashed by identity
class Model:
    """One real model.

    Attributes:
        name: For people.
        shapes: Shapes of its inputs.
        run: Feeds real inputs through a runner and returns what they mean (labels, text).
        feeds: A few real inputs, for comparing numbers.
        package: Distribution that carries it.
        path: File within the distribution.
        make: Writes the model to a path, where no package carries it.
        needs: Other files that ``run`` and ``feeds`` read, as (distribution, file).
        values: Inputs that are bound when the model is compiled.
        truth: What ``run`` must return, where the answer is known.
        op: What a plugin that supports one op alone should support to be of use here.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    run: Callable[[Run], Sequence[str]]
    feeds: Callable[[], Sequence[Feeds]]
    package: str = ""
    path: str = ""
    make: Callable[[Path], None] | None = None
    needs: tuple[tuple[str, str], ...] = ()
    values: Mapping[str, NDArray] = field(default_factory=dict)
    truth: Callable[[], Sequence[str]] | None = None
    op: str = "Conv"

    def file(self) -> Path:
        """Returns the model file; raises `Missing` if a package is not installed."""
        for package, path in self.needs:
            locate(package, path)
        if self.make is None:
            return locate(self.package, self.path)
        made = folder() / f"{self.name.replace(' ', '-')}.onnx"
        if not made.exists():
            self.make(made)
        return made


def only(outputs: Mapping[str, NDArray]) -> NDArray:
    """Returns the one output of a model that has one."""
    (array,) = outputs.values()
    return array


def classes(outputs: Mapping[str, NDArray]) -> str:
    """Returns the number of the class with the highest score."""
    return str(int(next(iter(outputs.values())).argmax()))
