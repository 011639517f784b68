"""One-node models against direct evaluation: drawing them, running them, comparing.

A recipe draws operands and attributes of one op and says what it comes to, by a formula of its
own. `check` draws many, builds an ONNX model of each (operands as inputs, initialisers or
Constant nodes), lowers it, evaluates it, and compares.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from onnx import defs, helper, numpy_helper

from accelsdk.compiler import pipeline
from accelsdk.formats import Format, from_dtype
from accelsdk.kernels.api import evaluate
from accelsdk.numerics import compare
from tests.compiler.rules.inexact import Inexact

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (np.dtype("f4"), np.dtype("f2"), BF16, np.dtype("f8"))
SIGNED = tuple(map(np.dtype, ("i1", "i2", "i4", "i8")))
UNSIGNED = tuple(map(np.dtype, ("u1", "u2", "u4", "u8")))
INTEGERS = (*SIGNED, *UNSIGNED)
NUMBERS = (*FLOATS, *INTEGERS)
BOOL = np.dtype("?")
ANY = (*NUMBERS, BOOL)
#: The formats that ONNX lets sums run in.
SUMMABLE = (*FLOATS, *map(np.dtype, ("i4", "i8", "u4", "u8")))
#: The opset that models are converted to, and those that are drawn.
NEWEST, OPSETS = 23, (9, 11, 13, 18, 21, 23, 24)

#: Seeds tried before an attribute counts as never drawn; the rarest takes one or two.
_SEEDS = 20

_SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, 3.0, 1e-3)


@dataclass
class Case:
    """One node, and what it comes to.

    Attributes:
        operands: Arrays; None stands for an optional operand left out.
        expected: Array (equal), `Inexact` (within its error, after rounding to the result's
            dtype), or None for a result that is left out.
        result: Dtype of results given as `Inexact`; default the first operand's.
        constant: Positions of operands that must be constant.
        opset: Of the model.
    """

    operands: Sequence[np.ndarray | None]
    expected: Sequence[np.ndarray | Inexact | None]
    result: np.dtype | None = None
    constant: Sequence[int] = ()
    opset: int = NEWEST


class Draw:
    """Where a recipe gets operands and numbers from; collects the attributes it draws."""

    def __init__(self, draw: Callable, op: str, declared: frozenset[str]) -> None:
        self.draw, self.op, self.declared = draw, op, declared
        self.rng = np.random.default_rng(draw(st.integers(0, 999)))
        self.attributes: dict = {}

    # -- numbers -------------------------------------------------------------------------

    def int(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def pick(self, options):
        return self.draw(st.sampled_from(list(options)))

    def attr(self, name: str, default, values, required: bool = False):
        """Returns an attribute: left out (the default), or one of ``values``.

        Args:
            name: Declared by the recipe.
            default: What ONNX says it is when left out.
            values: Choices, all but the default at least.
            required: Never left out.
        """
        assert name in self.declared, f"{self.op} does not declare {name}"
        if not required and self.int(0, 2) == 0:
            return default
        self.attributes[name] = value = self.pick(values)
        return value

    # -- shapes --------------------------------------------------------------------------

    def extent(self) -> int:
        return self.pick((2, 1, 3, 5, 0, 4))

    def shape(self, low: int = 0, high: int = 4) -> tuple[int, ...]:
        return tuple(self.extent() for _ in range(self.int(low, high)))

    def axis(self, rank: int) -> int:
        """An axis, counted from either end."""
        return self.int(-rank, rank - 1)

    def axes(self, rank: int, least: int = 0) -> tuple[int, ...]:
        """Distinct axes, in any order, counted from either end."""
        count = self.int(least, rank)
        chosen = self.draw(st.permutations(range(rank)))[:count]
        return tuple(a - rank if self.flag() else a for a in chosen)

    def narrowed(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to ``shape``."""
        kept = shape[self.int(0, len(shape)) :]
        return tuple(1 if self.flag() else extent for extent in kept)

    def opset(self, *choices: int) -> int:
        """One of the opsets that have the op."""
        known = [v for v in choices or OPSETS if defs.has(self.op, v, "")]
        return self.pick(known) if NEWEST not in known or self.flag() else NEWEST

    # -- arrays --------------------------------------------------------------------------

    def format(self, formats: Sequence[np.dtype], opset: int = NEWEST, operand: int = 0):
        """One of the formats that ONNX allows for an operand of this op in this opset."""
        schema = defs.get_schema(self.op, opset, "")
        kind = schema.inputs[min(operand, len(schema.inputs) - 1)].type_str
        allowed = next(
            (set(c.allowed_type_strs) for c in schema.type_constraints if c.type_param_str == kind),
            {kind},
        )
        return self.pick(f for f in formats if f"tensor({_onnx_name(f)})" in allowed)

    def array(self, dtype, shape, low=-3.0, high=3.0, special=False) -> np.ndarray:
        """Numbers of a format; integers may be any if no bounds are given."""
        dtype, shape = np.dtype(dtype), tuple(shape)
        if dtype == BOOL:
            return self.rng.integers(0, 2, shape).astype(bool)
        if dtype.kind in "iu":
            least = max(int(low), np.iinfo(dtype).min)
            if special:
                return _any_integers(self.rng, dtype, shape)
            return self.rng.integers(least, int(high) + 1, shape).astype(dtype)
        numbers = self.rng.uniform(low, high, shape)
        if special:
            chosen = self.rng.choice(np.array(_SPECIAL), shape)
            numbers = np.where(self.rng.uniform(size=shape) < 0.3, chosen, numbers)
        return np.asarray(numbers).astype(dtype)


