"""The names that accelsdk promises."""

import importlib

import pytest

import accelsdk

TEXT = """
AccelError Buffer CancelToken Cancelled Client DataLoss DeadlineExceeded Device DeviceFault Event
Executable ExecuteOptions FailedPrecondition Graph GraphError IncompatibleProgram InferenceSession
Internal InvalidArgument IoBinding LoadedExecutable Memory ModelError NotFound OutOfMemory
PluginError Result Semaphore Stream TensorType Timepoint Unavailable Unimplemented
UnsupportedGraph by_name connect open_program
"""
NAMES = TEXT.split()


def test_public_names_are_pinned():
    assert accelsdk.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_where_it_says(name):
    home = accelsdk._HOMES[name]
    assert getattr(accelsdk, name) is getattr(importlib.import_module(home), name)


def test_no_name_is_hidden_by_a_submodule():
    for name in NAMES:
        assert importlib.util.find_spec(f"accelsdk.{name}") is None


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        _ = accelsdk.conect
