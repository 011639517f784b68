"""Writes docs/onnx-operators.md: ``python -m tests.frontends.node_page``."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import onnx

from tests.frontends.node_cases import PLUGINS, Outcome, cases, op_of, run

PAGE = Path(__file__).parents[2] / "docs" / "onnx-operators.md"

#: Why cases of an op are refused. A case that is refused for anything else is a failure.
REFUSED: dict[str, str] = {
    "BatchNormalization": "training mode",
    "Bernoulli": "random numbers",
    "Dropout": "training mode",
    "ImageDecoder": "decodes files",
    "TfIdfVectorizer": "counts words",
    "ai.onnx.preview.FlexAttention": "preview domain",
}

#: Why cases of any op are refused, by a piece of the reason that the refusal gives.
ANYWHERE = {
    "element type STRING": "strings",
    "which ai.onnx opset": "another domain",
    "ai.onnx.preview:": "preview domain",
    "is no tensor": "sequences and optional values as inputs or outputs",
}

_INTRODUCTION = """\
# ONNX operators

What became of ONNX's own {count} node tests (`onnx` {version}), run through
`accelsdk.frontends.onnx_backend` without fallback. Every answer is within the test's own
tolerance, and every refusal names the node and the reason; there is no third outcome.

| plugin | passed | refused | wrong |
|---|---:|---:|---:|
{totals}

*compiled* counts passed cases whose result was computed while compiling: every operand that the
operator needs then is constant, and nothing was left to run. Where ONNX leaves a result undefined
(a cast out of the integer's range), that element is not compared; the list of such cases stands in
`tests/frontends/node_cases.py`. This page is made by `python -m tests.frontends.node_page`.

| operator | cases | {plugins} | compiled | refused |
|---|---:|{rules}---:|---|
"""


@functools.cache
def outcome(name: str, plugin: str) -> Outcome:
    """Returns what became of one case, run once a process."""
    return run(cases()[name], plugin)


def outcomes(plugin: str) -> list[Outcome]:
    """Returns what became of every case."""
    return [outcome(name, plugin) for name in cases()]


def why(refused: Outcome) -> str:
    """Returns in a few words why a case was refused; empty if it should not have been."""
    for piece, short in ANYWHERE.items():
        if piece in refused.reason:
            return short
    return REFUSED.get(refused.op, "")


def page() -> str:
    """Returns the page."""
    found = {plugin: outcomes(plugin) for plugin in PLUGINS}
    rows: dict[str, list[int]] = {}
    for index, case in enumerate(cases().values()):
        rows.setdefault(op_of(case), []).append(index)
    introduction = _INTRODUCTION.format(
        count=len(cases()),
        version=onnx.__version__,
        totals="\n".join(_total(plugin, found[plugin]) for plugin in PLUGINS),
        plugins=" | ".join(PLUGINS),
        rules="---:|" * len(PLUGINS),
    )
    lines = (_row(op, [[found[p][i] for i in rows[op]] for p in PLUGINS]) for op in sorted(rows))
    return introduction + "\n".join(lines) + "\n"


def _total(plugin: str, found: list[Outcome]) -> str:
    status = Counter(outcome.status for outcome in found)
    return f"| {plugin} | {status['passed']} | {status['refused']} | {status['wrong']} |"


def _row(op: str, found: list[list[Outcome]]) -> str:
    passed = " | ".join(str(sum(o.status == "passed" for o in each)) for each in found)
    folded = sum(outcome.folded for outcome in found[0])
    reasons = Counter(why(o) or o.reason for o in found[0] if o.status == "refused")
    refused = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common())
    return f"| {op} | {len(found[0])} | {passed} | {folded or ''} | {refused} |"


if __name__ == "__main__":
    PAGE.write_text(page())
