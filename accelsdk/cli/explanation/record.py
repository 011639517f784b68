"""The report of `accelsdk explain` as data; ``schema.json`` beside this module describes it."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

from accelsdk.backend.info import Roofline
from accelsdk.cli.explanation.estimate import published
from accelsdk.cli.explanation.facts import Explanation, PartFacts
from accelsdk.compiler.partition.plan import Place, Transfer
from accelsdk.graph.types import Value

#: Version of the JSON report. Fields may be added within a major; readers refuse another one.
FORMAT: Final = "1.0"


def to_json(found: Explanation) -> str:
    """Returns the report as text; equal models and plugins give equal bytes."""
    return json.dumps(as_record(found), indent=1, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of the report."""
    text = (resources.files("accelsdk.cli.explanation") / "schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def as_record(found: Explanation) -> dict[str, Any]:
    """Returns the report as plain data. Times are seconds, sizes are bytes."""
    graph = found.graph
    return {
        "format": FORMAT,
        "model": found.model,
        "refused": bool(found.refusals),
        "inputs": [_value(value) for value in graph.inputs],
        "outputs": [_value(value) for value in graph.outputs],
        "constants": {"count": len(graph.constants), "bytes": found.constant_bytes},
        "places": [_place(place) for place in found.places],
        "totals": {
            "nodes": len(found.rows),
            "operations": found.operations,
            "transfer_bytes": found.transfer_bytes,
            "seconds": found.seconds,
            "ops": dict(found.ops.most_common()),
            "verdicts": dict(found.verdicts),
        },
        "nodes": _nodes(found),
        "parts": [_part(part) for part in found.parts],
        "transfers": [_transfer(found, transfer) for transfer in found.transfers],
        "refusals": [{"node": r.node, "op": r.op, "reason": r.reason} for r in found.refusals],
    }


def _value(value: Value) -> dict[str, Any]:
    return {
        "name": value.name,
        "format": value.format.name,
        "shape": list(value.shape),
        "bytes": value.type.nbytes,
    }


def _place(place: Place) -> dict[str, Any]:
    info, target = place.backend.info, place.target
    roofline = published(target)
    return {
        "backend": info.name,
        "version": info.version,
        "target": target.name,
        "options": dict(target.options),
        "alignment": target.alignment,
        "roofline": None if roofline is None else _roofline(roofline),
    }


def _roofline(roofline: Roofline) -> dict[str, Any]:
    return {
        "operations": dict(roofline.operations),
        "memory_bandwidth": roofline.memory_bandwidth,
        "scratch_bytes": roofline.scratch_bytes,
        "scratch_bandwidth": roofline.scratch_bandwidth,
        "link_bandwidth": roofline.link_bandwidth,
    }


def _nodes(found: Explanation) -> list[dict[str, Any]]:
    places = {str(place): index for index, place in enumerate(found.places)}
    return [
        {
            "name": row.node,
            "op": row.op,
            "domain": node.domain,
            "origin": list(row.origin),
            "via": list(row.via),
            "place": places[row.place],
            "part": row.part,
            "verdict": str(row.verdict),
            "claim": row.claim,
            "reason": row.reason,
            "operations": row.operations,
            "bytes": row.bytes,
            "intensity": row.intensity,
            "inputs": [value.name if value is not None else None for value in node.inputs],
            "outputs": [_value(value) if value is not None else None for value in node.outputs],
        }
        for row, node in zip(found.rows, found.graph.nodes, strict=True)
    ]


def _part(one: PartFacts) -> dict[str, Any]:
    part, memory = one.part, one.memory
    return {
        "name": part.name,
        "place": part.place,
        "nodes": [node.name for node in part.graph.nodes],
        "inputs": [value.name for value in part.graph.inputs],
        "outputs": [value.name for value in part.graph.outputs],
        "claims": [
            {"name": claim.name, "nodes": list(claim.nodes), "seconds": claim.cost}
            for claim in part.claims
        ],
        "memory": {
            "alignment": memory.alignment,
            "arena_bytes": memory.arena_bytes,
            "largest_live_bytes": memory.largest_live_bytes,
            "efficiency": memory.efficiency,
            "stretches": [
                {
                    "offset": stretch.offset,
                    "bytes": stretch.nbytes,
                    "first": stretch.first,
                    "last": stretch.last,
                    "values": list(stretch.values),
                }
                for stretch in one.stretches
            ],
        },
        "seconds": one.seconds,
        "steps": None
        if one.steps is None
        else [
            {
                "name": step.name,
                "nodes": list(step.nodes),
                "operations": step.operations,
                "bytes": step.bytes,
                "format": step.format,
                "seconds": step.seconds,
                "bound": "arithmetic" if step.compute_bound else "memory",
            }
            for step in one.steps
        ],
    }


def _transfer(found: Explanation, transfer: Transfer) -> dict[str, Any]:
    return {
        "value": _value(transfer.value),
        "source": transfer.source,
        "destination": transfer.destination,
        "after": transfer.after,
        "before": transfer.before,
        "seconds": found.copy_seconds(transfer),
    }
