"""Writes docs/ops.md from the op table: ``python -m docs.ops_page``."""

from __future__ import annotations

from pathlib import Path

from accelsdk.graph.graph import Attribute
from accelsdk.graph.opdef import AttributeDef, Family, OpDef, Operand, Required, Result
from accelsdk.graph.ops import TABLE

PAGE = Path(__file__).with_name("ops.md")

_INTRODUCTION = """\
# The op table

Lowering targets these {count} ops, the verifier checks against them, `accelsdk.kernels` computes
them, and conformance enumerates them. {composites} are *composites*: each has a decomposition
into other ops of the table, and a backend keeps those that it runs as a whole. This page is made
from the table by `python -m docs.ops_page`.

An op named as in ONNX means what ONNX (opsets 21 to 23) means, with the same attribute names.
What ONNX takes as constant tensors are attributes here (shape, axes, pads, ...); nothing is left
to inference: pads, strides and permutations are always given. Operands of one op have one format
unless the row says otherwise. `?` marks what may be left out, `*` what may repeat, `~` a result
whose size depends on the data: its type is a bound, and only an output of the graph can be such
a value.

**Numerics** says how two right implementations may differ: *exact* and *rounded* not at all,
*function* by a number of ULP, *contraction* and *reduction* by the order of their sums,
*quantisation* not at all given the declared rounding, *composite* as its decomposition.

"floats" are float16, bfloat16, float32 and float64; "integers" those of 8 to 64 bits.
"""


def page() -> str:
    """Returns the text of the page."""
    composites = sum(row.is_composite for row in TABLE.values())
    parts = [_INTRODUCTION.format(count=len(TABLE), composites=composites)]
    for family in Family:
        rows = [row for row in TABLE.values() if row.family is family]
        parts.append(f"## {family.value.capitalize()}\n")
        parts += [_section(row) for row in rows]
    return "\n".join(parts)


def _section(row: OpDef) -> str:
    operands = ", ".join(map(_part, row.operands))
    results = ", ".join(map(_part, row.results))
    lines = [f"### {row.name}\n", f"`{row.name}({operands}) -> {results}`\n", f"{row.help}.\n"]
    lines.append(f"- Formats: {row.formats}")
    lines.append(f"- Numerics: {row.numerics.value}")
    lines += [f"- {_attribute(definition)}" for definition in row.attributes]
    return "\n".join(lines) + "\n"


def _part(part: Operand | Result) -> str:
    mark = "*" if part.variadic else "?" if part.optional else ""
    return part.name + mark + ("~" if isinstance(part, Result) and part.bounded else "")


def _attribute(definition: AttributeDef) -> str:
    text = f"`{definition.name}` ({definition.kind.value}"
    if isinstance(definition.default, Required):
        text += ", required)"
    else:
        text += f", default {_value(definition.default)})"
    if definition.help:
        text += f": {definition.help}"
    if definition.choices:
        text += "; one of " + ", ".join(map(_value, definition.choices))
    return text


def _value(item: Attribute) -> str:
    return f"`{item}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
