"""Random programs on the whole API: by one thread, and by several at once."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from accelsdk.errors import AccelError
from accelsdk.runtime.executable import LoadedExecutable
from accelsdk_conformance.problem import NotApplicable
from accelsdk_conformance.scenarios.lab import Broken, Lab

if TYPE_CHECKING:
    from accelsdk_conformance.scenarios.machine import Machine

_PROGRAM = 40  # steps that a failure tells at most
_SHRINKING = 6.0  # seconds for which a failure is shrunk
#: What went wrong, and the steps of the program.
_Failing = tuple[Exception, list[str]]


class _Enough(BaseException):
    """Ends the search for a shorter program."""


def programs(lab: Lab) -> None:
    """Random programs behave as the model says; one that does not is shrunk and told.

    Parameters of the case: ``examples`` programs of up to ``steps`` steps.
    """
    try:
        from accelsdk_conformance.scenarios.machine import HALF, WHOLE
        from accelsdk_conformance.scenarios.seeded import BACKEND
    except ModuleNotFoundError as error:
        raise NotApplicable(
            f"{error.name} is not installed (pip install 'accelsdk[conformance]')"
        ) from error
    from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
    from hypothesis.errors import Flaky
    from hypothesis.stateful import run_state_machine_as_test

    devices = lab.client.devices[:2]
    if len({device.target.name for device in devices}) > 1:
        devices = devices[:1]
    turn = lab.client.compile(
        lab.graph([WHOLE], lambda make, x: make.op("Transpose", x, perm=(1, 0)))
    )
    join = lab.client.compile(
        lab.graph([HALF, HALF], lambda make, *x: make.op("Concat", *x, axis=0))
    )
    loaded = [(lab.client.load(turn, d), lab.client.load(join, d)) for d in devices]
    found: list[_Failing] = []
    try:
        run_state_machine_as_test(
            seed(lab.seed)(_machine(lab, loaded, found)),
            settings=settings(
                backend=BACKEND,
                max_examples=int(lab.parameters["examples"]),
                stateful_step_count=int(lab.parameters["steps"]),
                deadline=None,
                database=None,
                derandomize=False,
                report_multiple_bugs=False,
                verbosity=Verbosity.quiet,
                phases=(Phase.generate, Phase.shrink),
                suppress_health_check=tuple(HealthCheck),
            ),
        )
    except (Broken, AccelError, Flaky, _Enough) as error:
        if not found:
            raise
        wrong, steps = found[-1]
        raise Broken(f"{wrong}; the program: {'; '.join(steps[-_PROGRAM:])}") from error
    finally:
        for pair in loaded:
            for program in pair:
                program.delete()


def _machine(
    lab: Lab, loaded: list[tuple[LoadedExecutable, LoadedExecutable]], found: list[_Failing]
) -> type[Machine]:
    """Returns the machine on a lab; it adds each program that fails and is no longer to ``found``.

    Once one has failed, shorter ones are sought for a while.
    """
    from accelsdk_conformance.scenarios.machine import Machine

    until = [float("inf")]

    class Bound(Machine):
        def __init__(self) -> None:
            if time.monotonic() > until[0]:
                raise _Enough
            super().__init__()

        def teardown(self) -> None:
            error = sys.exc_info()[1]  # what a rule has raised, if one has
            try:
                super().teardown()
            except Exception as own:
                error = error or own
                raise
            finally:
                if isinstance(error, Exception):
                    until[0] = min(until[0], time.monotonic() + _SHRINKING)
                    if not found or len(self.steps) <= len(found[-1][1]):
                        found.append((error, self.steps))

    Bound.lab, Bound.programs = lab, loaded
    return Bound
