"""What a run is made of: plain data that the parent sends to its workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from accelsdk.backend.info import OptionValue

_NOTHING: Mapping[str, OptionValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How cases are run.

    Attributes:
        plugin: Name of the backend, as for ``accelsdk.connect``.
        options: Its options, as given.
        seed: Added to every case's own seed.
        timeout: Seconds that one case may take before its worker is ended.
        jobs: Worker processes.
    """

    plugin: str
    options: Mapping[str, OptionValue] = field(default_factory=lambda: _NOTHING)
    seed: int = 0
    timeout: float = 30.0
    jobs: int = 2

    def to_json(self) -> str:
        """Returns the settings as one line of JSON."""
        return json.dumps(
            {
                "plugin": self.plugin,
                "options": dict(self.options),
                "seed": self.seed,
                "timeout": self.timeout,
                "jobs": self.jobs,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Reads what `to_json` wrote."""
        return cls(**json.loads(text))

    def replay(self, case_id: str) -> str:
        """Returns the command that runs one case again, alone."""
        options = "".join(
            f" --option {_quoted(f'{key}={value}')}" for key, value in sorted(self.options.items())
        )
        seed = f" --seed {self.seed}" if self.seed else ""
        return (
            f"accelsdk conformance --plugin {self.plugin}{options}{seed} "
            f"--replay {_quoted(case_id)}"
        )


def _quoted(text: str) -> str:
    plain = all(sign.isalnum() or sign in "/_.-=:+" for sign in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"
