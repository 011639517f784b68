"""A broken plugin is quarantined with cause and remedy, and the others go on working."""

import pytest

from tests.registry.installed import discover, good, install

HOOK = """
from accelsdk.hookspecs import hookimpl
{decorator}
def {name}():
    {body}
"""


def hook(body="return []", name="accelsdk_backends", decorator="@hookimpl"):
    return HOOK.format(body=body, name=name, decorator=decorator)


#: name: (source, what the cause says, what the remedy says)
BROKEN = {
    "missing": ("import surely_missing.part", "surely_missing", "pip install surely_missing"),
    "raising": ("1 / 0", "ZeroDivisionError", "report it to the vendor"),
    "exiting": ("raise SystemExit(3)", "SystemExit: 3", "report it to the vendor"),
    "syntax": ("def", "SyntaxError", "report it to the vendor"),
    "misspelt": (good("misspelt", more=hook(name="accelsdk_backend").lstrip()),
                 "no known hook accelsdk_backend", "did you mean accelsdk_backends"),
    "unmarked": (hook(decorator=""), "lacks the marker", "@hookimpl"),
    "arguments": ("from accelsdk.hookspecs import hookimpl\n@hookimpl\n"
                  "def accelsdk_backends(extra): return []", "does not fit", "hookspecs"),
    "hook_raises": (hook("raise OSError('no card')"), "OSError: no card", "vendor"),
    "wrong_type": (hook("return 7"), "returned a int", "sequence of Backend"),
    "wrong_items": (hook("return ['acme']"), "a sequence with str", "sequence of Backend"),
    "newer": (good("newer", "(2, 0)"), "speaks version 2", "update accelsdk"),
    "older": (good("older", "(0, 9)"), "speaks version 0", "update the plugin"),
    "bad_info": (good("bad_info").replace("return BackendInfo", "return dict"),
                 "is a dict", "return a BackendInfo"),
    "info_raises": (good("x").replace("return BackendInfo", "return 1 // 0 or BackendInfo"),
                    "ZeroDivisionError", "vendor"),
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Discovery with every broken plugin installed at once, among three that work."""
    folder = tmp_path_factory.mktemp("plugins")
    for name, (source, _, _) in BROKEN.items():
        install(folder, name, source)
    for name in ("aaa_first", "zzz_last"):
        install(folder, name, good(name))
    install(folder, "twin", good("aaa_first"))
    install(folder, "future", "raise SystemExit('imported')", group="accelsdk.plugins.v2")
    install(folder, "past", "raise SystemExit('imported')", group="accelsdk.plugins.v0")
    return discover(folder)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_quarantined_with_cause_and_remedy(found, name):
    record = found["plugins"][name]
    _, cause, remedy = BROKEN[name]
    assert record["status"] == "quarantined"
    assert cause in record["cause"]
    assert remedy in record["remedy"]
    assert record["backends"] == []
    assert (record["distribution"], record["version"]) == (f"dist_{name}", "0.3")


def test_the_others_go_on_working(found):
    assert {"aaa_first", "zzz_last", "reference_cpu", "sim_card"} <= set(found["backends"])
    assert found["plugins"]["zzz_last"]["status"] == "ok"
    assert found["plugins"]["zzz_last"]["backends"] == ["zzz_last"]
    assert not set(BROKEN) & set(found["backends"])


def test_a_backend_name_is_not_taken_twice(found):
    record = found["plugins"]["twin"]
    assert record["status"] == "quarantined"
    assert "'aaa_first' has the name of one of plugin 'aaa_first'" in record["cause"]


@pytest.mark.parametrize(
    ("name", "major", "remedy"),
    [("future", 2, "update accelsdk"), ("past", 0, "update the plugin")],
)
def test_another_major_version_is_reported_and_not_imported(found, name, major, remedy):
    record = found["plugins"][name]
    assert record["status"] == "other-version"
    assert f"speaks version {major}" in record["cause"]
    assert record["remedy"] == remedy
    assert f"plugin_{name}" not in found["modules"]


def test_a_hook_that_raises_later_quarantines_then(tmp_path):
    late = """
    @hookimpl
    def accelsdk_observers():
        raise ValueError("too late")
    """
    install(tmp_path, "late", good("late", more=late))
    install(tmp_path, "fine", good("fine"))
    found = discover(tmp_path, "assert found.observers() == ()")
    assert found["plugins"]["late"]["status"] == "quarantined"
    assert "accelsdk_observers raised ValueError: too late" in found["plugins"]["late"]["cause"]
    assert "late" not in found["backends"]
    assert "fine" in found["backends"]


def test_all_hooks_are_gathered(tmp_path):
    more = """
    from pathlib import Path
    from accelsdk.backend.observer import Observer
    @hookimpl
    def accelsdk_observers(): return [Observer()]
    @hookimpl
    def accelsdk_conformance_cases(): return (Path("cases.toml"),)
    @hookimpl
    def accelsdk_lowering_rules(): return []
    @hookimpl
    def accelsdk_composites(): return []
    """
    install(tmp_path, "full", good("full", more=more))
    found = discover(
        tmp_path,
        """
        assert len(found.observers()) == 1
        assert [str(path) for path in found.conformance_cases()] == ["cases.toml"]
        found.lowering_rules(), found.composites()
        """,
    )
    assert found["plugins"]["full"]["status"] == "ok"


def test_a_plugin_may_be_an_object(tmp_path):
    source = good("thing") + "\nclass Plugin:\n    accelsdk_backends = staticmethod("
    source += "accelsdk_backends)\nplugin = Plugin()\ndel accelsdk_backends\n"
    install(tmp_path, "thing", source)
    entry = tmp_path / "dist_thing-0.3.dist-info" / "entry_points.txt"
    entry.write_text("[accelsdk.plugins.v1]\nthing = plugin_thing:plugin\n", encoding="utf-8")
    assert "thing" in discover(tmp_path)["backends"]
