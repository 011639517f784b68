"""Damaged models and bombs: an error that says what is wrong, never a crash, hang or blow-up.

The long mode is ``python -m tests.compiler.fuzz_importer --count N --seed S``.
"""

import subprocess
import sys

import pytest

from accelsdk.compiler import importer
from tests.compiler import fuzz_models
from tests.compiler.fuzz_importer import fuzz


def test_bombs_are_refused_or_put_off():
    assert fuzz(-1, 1) == []


def test_damaged_models():
    assert fuzz(0, 150) == []


@pytest.mark.parametrize("name", sorted(fuzz_models.small().keys() - {"loops"}))
def test_what_is_damaged_was_good(name):
    assert importer.read(fuzz_models.small()[name]).outputs


@pytest.mark.parametrize("name", ["Range", "Resize-nan", "EyeLike", "recursion", "input"])
def test_the_command_prints_a_message_and_no_traceback(name, tmp_path):
    path = tmp_path / "bomb.onnx"
    path.write_bytes(fuzz_models.bombs()[name].SerializeToString())
    command = [sys.executable, "-m", "accelsdk", "explain", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode in (2, 3)
    assert "Traceback" not in ran.stdout + ran.stderr
    assert ran.stderr.strip()
