"""Every field of every record of the datasheet: weaker but honest passes, false is named.

Cards are the simulated one and its right variants. A variant under its own datasheet is honest; the
same variant under the plain card's datasheet lies in one field.
"""

import itertools
from collections import Counter
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import pytest
from changed import Claiming, Refusing
from test_blame import FALSE as CONVERSION_ROWS
from test_claims import FALSE as ACCUMULATOR_ROWS

from accelsdk.backend import datasheet as sheets
from accelsdk.backend.datasheet import FunctionSpec
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.case import Level
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.examine import examine
from accelsdk_conformance.oracles import conversion
from accelsdk_conformance.oracles.tensor import Tensor, encode
from accelsdk_conformance.result import Status
from accelsdk_conformance.subject import ClientSubject

RECORDS = {
    "contractions": AccumulatorSpec,
    "integers": sheets.IntSpec,
    "casts": sheets.CastSpec,
    "quantize": sheets.QuantSpec,
    "requantize": sheets.RequantSpec,
    "mx": sheets.MxSpec,
    "functions": sheets.FunctionSpec,
    "reductions": sheets.ReduceSpec,
}

#: Fields that outputs cannot tell, and why. docs/datasheet.md says the same.
UNTOLD = {
    ("contractions", "addend"): "no op adds a matrix inside the product; a bias costs one store",
    ("contractions", "promote_bits"): "told together with promote_every, as `promote`",
    ("reductions", "order"): "every order has the bound of any order; no tree has a fixed base",
}


@dataclass(frozen=True)
class Row:
    """A device and two declarations of it.

    Attributes:
        ids: Parts of ids of cases that tell.
        variant: Of the simulated card, or empty.
        honest: Changes the card's sheet into a true one of the changed device; None: as it is.
        false: Changes it into a false one; None: the plain card's.
        change: What is done to outputs; None: nothing.
        refuses: What is not taken; None: nothing.
    """

    ids: tuple[str, ...]
    variant: str = ""
    honest: object = None
    false: object = None
    change: object = None
    refuses: object = None


def with_family(name, **entries):
    def changed(sheet):
        held = getattr(sheet, name)
        if hasattr(held, "items"):
            return replace(sheet, **{name: {key: replace(s, **entries) for key, s in held.items()}})
        return replace(sheet, **{name: replace(held, **entries)})

    return changed


def with_function(op, **entries):
    def changed(sheet):
        return replace(
            sheet, functions={**sheet.functions, (op, "float32"): FunctionSpec(**entries)}
        )

    return changed


def beside(units):
    """Moves finite results by units in the last place."""

    def change(problem, out):
        if not out.format.is_float:
            return out
        plain = np.isfinite(out.values) & (out.values != 0)
        return Tensor(out.format, out.codes + plain.astype(out.codes.dtype) * units)

    return change


def shifted(amount):
    """Adds an absolute error where results are below one."""

    def change(problem, out):
        x = problem.operands[0].values
        near = np.isfinite(out.values) & (np.abs(out.values) < 0.12) & (x < -1) & np.isfinite(x)
        return encode(np.where(near, out.values + amount(x), out.values), out.format)

    return change


def wrong_beyond(problem, out):
    x = problem.operands[0].values
    far = np.isfinite(x) & (np.abs(x) > 64)
    return Tensor(out.format, np.where(far, out.codes + 999, out.codes).astype(out.codes.dtype))


def flushed(problem, out):
    tiny = np.abs(out.values) < out.format.smallest_normal
    return encode(np.where(tiny, 0.0, out.values), out.format)


