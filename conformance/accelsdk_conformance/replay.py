"""Replay folders: a failing problem with its operands and what was expected, standing alone.

A folder holds ``problem.json`` (case, op, attributes, formats, how to judge, settings),
``operands.npz`` and ``expected.npz`` (codes and bounds as NumPy arrays, no pickles) and
``README.txt`` with the command. ``accelsdk conformance --plugin NAME --replay FOLDER`` runs it,
on this or another plugin, though the generator that made it may have changed since. Where an
oracle must see the outputs first (MX elements are judged with the device's own scales) the
folder names its rule, a function of the suite, with its parameters. Only an oracle that has no
name, of a vendor's own generator, is asked for again with the folder's operands.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import AccelError, InvalidArgument
from accelsdk.formats import by_name
from accelsdk_conformance.case import Case
from accelsdk_conformance.examine import Attempt
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.tensor import Tensor, code_dtype
from accelsdk_conformance.problem import (
    Acceptance,
    Always,
    Context,
    Exact,
    Expected,
    Oracle,
    Problem,
    Promise,
    Step,
    Tier,
    Within,
    always,
)
from accelsdk_conformance.registry import generator
from accelsdk_conformance.seeing import Either, Seeing, named
from accelsdk_conformance.settings import Settings, quoted

#: Version of the folder's files; a reader refuses another.
FORMAT = 2
_KINDS: dict[str, type[Exact] | type[Within]] = {"exact": Exact, "within": Within}

Arrays = dict[str, NDArray[Any]]


def folder_name(case_id: str) -> str:
    """Returns the name of a case's replay folder."""
    return case_id.replace("/", "__")


def export(
    parent: str, name: str, case: Case, settings: Settings, problem: Problem, one: Attempt
) -> None:
    """Writes a replay folder, whole or not at all; one of the same name is replaced.

    Args:
        parent: Folder that the new one goes into.
        name: Of the new one.
        case: That failed.
        settings: Of the run.
        problem: What fails.
        one: How it failed.
    """
    folder = Path(parent) / name
    draft = Path(parent) / f".{name}.{os.getpid()}"
    draft.mkdir(parents=True)
    try:
        expected: Arrays = {}
        judged = _how_judged(problem.oracle, expected)
        operands = _codes("operand", problem.operands) | _codes("before", problem.before or ())
        if problem.promise is not None:
            operands |= _codes("promised", problem.promise.given.operands)
        outputs = {f"output{i}": out.codes for i, out in enumerate(one.outputs)}
        for stem, arrays in (("operands", operands), ("expected", expected), ("actual", outputs)):
            np.savez(draft / f"{stem}.npz", **arrays)  # type: ignore[arg-type] # none is allow_pickle
        data = _described(case, settings, problem, judged, one)
        (draft / "problem.json").write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
        command = f"{settings.command()} --replay {quoted(str(folder))}"
        (draft / "README.txt").write_text(
            f"{case.id}\n{one.result.status}: {one.result.reason}\n\nreplay: {command}\n"
        )
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    finally:
        if draft.exists():
            shutil.rmtree(draft)


def _codes(name: str, operands: tuple[Tensor | None, ...]) -> Arrays:
    return {f"{name}{i}": item.codes for i, item in enumerate(operands) if item is not None}


def _described(
    case: Case, settings: Settings, problem: Problem, judged: Mapping[str, Any], one: Attempt
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "case": json.loads(case.to_json()),
        "plugin": settings.plugin,
        "options": {key: str(value) for key, value in sorted(settings.options.items())},
        "device": settings.device,
        "seed": settings.seed,
        **_node(problem),
        "runs": problem.runs,
        "repeats": problem.repeats,
        "poison": problem.poison,
        "before": problem.before is not None,
        "promise": problem.promise
        and {"claim": problem.promise.claim, **_node(problem.promise.given)},
        **judged,
        "result": {k: v for k, v in one.result.as_data().items() if k != "seconds"},
    }


def _node(problem: Problem) -> dict[str, Any]:
    return {
        "op": problem.op,
        "attributes": _plain(problem.attributes),
        "then": [
            {
                "op": step.op,
                "attributes": _plain(step.attributes),
                "operands": list(step.operands),
            }
            for step in problem.then
        ],
        "operands": [None if item is None else item.format.name for item in problem.operands],
        "constants": sorted(problem.constants),
        "outputs": problem.outputs,
    }


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()
    }


