"""What a run is made of: plain data that the parent sends to its workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType

from accelsdk.backend.info import OptionValue

TOGETHER = 16  # cases that share a program, unless it is said otherwise (decision 13)

_NOTHING: Mapping[str, OptionValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """How a failing case is looked at more closely; see `study`.

    Attributes:
        repeats: How often it is run again on the same unit.
        budget: Executions that shrinking may take; 0 leaves the input as it is.
        folder: Where replay folders are written, one for each failure; empty writes none.
        limit: Failures of a run that are looked at.
    """

    repeats: int = 5
    budget: int = 400
    folder: str = ""
    limit: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How cases are run.

    Attributes:
        plugin: Name of the backend, as for ``accelsdk.connect``.
        options: Its options, as given.
        seed: Added to every case's own seed.
        timeout: Seconds that one case may take, or those that share a program, before the worker
            is ended.
        jobs: Worker processes.
        together: Cases that share a program, at most; see `together`.
        device: Index of the device among those of the plugin.
        retests: In fleet mode, where each problem is run twice, how often a failing one is run
            again on its unit; None is no fleet mode.
        study: Look at failing cases instead of running cases; None runs them.
    """

    plugin: str
    options: Mapping[str, OptionValue] = field(default_factory=lambda: _NOTHING)
    seed: int = 0
    timeout: float = 30.0
    jobs: int = 2
    together: int = TOGETHER
    device: int = 0
    retests: int | None = None
    study: Study | None = None

    def to_json(self) -> str:
        """Returns the settings as one line of JSON."""
        data = {name: getattr(self, name) for name in _NAMES}
        study = None if self.study is None else asdict(self.study)
        return json.dumps(data | {"options": dict(self.options), "study": study})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Reads what `to_json` wrote."""
        data = json.loads(text)
        study = data.pop("study")
        return cls(**data, study=None if study is None else Study(**study))

    def command(self) -> str:
        """Returns the command that runs on the same plugin, with its options."""
        options = "".join(
            f" --option {quoted(f'{key}={value}')}" for key, value in sorted(self.options.items())
        )
        device = f" --device {self.device}" if self.device else ""
        seed = f" --seed {self.seed}" if self.seed else ""
        return f"accelsdk conformance --plugin {self.plugin}{options}{device}{seed}"

    def replay(self, *ids: str) -> str:
        """Returns the command that runs one case again, alone, or several in one program."""
        return self.command() + "".join(f" --replay {quoted(case_id)}" for case_id in ids)


_NAMES = tuple(item.name for item in fields(Settings))


def quoted(text: str) -> str:
    """Returns a word as a shell reads it."""
    plain = all(sign.isalnum() or sign in "/_.-=:+" for sign in text)
    return text if plain else "'" + text.replace("'", "'\\''") + "'"