def other_scale_of_nan(problem, out):
    """Gives blocks that hold NaN the largest scale, and the elements that belong to it."""
    x, axis = problem.operands[0].values, problem.attributes["axis"]
    grouped, restore = conversion.blocks(x, axis, problem.attributes["block_size"])
    held = np.isnan(grouped).any(axis=-1)
    if out.format.name == "float8_e8m0fnu":
        return Tensor(
            out.format, np.where(np.moveaxis(held, -1, axis), 0xFE, out.codes).astype(np.uint8)
        )
    plain = np.where(np.isfinite(grouped), grouped, 0.0)
    scales = np.full(held.shape, 0xFE)
    elements = restore(conversion.block_elements(plain, scales, out.format).codes.astype(float))
    inside = restore(np.broadcast_to(held[..., None], grouped.shape).astype(float)) > 0
    return Tensor(out.format, np.where(inside, elements, out.codes).astype(np.uint8))


def with_product(spec):
    def changed(sheet):
        key = ("MatMul", "float32", "float32", "float32")
        return replace(sheet, contractions={**sheet.contractions, key: spec})

    return changed


_RUNS = itertools.count()


def restless(problem, out):
    """Every other run ends one unit beside the last."""
    if problem.op != "MatMul" or problem.repeats == 1:
        return out
    return Tensor(out.format, out.codes ^ out.codes.dtype.type(next(_RUNS) % 2))


def tails(problem):
    return problem.operands[0].shape[problem.attributes.get("axis", -1)] % 32 != 0


EXP, ATAN = "fp32/Exp/fp32/critical", "fp32/Atan/fp32/critical"
BLOCKS = "mx/QuantizeBlock/e4m3/"
SCALED = ("Requantize/int8/float32/", "Requantize/int8/wide_ties")
MATMUL = "fp32/MatMul/fp32xfp32/"
IN_FIVE = AccumulatorSpec(guarantee="bit_exact", width=1, order="contiguous", tree="split_k:5")
ROWS = {
    ("contractions", "guarantee"): Row(
        (f"{MATMUL}normal/k17", f"{MATMUL}normal/k40"), false=with_product(IN_FIVE)
    ),
    ("contractions", "deterministic"): Row(
        (f"{MATMUL}normal/k17", f"{MATMUL}repeated"),
        honest=with_family("contractions", deterministic=False),
        change=restless,
    ),
    ("contractions", "input_precision"): Row(
        (f"{MATMUL}normal", f"{MATMUL}all_pairs"), "order_bf16x6"
    ),
    ("contractions", "algorithm"): Row(("fp32/Conv/fp32xfp32/normal/",), "conv_winograd_f4"),
    ("requantize", "arithmetic"): Row(
        SCALED,
        honest=with_family("requantize", arithmetic="inexact"),
        false=with_family("requantize", arithmetic="float64"),
    ),
    ("requantize", "rounding"): Row(SCALED, "requantize_toward_zero"),
    ("requantize", "clamp"): Row(SCALED, false=with_family("requantize", clamp=False)),
    ("mx", "nan_rule"): Row(
        (f"{BLOCKS}specials",),
        honest=with_family("mx", nan_rule="other"),
        change=other_scale_of_nan,
    ),
    ("mx", "tail"): Row((BLOCKS,), honest=with_family("mx", tail="reject"), refuses=tails),
    ("functions", "ulp"): Row(
        (EXP,),
        honest=with_function("Exp", ulp=3.0),
        false=with_function("Exp", ulp=1.0),
        change=beside(1),
    ),
    ("functions", "floor"): Row(
        ("fp32/Gelu/fp32/five", "fp32/Gelu/fp32/six"),
        honest=with_function("Gelu", ulp=4.0, floor=1.0, floor_of="|x|"),
        false=with_function("Gelu", ulp=4.0, floor=0.0, floor_of="|x|"),
        change=shifted(lambda x: 0.8 * 2.0**-23),
    ),
    ("functions", "floor_of"): Row(
        ("fp32/Gelu/fp32/five", "fp32/Gelu/fp32/six"),
        honest=with_function("Gelu", ulp=4.0, floor=2.0, floor_of="|x|"),
        false=with_function("Gelu", ulp=4.0, floor=2.0, floor_of="1"),
        change=shifted(lambda x: 1.5 * 2.0**-23 * np.abs(x)),
    ),
    ("functions", "subnormals"): Row(
        (EXP,),
        honest=with_function("Exp", ulp=3.0, subnormals="flush"),
        false=with_function("Exp", ulp=3.0),
        change=flushed,
    ),
    ("functions", "domain"): Row(
        (ATAN,),
        honest=with_function("Atan", ulp=3.0, domain=(-64.0, 64.0)),
        false=with_function("Atan", ulp=3.0),
        change=wrong_beyond,
    ),
    ("functions", "nan"): Row(
        ("fp32/Max/fp32", "fp32/Min/fp32"),
        "nan_ignored",
        false=with_family("functions", nan="propagate"),
    ),
    ("reductions", "nan"): Row(("ReduceMax/fp32/lanes", "ReduceMin/fp32/lanes"), "nan_ignored"),
    ("reductions", "empty"): Row(("ReduceMax/fp32/empty", "ReduceProd/fp32/empty"), "empty_zero"),
    ("reductions", "subnormals"): Row(
        tuple(f"fp32/{op}/fp32/subnormal/" for op in ("ReduceSum", "ReduceMax", "CumSum")),
        "reductions_flush",
    ),
    ("reductions", "variance"): Row(("fp32/LayerNormalization/",), "norm_one_pass_float32"),
    ("reductions", "normalization"): Row(
        ("fp32/InstanceNormalization/fp32/", "fp32/GroupNormalization/fp32/"), "group_norm_folded"
    ),
    ("reductions", "significand_bits"): Row(
        tuple(f"ReduceSum/fp32/{shape}/normal" for shape in ("last", "first", "long", "k9")),
        "reduce_in_order",
        false=with_family("reductions", significand_bits=53),
    ),
}


