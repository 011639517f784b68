import subprocess
import sys

import pytest

import accelsdk
from accelsdk.errors import NotFound, PluginError
from accelsdk.registry import Registry, Status, registry
from tests.registry.installed import good, install


def test_the_bundled_plugins_are_found():
    records = {record.name: record for record in registry().plugins}
    for name in ("reference_cpu", "sim_card"):
        assert records[name].status is Status.OK
        assert records[name].distribution == "accelsdk"


def test_the_registry_is_discovered_once():
    assert registry() is registry()


def test_an_unknown_backend_gets_a_suggestion():
    with pytest.raises(NotFound, match=r"no backend 'simcard' .*did you mean 'sim_card'\?"):
        accelsdk.connect("simcard")


def test_an_unknown_backend_unlike_any_gets_the_list():
    with pytest.raises(NotFound, match=r"no backend 'q' \(installed: .*reference_cpu, sim_card"):
        accelsdk.connect("q")


def test_a_quarantined_backend_says_why(tmp_path, monkeypatch):
    install(tmp_path, "shattered", "1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    found = Registry.discover()
    with pytest.raises(PluginError, match=r"'shattered' is quarantined: .*ZeroDivisionError"):
        found.backend("shattered")


def test_a_backend_is_used_without_its_bundle_knowing_it(tmp_path, monkeypatch):
    install(tmp_path, "newcomer", good("newcomer"))
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry.discover().backend("newcomer").info.vendor == "tests"


def test_an_unknown_option_lists_the_options():
    with pytest.raises(NotFound, match=r"no option 'defekt'.*options: .*defect"):
        accelsdk.connect("sim_card", {"defekt": "x"})


def test_importing_the_registry_loads_no_plugin():
    code = "import accelsdk.registry, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"accelsdk_sim_card", "accelsdk_reference_cpu", "onnx"} & set(done.stdout.split())
