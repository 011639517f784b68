"""The HTML report: one self-contained page, made from the same data as the JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from accelsdk.errors import NotFound
from accelsdk.graph.ops import TABLE
from accelsdk_conformance.problem import Tier
from accelsdk_conformance.report import plots
from accelsdk_conformance.report.broken import broken_ops, representative_first
from accelsdk_conformance.report.claims import FIELDS
from accelsdk_conformance.report.fingerprint import surveys
from accelsdk_conformance.report.matrix import column, matrices
from accelsdk_conformance.result import Status

if TYPE_CHECKING:
    import jinja2

_FAILURES = 200
_OPEN = 3  # failures that are shown without a click
_CONFORMANT = {str(status) for status in Status if status.conformant}

Result = Mapping[str, Any]


def require_jinja() -> None:
    """Raises NotFound, with the pip line, unless jinja2 is installed."""
    if find_spec("jinja2") is None:
        raise NotFound(
            "the HTML report needs jinja2, which is not installed",
            remedy="pip install 'accelsdk[conformance]'",
        )


def page(template: str, **values: object) -> str:
    """Returns a page made from one of the templates of this package.

    Raises:
        NotFound: jinja2 is not installed.
    """
    require_jinja()
    text: str = _environment().get_template(template).render(**values)
    return text


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(_template),
    )


def _template(name: str) -> str:
    return (resources.files("accelsdk_conformance") / "report" / name).read_text("utf-8")


def render(report: Mapping[str, Any]) -> str:
    """Returns the page of a report.

    Raises:
        NotFound: jinja2 is not installed.
    """
    results = report["results"]
    broken = representative_first(
        (result for result in results if result["status"] not in _CONFORMANT), _place
    )
    ran = {result["op"] for result in results}
    families = {op: str(row.family) for op, row in TABLE.items() if op in ran}
    counts = [(str(s), report["counts"][s]) for s in Status if report["counts"].get(s)]
    return page(
        "report.html.j2",
        report=report,
        good=report["verdict"] == "conformant",
        final=report["verdict"] == "conformant" and _claimable(report),
        counts=counts,
        proportions=plots.proportions(counts),
        elements=sum(result["elements"] for result in results),
        tiers=[(str(t), report["tiers"][t]) for t in Tier if report["tiers"].get(t)],
        verdicts=Counter(claim["verdict"] for claim in report["claims"]),
        broken_ops=broken_ops(
            (r["profile"], r["op"], column(r), Status(r["status"])) for r in results if r["op"]
        ),
        matrices=matrices(results),
        histograms=[(s, plots.histogram(s)) for s in plots.spreads(results, families)],
        strips=plots.strips(plots.spreads(results, {op: op for op in families})),
        surveys=surveys(report.get("fingerprint")),
        claims=[(field, _by_value(report["claims"], field)) for field in FIELDS],
        broken=broken[:_FAILURES],
        shown={result["id"] for result in broken[:_FAILURES]},
        shown_open=_OPEN,
        left_out=max(0, len(broken) - _FAILURES),
        known=_known(report),
        unsupported=_by_reason(r for r in results if r["status"] == Status.UNSUPPORTED),
    )


def _claimable(report: Mapping[str, Any]) -> bool:
    """Says whether the run is whole enough for a claim."""
    return not report["partial"] and report["level"] != "smoke"


def _place(result: Result) -> tuple[str, ...]:
    return (result["op"], *result["formats"]) if result["op"] else (result["id"],)


def _known(report: Mapping[str, Any]) -> list[tuple[Mapping[str, str], list[Result]]]:
    """Returns each waiver with the results that it covers."""
    found = [r for r in report["results"] if r["status"] in (Status.XFAIL, Status.WAIVED)]
    return [
        (waiver, [r for r in found if r["reason"] == f"{waiver['reason']} ({waiver['link']})"])
        for waiver in report["waivers"]
    ]


def _by_value(claims: Iterable[Result], field: str) -> list[tuple[str, list[Result]]]:
    """Returns the claims of one field, those of one value together."""
    groups: dict[str, list[Result]] = {}
    for claim in claims:
        if claim["field"] == field:
            groups.setdefault(claim["value"], []).append(claim)
    return [*groups.items()]


def _by_reason(results: Iterable[Result]) -> list[tuple[str, list[Result]]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result["reason"], []).append(result)
    return sorted(groups.items(), key=lambda item: -len(item[1]))
