"""Asking a vendor's backend: its defects become errors that name it and the method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from accelsdk.backend.backend import Backend
from accelsdk.errors import AccelError, Internal

T = TypeVar("T")

_REMEDY = "report it to the vendor of the plugin"


def ask(backend: Backend, method: str, wanted: type[T], *arguments: object) -> T:
    """Calls a method of a backend and checks the type of its answer.

    Args:
        backend: Whom to ask.
        method: Name of a method of `Backend`.
        wanted: Type of its answer.
        *arguments: What the method takes.

    Raises:
        AccelError: What the backend raises on purpose.
        Internal: It raised anything else (chained), or answered with something else.
    """
    answer = _call(backend, method, arguments)
    if not isinstance(answer, wanted):
        raise _misfit(backend, method, f"a {type(answer).__name__}", f"a {wanted.__name__}")
    return answer


def ask_all(backend: Backend, method: str, wanted: type[T], *arguments: object) -> tuple[T, ...]:
    """As `ask`, of a method whose answer is a sequence."""
    answer = _call(backend, method, arguments)
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        raise _misfit(backend, method, f"a {type(answer).__name__}", f"{wanted.__name__} objects")
    for item in answer:
        if not isinstance(item, wanted):
            given = f"a sequence with a {type(item).__name__}"
            raise _misfit(backend, method, given, f"{wanted.__name__} objects")
    return tuple(answer)


def _call(backend: Backend, method: str, arguments: Sequence[object]) -> Any:  # noqa: ANN401 # checked by the caller
    try:
        return getattr(backend, method)(*arguments)
    except AccelError:
        raise
    except Exception as error:
        raise Internal(
            f"{method}() raised {type(error).__name__}: {error}",
            backend=backend.info.name,
            remedy=_REMEDY,
        ) from error


def _misfit(backend: Backend, method: str, given: str, wanted: str) -> Internal:
    return Internal(
        f"{method}() returned {given} instead of {wanted}",
        backend=backend.info.name,
        remedy=_REMEDY,
    )
