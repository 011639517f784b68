"""Names of generators and scenarios, as case files use them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache

from accelsdk.errors import NotFound
from accelsdk_conformance.case import Case
from accelsdk_conformance.problem import Context, Problem

Generator = Callable[[Case, Context], Problem]

_PACKAGE = "accelsdk_conformance.generators"


@cache
def generator(name: str) -> Generator:
    """Returns the generator ``module.function``; vendors write ``package.module:function``.

    Raises:
        NotFound: There is no such generator.
    """
    path, _, function = name.rpartition(":") if ":" in name else name.rpartition(".")
    module = path if ":" in name else f"{_PACKAGE}.{path}"
    try:
        found: Generator = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise NotFound(
            f"no generator {name!r}: {error}",
            remedy="name a function of accelsdk_conformance.generators as module.function, "
            "or your own as package.module:function",
        ) from error
    return found
