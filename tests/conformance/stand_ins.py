"""Stand-ins for a device, and a little plugin that misbehaves."""

from pathlib import Path

from accelsdk_conformance.stand_ins import Changed, Perfect, answer

__all__ = ["Changed", "Perfect", "answer", "install_faulty", "install_sociable"]

_IMPORTS = """
import os, signal, time
from accelsdk.hookspecs import hookimpl
from accelsdk_reference_cpu.backend import ReferenceCpu
from dataclasses import replace
"""

_PLUGIN = """

class Faulty(ReferenceCpu):
    @property
    def info(self):
        return replace(super().info, name="faulty")

    def compile(self, graph, target, options, pack):
        ops = {node.op for node in graph.nodes}
        print("noise on standard output")
        if "Exp" in ops:
            os.kill(os.getpid(), signal.SIGKILL)
        if "Sqrt" in ops:
            time.sleep(600)
        if "Tanh" in ops:
            raise RuntimeError("the vendor library raised")
        return super().compile(graph, target, options, pack)


@hookimpl
def accelsdk_backends():
    return [Faulty()]
"""


_SOCIABLE = """

class Sociable(ReferenceCpu):
    @property
    def info(self):
        return replace(super().info, name="sociable")

    def compile(self, graph, target, options, pack):
        if len(graph.nodes) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().compile(graph, target, options, pack)


class Slow(ReferenceCpu):
    @property
    def info(self):
        return replace(super().info, name="slow")

    def compile(self, graph, target, options, pack):
        time.sleep(0.4 * len(graph.nodes))
        return super().compile(graph, target, options, pack)


@hookimpl
def accelsdk_backends():
    return [Sociable(), Slow()]
"""


def install_faulty(folder: Path) -> None:
    """Writes the plugin as an installed distribution, found through PYTHONPATH."""
    _install(folder, "faulty", _PLUGIN)


def install_sociable(folder: Path) -> None:
    """Writes plugins that mind programs of several nodes: one crashes, one takes long."""
    _install(folder, "sociable", _SOCIABLE)


def _install(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}_plugin.py").write_text(_IMPORTS + text)
    info = folder / f"{name}_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[accelsdk.plugins.v1]\n{name} = {name}_plugin\n")
