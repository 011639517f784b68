"""Writes down the vendor contract: every public name of `accelsdk.backend` and its shape."""

import dataclasses
import importlib
import inspect
import json
from enum import Enum
from pathlib import Path

MODULES = ("info", "backend", "driver", "program", "optional", "datasheet", "observer")
SNAPSHOT = Path(__file__).parent.parent / "data" / "contract-1.2.json"


def snapshot():
    """Returns the contract as plain data."""
    from accelsdk.backend.info import API_VERSION

    found = {}
    for name in (f"accelsdk.backend.{module}" for module in MODULES):
        module = importlib.import_module(name)
        for attribute, value in sorted(vars(module).items()):
            public = not attribute.startswith("_")
            if public and inspect.isclass(value) and value.__module__ == name:
                found[f"{name}.{attribute}"] = _describe(value)
    hooks = importlib.import_module("accelsdk.hookspecs")
    for attribute, value in sorted(vars(hooks).items()):
        if attribute.startswith("accelsdk_"):
            found[f"accelsdk.hookspecs.{attribute}"] = str(inspect.signature(value))
    return {"api_version": list(API_VERSION), "contract": found}


def _describe(cls):
    if issubclass(cls, Enum):
        return {member.name: member.value for member in cls}
    fields = (
        [f"{field.name}: {field.type}" for field in dataclasses.fields(cls)]
        if dataclasses.is_dataclass(cls)
        else []
    )
    methods = {
        name: str(inspect.signature(value))
        for name, value in sorted(vars(cls).items())
        if inspect.isfunction(value) and not name.startswith("_")
    }
    abstract = sorted(getattr(cls, "__abstractmethods__", ()))
    return {"fields": fields, "methods": methods, "abstract": abstract}


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(snapshot(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