@cache
def card(variant):
    return ClientSubject("sim_card", {"variant": variant} if variant else {})


@cache
def cases(ids):
    return [
        case
        for case in bundled()
        if any(part in case.id for part in ids) and case.level is not Level.EXHAUSTIVE
    ][:30]


def results(row, sheet):
    subject = card(row.variant)
    if row.refuses is not None:
        subject = Refusing(subject, sheet, row.refuses)
    else:
        subject = Claiming(subject, sheet, row.change)
    return [examine(case, subject) for case in cases(row.ids)]


@pytest.mark.parametrize("name", ROWS, ids=".".join)
def test_an_honest_declaration_of_a_weaker_card_passes(name):
    row = ROWS[name]
    own = card(row.variant).datasheet
    sheet = row.honest(own) if row.honest else own
    found = results(row, sheet)
    assert any(r.status is Status.PASSED for r in found)
    assert [(r.id, r.reason) for r in found if r.status is Status.FAILED] == []


@pytest.mark.parametrize("name", ROWS, ids=".".join)
def test_a_false_declaration_fails_by_the_name_of_its_field(name):
    row = ROWS[name]
    sheet = row.false(card(row.variant).datasheet) if row.false else card("").datasheet
    failed = [r for r in results(row, sheet) if r.status is Status.FAILED]
    assert failed, f"{name} survives"
    claims = Counter(result.claim.rpartition(".")[2] for result in failed)
    assert claims[name[1]] == max(claims.values()), claims


def test_no_field_of_the_datasheet_is_left_out():
    told = {("contractions", name) for name, row in ACCUMULATOR_ROWS.items() if row}
    told |= {(family, field) for family, field, *_ in CONVERSION_ROWS}
    told |= set(ROWS)
    every = {(family, row.name) for family, kind in RECORDS.items() for row in fields(kind)}
    assert told | set(UNTOLD) == every
    assert not told & set(UNTOLD)
    lookups = {row.name for row in fields(sheets.NumericsDatasheet)}
    assert lookups == set(RECORDS)