def _attributes(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


def _how_judged(oracle: Oracle, arrays: Arrays) -> dict[str, Any]:
    """Stores what an oracle says; of one that must see the outputs, what it takes to ask it."""
    match oracle:
        case Always():
            return {"expected": [_judged(w, str(i), arrays) for i, w in enumerate(oracle.expected)]}
        case Either():
            return {
                "expected": None,
                "either": [
                    [_judged(want, f"{choice}.{i}", arrays) for i, want in enumerate(wanted)]
                    for choice, wanted in enumerate(oracle.choices)
                ],
            }
        case Seeing():
            return {"expected": None, "rule": {"name": oracle.name, "how": dict(oracle.how)}}
    return {"expected": None}


def _judged(want: Expected, index: str, arrays: Arrays) -> dict[str, Any]:
    tiers = []
    for tier, accept in want.tiers:
        kind = "exact" if isinstance(accept, Exact) else "within"
        names = f"{index}.{tier}"
        tiers.append({"tier": str(tier), "kind": kind, **_accepted(accept, names, arrays)})
        if tier is want.required:
            break  # looser ones say nothing of a failure
    return {
        "format": want.format.name,
        "shape": list(want.shape),
        "required": str(want.required),
        "claim": want.claim,
        "tiers": tiers,
    }


def _accepted(accept: Acceptance, prefix: str, arrays: Arrays) -> dict[str, Any]:
    """Stores the arrays of an acceptance; returns the names of them, and its plain fields."""
    stored: dict[str, str | list[str]] = {}
    plain: dict[str, Any] = {}
    for item in fields(accept):
        value = getattr(accept, item.name)
        name = f"{prefix}.{item.name}"
        if isinstance(value, tuple):  # a double-double, or further sets of codes
            stored[item.name] = [f"{name}.{i}" for i in range(len(value))]
            arrays.update({f"{name}.{i}": np.asarray(part) for i, part in enumerate(value)})
        elif isinstance(value, np.ndarray):
            stored[item.name] = name
            arrays[name] = value
        else:
            plain[item.name] = value
    return {"arrays": stored, "fields": plain}


def from_folder(case: Case, context: Context) -> Problem:
    """Generator of a replayed case: reads the folder that its parameters name.

    Raises:
        InvalidArgument: It is no replay folder of this version.
    """
    folder = Path(str(case.parameters["folder"]))
    data = _read(folder)
    operands = _operands(folder, data, "operand")
    how = {name: data[name] for name in ("runs", "repeats", "poison")}
    how["before"] = _operands(folder, data, "before") if data["before"] else None
    how["promise"] = _promise(folder, data["promise"]) if data["promise"] else None
    oracle = _oracle(folder, data, operands)
    if oracle is None:
        original = Case.from_json(json.dumps(data["case"]))
        made = generator(original.generator)(original, context)
        if made.remake is None:
            raise InvalidArgument(
                f"{folder}: its oracle needs the outputs, and the generator "
                f"{original.generator} makes no problem of other operands",
                remedy=f"replay the case itself: --replay {original.id}",
            )
        return replace(made.remake.make(operands), **how)
    return replace(_problem(data, operands, oracle), **how)


def _problem(
    data: Mapping[str, Any], operands: tuple[Tensor | None, ...], oracle: Oracle
) -> Problem:
    return Problem(
        op=data["op"],
        operands=operands,
        oracle=oracle,
        attributes=_attributes(data["attributes"]),
        outputs=data["outputs"],
        constants=frozenset(data["constants"]),
        then=tuple(
            Step(step["op"], _attributes(step["attributes"]), tuple(step["operands"]))
            for step in data["then"]
        ),
    )


def _promise(folder: Path, data: Mapping[str, Any]) -> Promise:
    """Returns a promise; what it runs is not judged, only taken or refused."""
    given = _problem(data, _operands(folder, data, "promised"), always())
    return Promise(data["claim"], given)


def _oracle(
    folder: Path, data: Mapping[str, Any], operands: tuple[Tensor | None, ...]
) -> Oracle | None:
    """Returns what judges, or None if the folder does not say it."""
    if "rule" in data:
        return Seeing(named(data["rule"]["name"]), operands, data["rule"]["how"])
    with np.load(folder / "expected.npz", allow_pickle=False) as arrays:
        if "either" in data:
            choices = (tuple(_expected(w, arrays) for w in wanted) for wanted in data["either"])
            return Either(tuple(choices))
        if data["expected"] is not None:
            return always(*(_expected(item, arrays) for item in data["expected"]))
    return None


def _operands(folder: Path, data: Mapping[str, Any], prefix: str) -> tuple[Tensor | None, ...]:
    with np.load(folder / "operands.npz", allow_pickle=False) as arrays:
        return tuple(
            None if name is None else Tensor(by_name(name), arrays[f"{prefix}{i}"])
            for i, name in enumerate(data["operands"])
        )


def _expected(item: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Expected:
    fmt = by_name(item["format"])
    tiers = tuple((Tier(tier["tier"]), _acceptance(tier, arrays)) for tier in item["tiers"])
    for _, accept in tiers:
        if isinstance(accept, Exact) and accept.codes.dtype != code_dtype(fmt):
            raise ValueError(f"codes of {fmt} are {accept.codes.dtype}")
    return Expected(fmt, tuple(item["shape"]), tiers, Tier(item["required"]), item["claim"])


def _acceptance(tier: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Acceptance:
    given: dict[str, Any] = dict(tier["fields"])
    for name, where in tier["arrays"].items():
        if isinstance(where, str):
            given[name] = arrays[where]
        elif name == "value":
            given[name] = Doubled(*(arrays[part] for part in where))
        else:
            given[name] = tuple(arrays[part] for part in where)
    return _KINDS[tier["kind"]](**given)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "problem.json"
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version = data["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(
            f"{folder} is not a replay folder: {error}",
            remedy="give a folder that a run with --report wrote",
        ) from error
    if version != FORMAT:
        raise InvalidArgument(
            f"{path} has version {version}; this suite reads {FORMAT}",
            remedy="replay it with the suite that wrote it",
        )
    return data


def case_of(folder: Path) -> Case:
    """Returns the case that replays a folder.

    Raises:
        InvalidArgument: It is no replay folder, or is damaged.
    """
    data = _read(folder)
    try:
        original = Case.from_json(json.dumps(data["case"]))
    except AccelError as error:
        raise InvalidArgument(
            f"{folder} is damaged: {error}", remedy="run the case again"
        ) from error
    return Case(
        id=original.id,
        profile=original.profile,
        op=original.op,
        formats=original.formats,
        generator="accelsdk_conformance.replay:from_folder",
        parameters={"folder": str(folder.resolve())},
        seed=original.seed,
        level=original.level,
    )