def fmt_of(array: np.ndarray) -> Format:
    """The format of an array's elements."""
    return from_dtype(array.dtype)


def spread(d: Draw, count: int) -> list[tuple[int, ...]]:
    """Shapes that broadcast together, in any order; one of them is the whole."""
    whole = d.shape(0, 4)
    shapes = [whole, *(d.narrowed(whole) for _ in range(count - 1))]
    return list(d.draw(st.permutations(shapes)))


def _any_integers(rng, dtype, shape):
    raw = rng.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8)
    wide = np.ascontiguousarray(raw).view(dtype).reshape(shape)
    info = np.iinfo(dtype)
    edges = rng.choice(np.array([0, 1, info.min, info.max], dtype), shape)
    return np.asarray(np.where(rng.uniform(size=shape) < 0.3, edges, wide))


def _onnx_name(dtype: np.dtype) -> str:
    names = {"float32": "float", "float64": "double"}
    return names.get(dtype.name, dtype.name)


Drawer = Callable[[Draw], Case]


@dataclass(frozen=True)
class Recipe:
    """How to draw nodes of one op.

    Attributes:
        draw: Draws one case.
        attributes: Every attribute that it draws, each at other values than the default.
        examples: How many cases are drawn.
    """

    draw: Drawer
    attributes: frozenset[str] = frozenset()
    examples: int = 25


@dataclass
class Recipes:
    """The recipes of one family, by op."""

    by_op: dict[str, Recipe] = field(default_factory=dict)

    def __call__(self, ops: str, attributes: str = "", examples: int = 25):
        """Registers a drawer for ops whose attributes it draws."""

        def register(draw: Drawer) -> Drawer:
            for op in ops.split():
                assert op not in self.by_op
                self.by_op[op] = Recipe(draw, frozenset(attributes.split()), examples)
            return draw

        return register


# -- running -------------------------------------------------------------------------------


def check(op: str, recipe: Recipe) -> None:
    """Draws cases of a recipe and compares each with direct evaluation.

    It goes on, seed after seed, until every attribute of the recipe was drawn. The seeds are the
    same in every run but those that search (tests/conftest.py).
    """
    unseen = set(recipe.attributes)
    first = 0 if settings().derandomize else secrets.randbelow(2**31)
    for number in range(first, first + _SEEDS):
        unseen -= _check(op, recipe, number)
        if not unseen:
            return
    raise AssertionError(f"{op} declares and never draws {sorted(unseen)}")


def _check(op: str, recipe: Recipe, number: int) -> set[str]:
    """Compares what one seed draws; returns the attributes that were drawn."""
    seen: set[str] = set()

    @seed(number)
    @settings(
        max_examples=recipe.examples,
        database=None,
        phases=(Phase.generate,),  # an unshrunk failure is small enough, and seconds sooner
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def run(data):
        draw = Draw(data.draw, op, recipe.attributes)
        with np.errstate(all="ignore"):
            case = recipe.draw(draw)
        seen.update(draw.attributes)
        note(f"{op}-{case.opset} {draw.attributes} of {[_told(a) for a in case.operands]}")
        model, feeds = one_node(op, case, draw)
        found = evaluate(pipeline.to_core(model), feeds)
        for index, expected in enumerate(case.expected):
            if expected is not None:
                agree(found[f"y{index}"], expected, case)

    run()
    return seen


def _told(array: np.ndarray | None) -> str:
    if array is None:
        return "nothing"
    return f"{array.dtype}{list(array.shape)}{array.tolist() if array.size < 9 else ''}"


def agree(found: np.ndarray, expected: np.ndarray | Inexact, case: Case) -> None:
    """Asserts that a result is what it should be; an array, to the bit."""
    if isinstance(expected, Inexact):
        dtype = np.dtype(case.result or case.operands[0].dtype)
        assert (found.dtype, found.shape) == (dtype, expected.shape), (found, expected.shape)
        fmt: Format = from_dtype(dtype)
        # Where the value is infinite or NaN there is nothing to be near to.
        error = np.where(np.isfinite(expected.value), expected.error, 0.0)
        error = np.where(np.isnan(error), np.inf, error)
        good = compare.within(found, expected.value, error, fmt)
        assert good.all(), (found[~good], expected.value[~good], error[~good])
        return
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    good = compare.equal(found, expected, from_dtype(found.dtype), compare.Equality.BITS)
    assert good.all(), (found[~good], expected[~good])


def one_node(op: str, case: Case, draw: Draw) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model of a case, and the feeds of those operands that are inputs."""
    names, inputs, initialisers, nodes, feeds = [], [], [], [], {}
    for index, array in enumerate(case.operands):
        name = "" if array is None else f"x{index}"
        names.append(name)
        if array is None:
            continue
        tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        role = draw.pick(
            ("initialiser", "node")
            if index in case.constant
            else ("input",) * 3 + ("initialiser", "node")
        )
        if role == "input":
            inputs.append(helper.make_tensor_value_info(name, tensor.data_type, array.shape))
            feeds[name] = array
        elif role == "initialiser":
            initialisers.append(tensor)
        else:
            nodes.append(helper.make_node("Constant", [], [name], f"{name}/value", value=tensor))
    while names and not names[-1]:
        names.pop()
    results = ["" if e is None else f"y{i}" for i, e in enumerate(case.expected)]
    nodes.append(helper.make_node(op, names, results, "node", **draw.attributes))
    outputs = [onnx.ValueInfoProto(name=name) for name in results if name]
    graph = helper.make_graph(nodes, "one", inputs, outputs, initialisers)
    opsets = [helper.make_opsetid("", case.opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), feeds
