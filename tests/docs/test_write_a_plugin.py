"""Follows docs/write-a-plugin.md in an empty folder, to the letter."""

import os
import subprocess
import sys

import pytest

from tests.docs.pages import blocks

PAGE = "docs/write-a-plugin.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Environment variables under which the tutorial's plugin is installed."""
    project = tmp_path_factory.mktemp("project")
    for block in blocks(PAGE):
        if block.info:  # the name of the file that the block is
            file = project / block.info
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(project)], check=True)
    return {**os.environ, "PYTHONPATH": str(site)}


def accelsdk(environment, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "accelsdk", *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_plugin_is_discovered(installed, tmp_path):
    done = accelsdk(installed, "plugins", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "acme" in done.stdout


def test_doctor_is_content(installed, tmp_path):
    done = accelsdk(installed, "doctor", "--plugin", "acme", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_smoke_passes(installed, tmp_path):
    done = accelsdk(installed, "conformance", "--plugin", "acme", "--level", "smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_shows_the_commands_that_are_tested():
    shown = "\n".join(block.text for block in blocks(PAGE) if block.language == "bash")
    for command in ("plugins", "doctor --plugin acme", "conformance --plugin acme --level smoke"):
        assert f"accelsdk {command}" in shown
