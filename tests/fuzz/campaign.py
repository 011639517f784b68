"""Runs many seeds in processes of their own, and adds up what was compared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from accelsdk.graph.text import print_graph
from tests.fuzz.checks import Bench, Difference
from tests.fuzz.generator import Case, generate
from tests.fuzz.shrink import shrunk

#: Seeds that one process runs, and the seconds that each may take.
_BATCH, _SECONDS = 250, 10
#: Comparisons of even and of odd seeds: the two that take longest take turns.
_TURNS = (
    ("kernels", "reference_cpu", "sim_card", "onnxruntime", "onnxruntime_cpu"),
    ("kernels", "reference_cpu", "sim_card", "onnxruntime", "partition"),
)


@dataclass
class Report:
    """What a run compared and found.

    Attributes:
        graphs: How many.
        counts: By a path of words joined with ``/``.
        findings: Texts: what differs, the smallest graph, and how to see it again.
    """

    graphs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Adds what another run did."""
        self.graphs += other.graphs
        self.counts.update(other.counts)
        self.findings += other.findings


def fuzz(
    seed: int, count: int, *, checks: Sequence[str] = (), defect: str = "", announce: bool = False
) -> Report:
    """Runs seeds in this process.

    Args:
        seed: The first.
        count: How many.
        checks: Names of comparisons; none stands for all.
        defect: Of the simulated card, to see that it is found.
        announce: Whether each seed is printed before it is run.
    """
    report = Report()
    with Bench(defect) as bench:
        for number in range(seed, seed + count):
            if announce:
                sys.stdout.write(f"> {number}\n")
                sys.stdout.flush()
            case = generate(number)
            report.graphs += 1
            report.counts[f"mode/{case.mode}"] += 1
            report.counts.update(f"op/{node.op}" for node in case.graph.nodes)
            for name in checks or _TURNS[number % 2]:
                found = _found(bench, name, case)
                report.counts[f"implementations/{name}"] += 1
                if found:
                    report.findings.append(_told(bench, name, case, found[0]))
        for name, tally in bench.tallies.items():
            for what in ("elements", "free", "loose"):
                report.counts[f"{name}/{what}"] += getattr(tally, what)
            report.counts[f"{name}/nodes"] += sum(tally.nodes.values())
            report.counts.update({f"free/{op}": n for op, n in tally.free_by_op.items() if n})
        report.counts.update({f"left out/{why}": n for why, n in bench.left_out.items()})
        report.counts["rewritten"] += bench.rewritten
    return report


def _found(bench: Bench, name: str, case: Case) -> list[Difference]:
    try:
        return list(bench.checks()[name](case))
    except Exception as error:  # whatever it is, it is a finding
        return [Difference(name, f"{type(error).__name__}: {error}")]


def _told(bench: Bench, name: str, case: Case, first: Difference) -> str:
    def check(smaller: Case) -> list[Difference]:
        return _found(bench, name, smaller)

    small, how = shrunk(case, first, check)
    lines = [f"{how.check} ({case.mode}): {how.text}", print_graph(small.graph).rstrip()]
    with np.printoptions(threshold=20, edgeitems=3):
        lines += [f"  {n} = {a.tolist() if a.size <= 12 else a}" for n, a in small.feeds.items()]
        lines += [
            f"  {c.name} = {c.array().tolist() if c.value.type.count <= 12 else c.array()}"
            for c in small.graph.constants
        ]
    lines.append(f"  again: python -m tests.fuzz --seed {case.seed} --count 1 --check {name}")
    return "\n".join(lines)


# -- many processes --------------------------------------------------------------------------


def campaign(
    seed: int, count: int, jobs: int, checks: Sequence[str] = (), defect: str = ""
) -> Iterator[Report]:
    """Runs seeds in processes, which may crash; yields the report of each batch."""
    starts = range(seed, seed + count, _BATCH)
    with ThreadPoolExecutor(jobs) as pool:
        batches = [
            pool.submit(_batch, start, min(_BATCH, seed + count - start), checks, defect)
            for start in starts
        ]
        for batch in batches:
            yield batch.result()


def _batch(seed: int, count: int, checks: Sequence[str], defect: str) -> Report:
    report, end = Report(), seed + count
    while seed < end:
        part, seed = _process(seed, end, checks, defect)
        report.add(part)
    return report


def _process(seed: int, end: int, checks: Sequence[str], defect: str) -> tuple[Report, int]:
    """Runs seeds in one process; returns the report, and the seed to go on with."""
    command = [sys.executable, "-m", "tests.fuzz", "--child", f"--seed={seed}"]
    command += [f"--count={end - seed}", f"--defect={defect}"]
    command += [f"--check={name}" for name in checks]
    root = Path(__file__).parents[2]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=root, timeout=60 + _SECONDS * (end - seed)
        )
        output, errors, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as error:
        output, errors, code = (error.stdout or b"").decode(), "no answer in time", -1
    *lines, last = output.splitlines() or [""]
    if code == 0:
        found = json.loads(last)
        return Report(found["graphs"], Counter(found["counts"]), found["findings"]), end
    started = [int(line[2:]) for line in (*lines, last) if line.startswith("> ")]
    at = started[-1] if started else seed
    text = f"the process ended with {code}: {errors[-800:]}\n  again: "
    text += f"python -m tests.fuzz --seed {at} --count 1"
    before = Report()
    if at > seed:  # once more, up to the seed that ended it
        before, _ = _process(seed, at, checks, defect)
    before.add(Report(1, Counter(), [text]))
    return before, at + 1
