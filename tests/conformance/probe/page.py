"""The tables of docs/probe.md: ``python tests/conformance/probe/page.py docs/probe.md``.

What stands between ``<!-- table: NAME -->`` and ``<!-- end -->`` is measured anew.
"""

import re
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "plugins" / "sim_card")]

from models import Engine  # noqa: E402 # beside this file
from test_presets import HALVES, SETS, UNITS, _row_by_row, _spec, _to_half, _values  # noqa: E402
from test_probe_presets import FIELDS, built, declared  # noqa: E402

from accelsdk_conformance.probe import contraction  # noqa: E402
from accelsdk_conformance.probe.reading import shown  # noqa: E402

DATA = HERE.parents[1] / "data" / "tensor_cores"
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
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
        cells = [
            _cell(name, declared(spec, name), seen.get(name)) for name in _SHOWN if name != "order"
        ]
        order = seen.get("order")
        cells.insert(1, _cell("order", spec.order, order))
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
    for name in SETS:
        unit, kind = name.split("_")
        data = np.load(DATA / f"{name}.npz")
        (a, fmt), (b, _) = _values(data["a"], kind), _values(data["b"], kind)
        without = unit in ("H100", "H200") and kind.startswith("E")
        c = None if without else data["c"].view(np.float32)
        got = _row_by_row(a, b, fmt, _spec(unit, kind), c)
        wide = int((got.view(np.uint32) != data["d_fp32"]).sum())
        narrow = str(_to_half(name, _spec(unit, kind, "fp16"))) if name in HALVES else "·"
        rows.append([f"`{name}`", f"`{UNITS[unit]}`", str(len(got)), str(wide), narrow])
    head = ["set", "preset", "rows", "mismatches, float32", "mismatches, float16"]
    return _table(head, rows)


def main(path):
    """Brings the page up to date."""
    made = {"presets": presets, "gpus": gpus}
    page = Path(path).read_text("utf-8")
    text = _BLOCK.sub(lambda match: f"{match[1]}{made[match[2]]()}{match[3]}", page)
    Path(path).write_text(text, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
