"""Values that inputs of a model are bound to when it is read."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from accelsdk.errors import InvalidArgument
from accelsdk.formats import Format
from accelsdk.graph.graph import Array


def bound(name: str, given: ArrayLike, format: Format) -> Array:
    """Returns a value for an input, converted to its format.

    Args:
        name: Of the input.
        given: Numbers; to floats they are rounded.
        format: Of the input.

    Raises:
        InvalidArgument: They are no numbers, or an integer input cannot hold them.
    """
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise _misfit(name, f"cannot be made an array: {error}", format) from None
    if array.dtype == format.dtype:
        return array
    if array.dtype.kind not in "biufV":
        raise _misfit(name, f"is of {array.dtype}", format)
    with np.errstate(all="ignore"):  # what does not fit is found below
        cast: Array = array.astype(format.dtype)
        exact = bool((cast.astype(array.dtype) == array).all())
    if not exact and not format.is_float:
        raise _misfit(name, "has items that do not fit", format)
    return cast


def _misfit(name: str, what: str, format: Format) -> InvalidArgument:
    return InvalidArgument(
        f"the value bound to input {name!r} {what}; the input is {format}",
        remedy=f"give numbers that {format} holds",
    )
