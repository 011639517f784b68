"""The examples run, and print what they promise."""

import subprocess
import sys

import pytest

from tests.docs.pages import ROOT

EXPECTED = {
    "two_cards.py": "[ 2. 10. 18. 26.]",
    "block_formats.py": "float4_e2m1fn",
}


def test_every_example_is_listed():
    assert sorted(EXPECTED) == sorted(path.name for path in (ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("name", EXPECTED)
def test_example_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert EXPECTED[name] in done.stdout
