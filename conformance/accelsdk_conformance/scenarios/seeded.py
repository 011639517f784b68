"""Random choices that follow from the seed alone."""

from __future__ import annotations

from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

#: Name of the backend, for Hypothesis' settings.
BACKEND = "accelsdk-seeded"


class Seeded(HypothesisProvider):
    """Draws as Hypothesis does, without the constants of the modules that are loaded.

    Hypothesis now and then draws a number that it has read in the source of a loaded module
    that is not installed, such as a plugin in development. Equal seeds would make other
    programs on other machines, and after other cases.
    """

    def _maybe_draw_constant(self, *_: object, **__: object) -> None:
        return None


AVAILABLE_PROVIDERS[BACKEND] = f"{__name__}.{Seeded.__name__}"
