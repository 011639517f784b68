"""``pytest --pyargs accelsdk_conformance --accel-plugin NAME``: the same cases, as pytest items.

Loaded into every pytest run of an environment where accelsdk is installed, so nothing heavy is
imported before a conformance run is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from accelsdk_conformance.settings import Settings
    from accelsdk_conformance.subject import ClientSubject


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options that name the plugin and choose the cases."""
    group = parser.getgroup("accelsdk conformance")
    group.addoption("--accel-plugin", default="", help="backend to judge")
    group.addoption("--accel-option", action="append", default=[], help="NAME=VALUE; repeatable")
    group.addoption("--accel-profile", action="append", default=[], help="repeatable; default all")
    group.addoption("--accel-level", default="standard", choices=["smoke", "standard"])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes one test of every case."""
    if "conformance_case" not in metafunc.fixturenames:
        return
    from accelsdk_conformance.case import Level, Profile, select
    from accelsdk_conformance.catalogue import collect
    from accelsdk_conformance.vendor import vendor_case_files

    if not metafunc.config.getoption("--accel-plugin"):
        raise pytest.UsageError("name the backend: --accel-plugin NAME")
    cases = select(
        collect(vendor_case_files()),
        profiles=[Profile(name) for name in metafunc.config.getoption("--accel-profile")],
        level=Level(metafunc.config.getoption("--accel-level")),
    )
    metafunc.parametrize("conformance_case", cases, ids=[case.id for case in cases])


@pytest.fixture(scope="session")
def conformance_settings(pytestconfig: pytest.Config) -> Settings:
    """Plugin and options, as given on the command line."""
    from accelsdk.cli.console import parse_options
    from accelsdk_conformance.settings import Settings

    options = parse_options(pytestconfig.getoption("--accel-option"))
    return Settings(plugin=pytestconfig.getoption("--accel-plugin"), options=options)


@pytest.fixture(scope="session")
def conformance_subject(conformance_settings: Settings) -> Iterator[ClientSubject]:
    """The plugin's first device, open for the whole session."""
    from accelsdk_conformance.subject import ClientSubject

    subject = ClientSubject(conformance_settings.plugin, conformance_settings.options)
    yield subject
    subject.close()
