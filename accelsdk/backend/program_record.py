"""Programs and plans as JSON, which is what the header of a program file is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from accelsdk.backend.program import ConstantSpec, Program, ProgramHeader, TensorSpec
from accelsdk.backend.program_plan import Crossing, Outline, Piece
from accelsdk.formats import Format, by_name
from accelsdk.graph.types import Shape, TensorType, Value

_ENDS = ("source", "destination", "after", "before")


def of_program(program: Program, places: Mapping[str, int]) -> dict[str, Any]:
    """Returns a program without its code.

    Args:
        program: What to record.
        places: Offset of each constant, by digest.
    """
    constants = [
        {
            "name": spec.name,
            "nbytes": spec.nbytes,
            "digest": spec.digest,
            "type": _type_record(spec.type),
            "offset": places[spec.digest],
        }
        for spec in program.constants
    ]
    return {
        "header": _of_header(program.header),
        "constants": constants,
        "code_nbytes": len(program.code),
        "code_digest": hashlib.sha256(program.code).hexdigest(),
    }


def _of_header(header: ProgramHeader) -> dict[str, Any]:
    return {
        **{name: getattr(header, name) for name in ("backend", "backend_version", "target")},
        "api_version": list(header.api_version),
        "target_options": dict(header.target_options),
        "graph_digest": header.graph_digest,
        "inputs": [_spec_record(spec) for spec in header.inputs],
        "outputs": [_spec_record(spec) for spec in header.outputs],
        "aliases": [list(pair) for pair in header.aliases],
        "workspace": header.workspace,
        "attributes": dict(header.attributes),
    }


def _spec_record(spec: TensorSpec) -> dict[str, Any]:
    record = {name: getattr(spec, name) for name in ("name", "memory", "layout", "bounded")}
    return {**record, "type": _type_record(spec.type)}


def _type_record(type: TensorType | None) -> list[Any] | None:
    return None if type is None else [type.format.name, list(type.shape)]


def _type_of(record: list[Any] | None) -> TensorType | None:
    return None if record is None else TensorType(*_format_and_shape(record))


def _format_and_shape(record: list[Any]) -> tuple[Format, Shape]:
    return by_name(record[0]), tuple(record[1])


def to_program(record: Mapping[str, Any], code: bytes) -> Program:
    """Returns the program that `of_program` recorded."""
    constants = tuple(
        ConstantSpec(**{**_known(ConstantSpec, spec), "type": _type_of(spec["type"])})
        for spec in record["constants"]
    )
    return Program(header=_to_header(record["header"]), code=code, constants=constants)


def _to_header(record: Mapping[str, Any]) -> ProgramHeader:
    given = _known(ProgramHeader, record)
    for name in ("inputs", "outputs"):
        specs = (_known(TensorSpec, spec) for spec in given[name])
        given[name] = tuple(
            TensorSpec(**{**spec, "type": _type_of(spec["type"])}) for spec in specs
        )
    given["api_version"] = tuple(given["api_version"])
    given["aliases"] = tuple(tuple(pair) for pair in given["aliases"])
    return ProgramHeader(**given)


def of_outline(outline: Outline) -> dict[str, Any]:
    """Returns a plan without its programs."""
    return {
        "header": _of_header(outline.header),
        "places": [list(place) for place in outline.places],
        "pieces": [[piece.name, piece.place] for piece in outline.pieces],
        "crossings": [
            {
                "value": [crossing.value.name, _type_record(crossing.value.type)],
                **{name: getattr(crossing, name) for name in _ENDS},
            }
            for crossing in outline.crossings
        ],
    }


def to_outline(record: Mapping[str, Any]) -> Outline:
    """Returns the plan that `of_outline` recorded."""
    return Outline(
        header=_to_header(record["header"]),
        places=tuple((backend, target) for backend, target in record["places"]),
        pieces=tuple(Piece(name=name, place=place) for name, place in record["pieces"]),
        crossings=tuple(
            Crossing(
                value=Value(entry["value"][0], TensorType(*_format_and_shape(entry["value"][1]))),
                **{name: int(entry[name]) for name in _ENDS},
            )
            for entry in record["crossings"]
        ),
    )


def _known(cls: type, record: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out what a later version of accelsdk added."""
    names = {field.name for field in fields(cls)}
    return {name: value for name, value in record.items() if name in names}
