"""``python -m tests.conformance.probe.page``: measures the tables of docs/probe.md anew."""

from accelsdk_conformance.probe import contraction
from accelsdk_conformance.probe.reading import shown
from tests.conformance import tables
from tests.conformance.probe.models import Engine
from tests.conformance.probe.test_probe_presets import FIELDS, built, declared
from tests.plugins.sim_card import measured

_SHOWN = (
    *("width", "order", "inside", "lanes", "align_bits", "align_rounding", "stage_bits"),
    *("significand_bits", "store_rounding", "addend", "subnormals_in"),
)


def _table(head, rows):
    lines = [head, ["-"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def presets():
    """What was built, and what the probe made of it."""
    rows = []
    for case in built():
        spec, fmt, out, block = case.values
        found, bench = contraction.measure(Engine(spec, fmt, out, block))
        seen = {name: found[name] for name in FIELDS if name in found and found[name].measured}
        wrong = [name for name, one in seen.items() if one.value != declared(spec, name)]
        cells = [_cell(name, declared(spec, name), seen.get(name)) for name in _SHOWN]
        verdict = f"{len(seen) - len(wrong)} of {len(seen)}"
        rows.append([f"`{case.id.replace('-', ' ')}`", *cells, verdict, str(bench.executions)])
    head = ["unit, operands, result", *_SHOWN, "equal fields", "executions"]
    return _table(head, rows)


def _cell(name, built_with, reading):
    if reading is None:
        return "·"
    want, got = shown(built_with, name), reading.text(name)
    return got if want == got else f"{want} / {got}"


def gpus():
    """Rows and mismatches of every measured set."""
    rows = []
    for name in measured.SETS:
        wide = measured.mismatches(name, measured.spec_of(name))
        narrow = "·"
        if name in measured.HALVES:
            narrow = str(measured.half_mismatches(name, measured.spec_of(name, "fp16")))
        preset, count = measured.UNITS[name.split("_")[0]], len(measured.load(name)["a"])
        rows.append([f"`{name}`", f"`{preset}`", str(count), str(wide), narrow])
    head = ["set", "preset", "rows", "mismatches, float32", "mismatches, float16"]
    return _table(head, rows)


if __name__ == "__main__":
    tables.update(tables.PROBE, presets=presets(), gpus=gpus())
