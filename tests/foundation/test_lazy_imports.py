"""What an import must not load: people pay for start-up at every command."""

import subprocess
import sys

import pytest

HEAVY = ("numpy", "onnx", "typer", "rich", "ml_dtypes", "accelsdk_sim_card", "pytest")


def modules_after(statement):
    code = f"{statement}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("heavy", HEAVY)
def test_import_accelsdk_is_light(heavy):
    assert heavy not in modules_after("import accelsdk")


@pytest.mark.parametrize("heavy", ["numpy", "onnx", "ml_dtypes", "accelsdk_sim_card", "pytest"])
def test_help_loads_no_numerics(heavy):
    statement = "from accelsdk.cli.main import main; main(['--help'])"
    assert heavy not in modules_after(statement)


@pytest.mark.parametrize("plugin", ["accelsdk_reference_cpu.plugin", "accelsdk_sim_card.plugin"])
def test_registering_a_plugin_loads_no_model_reader(plugin):
    assert "onnx" not in modules_after(f"import {plugin}")
