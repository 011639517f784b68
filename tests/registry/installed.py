"""Really installed little plugins: a module and its dist-info in a folder on the path."""

import json
import subprocess
import sys
import textwrap

GOOD = """
from accelsdk.backend.backend import NATIVE, Backend
from accelsdk.backend.info import API_VERSION, BackendInfo, Discovery, Target
from accelsdk.hookspecs import hookimpl

class Little(Backend):
    NAME, VERSION = {name!r}, {version}
    @property
    def info(self):
        return BackendInfo(name=self.NAME, vendor="tests", version="1", api_version=self.VERSION)
    def targets(self, options): return [Target(name="little")]
    def enumerate_devices(self, options): return Discovery(devices=(), reason="none here")
    def supports(self, graph, node, target): return NATIVE
    def compile(self, graph, target, options, pack): raise NotImplementedError
    def open(self, device, options): raise NotImplementedError

@hookimpl
def accelsdk_backends():
    return [Little()]
"""


def good(name, version="API_VERSION", more=""):
    """Source of a plugin that works, with more text behind it."""
    return GOOD.format(name=name, version=version) + textwrap.dedent(more)


def install(folder, name, source, *, group="accelsdk.plugins.v1", version="0.3"):
    """Installs a distribution ``name`` whose one module is published as a plugin."""
    module = f"plugin_{name}"
    folder.joinpath(f"{module}.py").write_text(source, encoding="utf-8")
    info = folder / f"dist_{name}-{version}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: dist_{name}\nVersion: {version}\n", encoding="utf-8"
    )
    info.joinpath("entry_points.txt").write_text(
        f"[{group}]\n{name} = {module}\n", encoding="utf-8"
    )


SCRIPT = """
import dataclasses, json, sys
sys.path.insert(0, {folder!r})
from accelsdk.registry import Registry
found = Registry.discover()
{then}
print(json.dumps({{
    "plugins": {{key: dataclasses.asdict(record) for key, record in
                zip(sorted(found._records), found.plugins)}},
    "backends": [backend.info.name for backend in found.backends],
    "modules": sorted(sys.modules),
}}))
"""


def discover(folder, then=""):
    """Discovers in a fresh process with ``folder`` on its path; returns what it found."""
    script = SCRIPT.format(folder=str(folder), then=textwrap.dedent(then))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
