"""Stand-ins for a device, and a little plugin that misbehaves."""

from pathlib import Path

from accelsdk_conformance.stand_ins import Changed, Perfect, answer

__all__ = ["Changed", "Perfect", "answer", "install_faulty"]

_PLUGIN = """
import os, signal, time
from accelsdk.hookspecs import hookimpl
from accelsdk_reference_cpu.backend import ReferenceCpu
from dataclasses import replace


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


def install_faulty(folder: Path) -> None:
    """Writes the plugin as an installed distribution, found through PYTHONPATH."""
    (folder / "faulty_plugin.py").write_text(_PLUGIN)
    info = folder / "faulty_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[accelsdk.plugins.v1]\nfaulty = faulty_plugin\n")
