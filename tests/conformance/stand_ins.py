"""Stand-ins for a device, and a little plugin that misbehaves."""

from pathlib import Path

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.formats import E8M0
from accelsdk.numerics.rounding import nan_code
from accelsdk_conformance.oracles.tensor import Tensor, encode
from accelsdk_conformance.problem import Exact


class Perfect:
    """Answers with what the oracle expects: it must pass every case."""

    def __init__(self, datasheet=None):
        self.datasheet = datasheet or NumericsDatasheet()

    def run(self, problem, poison):
        if problem.op != "QuantizeBlock":
            return tuple(answer(expected) for expected in problem.oracle(()))
        blank = Tensor(E8M0, np.zeros(0, np.uint8))
        scales = answer(problem.oracle((blank, blank))[1])
        return answer(problem.oracle((blank, scales))[0]), scales


class Changed(Perfect):
    """Answers with the right outputs after a change."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def run(self, problem, poison):
        return tuple(self.change(problem, out) for out in super().run(problem, poison))


def answer(expected):
    for _, acceptance in expected.tiers:
        if isinstance(acceptance, Exact):
            codes = acceptance.codes
            if acceptance.nan is not None and expected.format.has_nan:
                codes = np.where(acceptance.nan, nan_code(expected.format), codes)
            return Tensor(expected.format, codes.astype(acceptance.codes.dtype))
    within = expected.tiers[0][1]
    value = within.value.high.copy()
    for mask, shown in (
        (within.nan, np.nan),
        (within.positive, np.inf),
        (within.negative, -np.inf),
    ):
        if mask is not None:
            value[mask] = shown
    return encode(value, expected.format, low=within.value.low)


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
