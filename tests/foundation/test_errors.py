"""Every error says what, where and the remedy; the tree at the top of the file is the tree."""

import inspect
import re

import pytest

from accelsdk import errors
from accelsdk.errors import AccelError, Code, OutOfMemory, UnsupportedGraph

CLASSES = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, AccelError)
]


def test_text_names_place_and_remedy():
    error = AccelError("it broke", backend="acme", device="acme:0", node="conv1", remedy="mend it")
    assert str(error) == "it broke [backend acme, device acme:0, node conv1] (mend it)"


def test_out_of_memory_carries_the_numbers():
    error = OutOfMemory(requested=1000, in_use=300, limit=1024)
    assert (error.requested, error.in_use, error.limit) == (1000, 300, 1024)
    assert error.retryable
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert "724 free" in str(error)


def test_refused_graph_lists_every_reason():
    error = UnsupportedGraph("2 nodes refused", reasons=["a: no", "b: never"])
    assert "a: no" in str(error)
    assert "b: never" in str(error)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_drawn_tree_is_the_real_one(cls):
    lines = (errors.__doc__ or "").splitlines()
    drawn = {}
    stack = []
    for line in lines:
        if match := re.match(r"    ([│├└─ ]*)(\w+)", line):
            depth = len(match.group(1)) // 4
            stack[depth:] = [match.group(2)]
            drawn.setdefault(match.group(2), stack[depth - 1] if depth else "Exception")
    assert drawn[cls.__name__] == cls.__bases__[0].__name__
    retryable_drawn = any(cls.__name__ in line and "[retryable]" in line for line in lines)
    assert retryable_drawn == cls.retryable
