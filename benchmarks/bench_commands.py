"""What people wait for: ``accelsdk --help`` and a standard conformance run.

    python benchmarks/bench_commands.py

Wall time is the median of several runs; memory is the largest sum of proportional set sizes
of the command and its workers, sampled while it runs (Linux).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "accelsdk --help": (["--help"], 7),
    "conformance --plugin sim_card --level smoke": (
        ["conformance", "--plugin", "sim_card", "--level", "smoke"],
        3,
    ),
    "conformance --plugin sim_card": (["conformance", "--plugin", "sim_card"], 1),
    "conformance --plugin reference_cpu": (["conformance", "--plugin", "reference_cpu"], 1),
}


def main() -> None:
    """Prints one Markdown table."""
    print("| command | seconds | peak MiB | exit code |")
    print("|---|---|---|---|")
    for name, (arguments, runs) in COMMANDS.items():
        results = [measure(arguments) for _ in range(runs)]
        seconds = statistics.median(result[0] for result in results)
        peak = max(result[1] for result in results)
        codes = {result[2] for result in results}
        print(f"| `{name}` | {seconds:.2f} | {peak / 2**20:.0f} | {codes} |")


def measure(arguments: list[str]) -> tuple[float, int, int]:
    """Runs a command once; returns seconds, peak bytes and exit code."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "accelsdk", *arguments],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(resident, family(process.pid))))
            time.sleep(0.02)
        return time.perf_counter() - start, peak, process.returncode


def family(pid: int) -> list[int]:
    """Returns a process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        direct = [int(word) for word in children.read_text().split()]
    except OSError:
        return [pid]  # it ended in the meantime
    return [pid, *(member for child in direct for member in family(child))]


def resident(pid: int) -> int:
    """Returns the proportional set size of a process, bytes; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
