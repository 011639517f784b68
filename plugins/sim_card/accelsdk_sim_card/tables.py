"""The tables of docs/sim-card.md, made from the data that the plugin runs on.

``python -m accelsdk_sim_card.tables docs/sim-card.md`` brings a page up to date: what stands
between ``<!-- table: NAME -->`` and ``<!-- end -->`` is replaced.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path

from accelsdk.backend.files import written
from accelsdk.errors import NotFound
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_sim_card import faults, profile, settings
from accelsdk_sim_card.defects import catalogue
from accelsdk_sim_card.engines.presets import PRESETS, Preset
from accelsdk_sim_card.variants.catalogue import VARIANTS

_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_LISTED = 8  # a longer list of choices has a table of its own


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("-" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def _options() -> str:
    def choices(values: tuple[object, ...]) -> str:
        listed = ", ".join(f"`{value}`" for value in values)
        return listed if len(values) <= _LISTED else "see below"

    rows = (
        (f"`{o.name}`", o.scope.value, f"`{o.default!r}`", choices(o.choices), o.help)
        for o in settings.OPTIONS
    )
    return _table(("option", "scope", "default", "choices", "meaning"), rows)


def _profile() -> str:
    default, test = profile.load("default"), profile.load("test")
    rows = (
        (
            f"`{row.name}`",
            _number(getattr(default, row.name)),
            _number(getattr(test, row.name)),
            str(row.metadata["help"]),
        )
        for row in fields(profile.Profile)
    )
    return _table(("field", "`default`", "`test`", "meaning"), rows)


def _number(value: object) -> str:
    if isinstance(value, float) and value >= 1e6:
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _presets() -> str:
    rows = (
        (f"`{p.name}`", _sixteen(p), _spec(p.tf32), _narrow(p), p.summary) for p in PRESETS.values()
    )
    head = ("preset", "float16, bfloat16", "TF32", "FP8, FP6, FP4, MXINT8", "unit")
    return _table(head, rows)


def _sixteen(preset: Preset) -> str:
    own = "" if preset.brain is None else f"; bfloat16: {_spec(preset.brain)}"
    return _spec(preset.half) + own


def _narrow(preset: Preset) -> str:
    own = "" if preset.fp4 is None else f"; FP4: {_spec(preset.fp4)}"
    return _spec(preset.narrow) + own


def _spec(spec: AccumulatorSpec | None) -> str:
    if spec is None:
        return "float32 BLAS"
    kept = "all" if spec.align_bits is None else spec.align_bits
    text = (
        f"W {spec.width}, F {kept}, align {spec.align_rounding.upper()}, "
        f"store {spec.significand_bits} bits {spec.store_rounding.upper()}"
    )
    said = (
        (spec.addend != "in_chunk", f"addend {spec.addend}"),
        (spec.inside == "pairwise", "pairwise, each sum rounded"),
        (spec.align_exponent == "block_scale", "aligned to block scales"),
        (spec.stage_bits is not None, f"then {spec.stage_bits} bits against the running sum, RD"),
        (spec.lanes > 1, "even and odd products apart"),
        (spec.subnormals_in == "flush", "subnormals flushed"),
        (spec.product_overflow == "inf", "products overflow"),
    )
    return ", ".join((text, *(words for true, words in said if true)))


def _faults() -> str:
    rows = (
        (f"`{f.name}`", f.strikes.value, "yes" if f.lasts else "no", f.summary)
        for f in faults.FAULTS
    )
    return _table(("fault", "counts", "lasts", "what happens"), rows)


def _defects() -> str:
    rows = ((f"`{d.name}`", d.summary, d.breaks, d.seen) for d in catalogue.DEFECTS)
    return _table(("defect", "what is wrong", "breaks", "seen, or stands for"), rows)


def _variants() -> str:
    rows = ((f"`{v.name}`", v.summary, v.touches, v.legal) for v in VARIANTS)
    return _table(("variant", "what is different", "touches", "why it is right"), rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "options": _options,
    "profile": _profile,
    "presets": _presets,
    "faults": _faults,
    "defects": _defects,
    "variants": _variants,
}


def refresh(page: str) -> str:
    """Returns a page with its tables brought up to date.

    Raises:
        NotFound: The page asks for a table that does not exist.
    """

    def made(match: re.Match[str]) -> str:
        if match[2] not in TABLES:
            raise NotFound(f"no table {match[2]!r}", remedy="tables: " + ", ".join(TABLES))
        return f"{match[1]}{TABLES[match[2]]()}{match[3]}"

    return _BLOCK.sub(made, page)


def main(path: str) -> None:
    """Brings the page at ``path`` up to date."""
    page = refresh(Path(path).read_text("utf-8"))
    with written(path) as file:
        file.write(page.encode())


if __name__ == "__main__":
    main(sys.argv[1])
