"""Damages models and imports them: never a crash, a hang or a memory blow-up.

    python -m tests.compiler.fuzz_importer --count 20000 --seed 1 [--real]

Each case is imported and lowered in a child process with a limit on its address space, a few
hundred cases a child. Whatever is not a graph or an AccelError that says what is wrong is a
finding; so is a child that dies or does not answer. A finding prints the seed that makes it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import traceback
from collections import Counter
from pathlib import Path

from accelsdk.compiler import pipeline
from accelsdk.errors import AccelError
from tests.compiler import fuzz_models

#: Seconds of processor time that one case may take (a loop of 100,000 nodes takes ten), and
#: bytes that importing may add to the address space.
SECONDS, ROOM = 40, 1 << 30
#: What the importer says when it knows nothing better.
VAGUE = "the model is not valid: "
_BATCH = 250


class Hang(BaseException):
    """A case took longer than it may."""


def _alarm(*_: object) -> None:
    raise Hang


def corpus(real: bool) -> list[tuple[str, bytes]]:
    """The models that are damaged: small ones, and those real ones whose packages are here."""
    found = [(name, made.SerializeToString()) for name, made in fuzz_models.small().items()]
    if real:
        sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
        from zoo import EVERY, Missing

        for model in EVERY:
            try:
                found.append((model.name, Path(model.file()).read_bytes()))
            except Missing:
                continue
    return found


def attempt(data: bytes) -> str | None:
    """Imports one model; returns what is wrong with how that went, or None."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        pipeline.to_core(data)
    except AccelError as error:
        causes = _causes(error)
        if any(isinstance(cause, MemoryError) for cause in causes):
            return f"memory: {error}"
        if error.message.startswith(VAGUE):
            return f"vague: {_place(causes[-1])}: {error}"
    except Hang:
        return "hang"
    except RecursionError as error:
        return f"recursion: {_place(error)}"
    except Exception as error:
        return f"escaped: {_place(error)}: {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def _causes(error: BaseException) -> list[BaseException]:
    found = [error]
    while found[-1].__cause__ is not None:
        found.append(found[-1].__cause__)
    return found


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((f for f in reversed(frames) if "accelsdk" in f.filename), frames[-1])
    return f"{Path(frame.filename).name}:{frame.lineno} {type(error).__name__}"


def case(seed: int, models: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """The damaged model of a seed, and the name of what it was made of."""
    rng = random.Random(seed)
    name, data = models[rng.randrange(len(models))]
    return name, fuzz_models.mutated(rng, data)


def limit() -> None:
    """Limits what this process may still allocate."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGPROF, _alarm)


def _child(first: int, count: int, real: bool) -> None:
    """Runs some seeds; a line before each, so that the parent knows which one kills."""
    models = corpus(real)
    bombs = list(fuzz_models.bombs().items()) if first < 0 else []
    limit()
    cases = (
        [(name, made.SerializeToString(), name) for name, made in bombs]
        if first < 0
        else ((*case(seed, models), str(seed)) for seed in range(first, first + count))
    )
    for name, data, which in cases:
        _say(f"> {which}")
        wrong = attempt(data)
        if wrong is not None:
            _say(f"! {which} ({name}): {' '.join(wrong.split())[:400]}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def fuzz(seed: int, count: int, real: bool = False) -> list[str]:
    """Runs seeds in child processes; returns a line for each finding.

    Args:
        seed: First seed; -1 for the bombs, whatever ``count`` is.
        count: How many.
        real: Whether real models are damaged, too.
    """
    findings, done = [], 0
    while done < count:
        first = seed if seed < 0 else seed + done
        step = count if seed < 0 else min(_BATCH, count - done)
        command = [sys.executable, "-m", "tests.compiler.fuzz_importer", "--child"]
        command += [f"--seed={first}", f"--count={step}", *(["--real"] if real else [])]
        root = Path(__file__).parents[2]
        try:
            ran = subprocess.run(
                command, capture_output=True, text=True, cwd=root, timeout=60 + SECONDS * step
            )
            output, code = ran.stdout, ran.returncode
        except subprocess.TimeoutExpired as error:
            output, code = (error.stdout or b"").decode(), -1
        lines = output.splitlines()
        findings += [line[2:] for line in lines if line.startswith("! ")]
        started = [line[2:] for line in lines if line.startswith("> ")]
        if code == 0:
            done += step
            continue
        which = started[-1] if started else "before the first"
        findings.append(f"{which}: the process ended with {code}: {ran.stderr[-300:]}")
        done += max(len(started), 1)
        if seed < 0:
            break
    return findings


def main() -> int:
    """Runs as many cases as asked for, and says what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="damage real models, too")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _child(given.seed, given.count, given.real)
        return 0
    findings = fuzz(-1, 1) + fuzz(given.seed, given.count, given.real)
    for finding in findings:
        _say(finding)
    kinds = Counter(f.split(": ")[1] if ": " in f else f for f in findings)
    _say(f"{given.count} cases and the bombs: {len(findings)} findings {dict(kinds)}")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
