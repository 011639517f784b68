"""Random programs on the whole API: by one thread, and by several at once."""

from __future__ import annotations

from accelsdk_conformance.problem import NotApplicable
from accelsdk_conformance.scenarios.lab import Broken, Lab

_PROGRAM = 40  # steps that a failure tells at most


def programs(lab: Lab) -> None:
    """Random programs behave as the model says; one that does not is shrunk and told.

    Parameters of the case: ``examples`` programs of up to ``steps`` steps.
    """
    try:
        from accelsdk_conformance.scenarios.machine import HALF, WHOLE, Machine
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
    told: list[str] = []

    class Bound(Machine):
        """The machine on this lab."""

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                told[:] = self.steps

    Bound.lab, Bound.programs = lab, loaded
    try:
        run_state_machine_as_test(
            seed(lab.seed)(Bound),
            settings=settings(
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
    except Broken as error:
        raise Broken(f"{error}; the program: {'; '.join(told[-_PROGRAM:])}") from error
    except Flaky as error:
        raise Broken(
            f"a program behaves now so, now otherwise: {'; '.join(told[-_PROGRAM:])}"
        ) from error
    finally:
        for pair in loaded:
            for program in pair:
                program.delete()
