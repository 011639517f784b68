"""Compares random graphs on every implementation; see docs/fuzzing.md.

python -m tests.fuzz --count 20000 --seed 0 --jobs 2
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.fuzz.campaign import Report, campaign, fuzz

_CHECKS = (
    *("kernels", "reference_cpu", "sim_card", "onnxruntime", "onnxruntime_cpu", "partition"),
)


def main() -> int:
    """Runs as many graphs as asked for, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--check", action="append", choices=_CHECKS, default=[])
    parser.add_argument("--defect", default="", help="a defect of sim_card, to see it found")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        found = fuzz(
            given.seed, given.count, checks=given.check, defect=given.defect, announce=True
        )
        sys.stdout.write(json.dumps(vars(found)) + "\n")
        return 0
    total, start = Report(), time.monotonic()
    for part in campaign(given.seed, given.count, given.jobs, given.check, given.defect):
        total.add(part)
        for finding in part.findings:
            sys.stdout.write(f"{finding}\n\n")
            sys.stdout.flush()
        seconds = time.monotonic() - start
        told = f"{total.graphs} graphs, {len(total.findings)} findings, {seconds:.0f} s"
        sys.stderr.write(told + "\n")
    sys.stdout.write(table(total) + "\n")
    return 1 if total.findings else 0


def table(report: Report) -> str:
    """The figures of a run as text."""
    counts = report.counts
    modes = ", ".join(f"{n} {k[5:]}" for k, n in sorted(counts.items()) if k.startswith("mode/"))
    lines = [
        f"{report.graphs:,} graphs ({modes}), {len(report.findings)} differences",
        f"{'comparison':24} {'nodes':>10} {'elements':>12} {'free':>8} {'loose':>8}",
    ]
    for name in sorted(k[:-9] for k in counts if k.endswith("/elements")):
        shares = [counts[f"{name}/{what}"] / max(counts[f"{name}/elements"], 1) for what in _SHARES]
        row = f"{name:24} {counts[f'{name}/nodes']:10,} {counts[f'{name}/elements']:12,}"
        lines.append(f"{row} {shares[0]:8.2%} {shares[1]:8.2%}")
    lines.append(f"graphs rewritten with other bits: {counts['rewritten']}")
    for key, title in (("op/", "nodes by op"), ("free/", "free by op"), ("left out/", "left out")):
        rows = sorted((-n, k[len(key) :]) for k, n in counts.items() if k.startswith(key))
        lines.append(f"{title}: " + ", ".join(f"{name} {-n}" for n, name in rows))
    return "\n".join(lines)


_SHARES = ("free", "loose")

if __name__ == "__main__":
    sys.exit(main())
