"""The published schema of report.json, and a check against it that needs no other package.

Covers the keywords that the schema uses, and refuses any other, so that a keyword added to the
schema cannot silently go unchecked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from accelsdk.errors import Unimplemented

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_WORDS = frozenset({"$schema", "$defs", "title", "description", "properties", "required"})

Found = Iterator[tuple[str, str]]


@cache
def schema() -> dict[str, Any]:
    """Returns the JSON schema of report.json."""
    text = (resources.files("accelsdk_conformance") / "report" / "schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def violations(data: object) -> Found:
    """Yields (place, what is wrong there) wherever data is not a report by the schema."""
    yield from _check(data, schema(), "")


def _check(data: object, rule: Mapping[str, Any], at: str) -> Found:
    if "$ref" in rule:
        rule = schema()["$defs"][rule["$ref"].rpartition("/")[2]]
    wanted = rule.get("type")
    if wanted is not None and not _is_one(data, wanted):
        yield at or ".", f"is {type(data).__name__}, not {_words(wanted)}"
        return
    for word, value in rule.items():
        if word == "type" or word in _WORDS:
            continue
        if word not in _CHECKS:
            raise Unimplemented(f"the schema uses {word!r}, which this check does not know")
        yield from _CHECKS[word](data, value, at, rule)
    if isinstance(data, dict):
        for name in rule.get("required", ()):
            if name not in data:
                yield at or ".", f"lacks {name!r}"
        for name, inner in rule.get("properties", {}).items():
            if name in data:
                yield from _check(data[name], inner, f"{at}.{name}")


def _is_one(data: object, wanted: str | list[str]) -> bool:
    names = [wanted] if isinstance(wanted, str) else wanted
    if isinstance(data, bool):
        return "boolean" in names
    return any(isinstance(data, _TYPES[name]) for name in names)


def _words(wanted: str | list[str]) -> str:
    return wanted if isinstance(wanted, str) else " or ".join(wanted)


def _additional(data: object, value: object, at: str, rule: Mapping[str, Any]) -> Found:
    for name in set(data) - set(rule.get("properties", ())) if isinstance(data, dict) else ():
        if value is False:
            yield at or ".", f"has {name!r}, which no report has"
        elif isinstance(value, dict) and isinstance(data, dict):
            yield from _check(data[name], value, f"{at}.{name}")


def _names(data: object, value: Mapping[str, Any], at: str, rule: Mapping[str, Any]) -> Found:
    for name in data if isinstance(data, dict) else ():
        yield from _check(name, value, f"{at}.{name}")


def _items(data: object, value: Mapping[str, Any], at: str, rule: Mapping[str, Any]) -> Found:
    for index, item in enumerate(data if isinstance(data, list) else ()):
        yield from _check(item, value, f"{at}[{index}]")


def _enum(data: object, value: list[object], at: str, rule: Mapping[str, Any]) -> Found:
    if data not in value:
        yield at, f"is {data!r}, not one of {', '.join(map(repr, value))}"


def _pattern(data: object, value: str, at: str, rule: Mapping[str, Any]) -> Found:
    if isinstance(data, str) and not re.search(value, data):
        yield at, f"is {data!r}, which does not match {value}"


def _minimum(data: object, value: float, at: str, rule: Mapping[str, Any]) -> Found:
    if isinstance(data, int | float) and not data >= value:  # NaN is not at least anything
        yield at, f"is {data}, less than {value}"


def _length(data: object, value: int, at: str, rule: Mapping[str, Any]) -> Found:
    if isinstance(data, str) and len(data) < value:
        yield at, "is empty"


_CHECKS: Mapping[str, Callable[[object, Any, str, Mapping[str, Any]], Found]] = {
    "additionalProperties": _additional,
    "propertyNames": _names,
    "items": _items,
    "enum": _enum,
    "pattern": _pattern,
    "minimum": _minimum,
    "minLength": _length,
}
