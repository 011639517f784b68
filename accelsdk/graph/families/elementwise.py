"""Elementwise arithmetic, functions, comparison, logic and select."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accelsdk.formats import BOOL, FORMATS, INT32, INT64, Format, Kind
from accelsdk.graph.families.sets import FLOATS, INTEGERS, NUMBERS, SIGNED, UNSIGNED
from accelsdk.graph.opdef import (
    AttributeDef,
    Call,
    Family,
    InferRule,
    NumericsClass,
    OpDef,
    choice,
    flag,
    operands,
    per_result,
    results,
)
from accelsdk.graph.types import TensorType

EXACT, ROUNDED, FUNCTION = NumericsClass.EXACT, NumericsClass.ROUNDED, NumericsClass.FUNCTION
#: IsNaN and IsInf look at any float code, wide or narrow.
_FLOAT_CODES = tuple(row for row in FORMATS if row.kind is Kind.FLOAT)


def unary(formats: Sequence[Format], result: Format | None = None) -> InferRule:
    """Returns the rule "same shape; same format, unless ``result`` says otherwise"."""

    def infer(call: Call) -> Sequence[TensorType]:
        x = call.operand(0)
        call.among(x, formats)
        return (TensorType(result or x.format, x.shape),)

    return infer


def binary(formats: Sequence[Format], result: Format | None = None) -> InferRule:
    """Returns the rule "equal formats, broadcast shapes"."""

    def infer(call: Call) -> Sequence[TensorType]:
        a, b = call.operand(0), call.operand(1)
        call.among(a, formats)
        call.same_format(a, b)
        return (TensorType(result or a.format, call.broadcast(a.shape, b.shape)),)

    return infer


def _mod(call: Call) -> Sequence[TensorType]:
    a = call.operand(0)
    call.check(
        not a.format.is_float or call.integer("fmod") == 1, "attribute", "floats need fmod=1"
    )
    return binary(NUMBERS)(call)


def _pow(call: Call) -> Sequence[TensorType]:
    # ONNX lets the exponent have a format of its own; the result is as the base.
    x, y = call.operand(0), call.operand(1)
    call.among(x, (*FLOATS, INT32, INT64), "base")
    call.among(y, NUMBERS, "exponent")
    return (TensorType(x.format, call.broadcast(x.shape, y.shape)),)


def _where(call: Call) -> Sequence[TensorType]:
    condition, x, y = call.operand(0), call.operand(1), call.operand(2)
    call.among(condition, (BOOL,), "condition")
    call.same_format(x, y)
    return (TensorType(x.format, call.broadcast(condition.shape, x.shape, y.shape)),)


def _row(
    name: str,
    names: str,
    infer: InferRule,
    numerics: NumericsClass,
    help: str,
    formats: str,
    attributes: tuple[AttributeDef, ...] = (),
) -> OpDef:
    return OpDef(
        name=name,
        family=Family.ELEMENTWISE,
        help=help,
        operands=operands(names),
        results=results("Y"),
        attributes=attributes,
        infer=infer,
        numerics=numerics,
        work=per_result(),
        formats=formats,
    )


_FUNCTIONS = {
    **{"Exp": "e to the power x", "Log": "Natural logarithm"},
    **{name: f"{name.lower()}(x)" for name in ("Sin", "Cos", "Tan", "Asin", "Acos", "Atan")},
    **{name: f"{name.lower()}(x)" for name in ("Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Tanh")},
    **{"Sigmoid": "1 / (1 + exp(-x))", "Erf": "The error function of x"},
}


def _unary_rows() -> list[OpDef]:
    row: Callable[..., OpDef] = _row
    nan_flags = (flag("detect_negative", 1), flag("detect_positive", 1))
    numbers, floats = "floats, integers", "floats"
    return [
        row("Abs", "X", unary(NUMBERS), EXACT, "|x|; the lowest integer stays", numbers),
        row("Neg", "X", unary((*FLOATS, *SIGNED)), EXACT, "-x; wraps", "floats, signed integers"),
        row("Sign", "X", unary(NUMBERS), EXACT, "-1, 0 or 1; NaN stays", numbers),
        row("Floor", "X", unary(FLOATS), EXACT, "Largest integer not above x", floats),
        row("Ceil", "X", unary(FLOATS), EXACT, "Smallest integer not below x", floats),
        row("Round", "X", unary(FLOATS), EXACT, "Nearest integer, ties to even", floats),
        row("Sqrt", "X", unary(FLOATS), ROUNDED, "Square root", floats),
        row("Reciprocal", "X", unary(FLOATS), ROUNDED, "1 / x", floats),
        *(
            row(name, "X", unary(FLOATS), FUNCTION, help, floats)
            for name, help in _FUNCTIONS.items()
        ),
        row("Not", "X", unary((BOOL,)), EXACT, "Logical not", "bool"),
        row("BitwiseNot", "X", unary(INTEGERS), EXACT, "Flips every bit", "integers"),
        row("IsNaN", "X", unary(_FLOAT_CODES, BOOL), EXACT, "Whether x is NaN", "float codes"),
        row(
            "IsInf",
            "X",
            unary(_FLOAT_CODES, BOOL),
            EXACT,
            "Whether x is infinite",
            "float codes",
            nan_flags,
        ),
    ]


def _binary_rows() -> list[OpDef]:
    row: Callable[..., OpDef] = _row
    numbers, bits = "floats, integers", "integers"
    compared = (*NUMBERS, BOOL)
    direction = (choice("direction", ("LEFT", "RIGHT")),)
    orders = {"Less": "<", "LessOrEqual": "<=", "Greater": ">", "GreaterOrEqual": ">="}
    return [
        row("Add", "A B", binary(NUMBERS), ROUNDED, "a + b; integers wrap", numbers),
        row("Sub", "A B", binary(NUMBERS), ROUNDED, "a - b; integers wrap", numbers),
        row("Mul", "A B", binary(NUMBERS), ROUNDED, "a * b; integers wrap", numbers),
        row("Div", "A B", binary(NUMBERS), ROUNDED, "a / b; integers truncate", numbers),
        row("Pow", "X Y", _pow, FUNCTION, "x to the power y", "base float, int32, int64"),
        row(
            "Mod",
            "A B",
            _mod,
            EXACT,
            "Remainder; sign of b, or of a if fmod",
            numbers,
            (flag("fmod", 0),),
        ),
        row("Min", "A B", binary(NUMBERS), EXACT, "Lesser; NaN wins", numbers),
        row("Max", "A B", binary(NUMBERS), EXACT, "Greater; NaN wins", numbers),
        *(
            row(name, "A B", binary((BOOL,)), EXACT, f"Logical {name.lower()}", "bool")
            for name in ("And", "Or", "Xor")
        ),
        row("Equal", "A B", binary(compared, BOOL), EXACT, "a == b", f"{numbers}, bool"),
        *(
            row(name, "A B", binary(NUMBERS, BOOL), EXACT, f"a {sign} b", numbers)
            for name, sign in orders.items()
        ),
        *(
            row(f"Bitwise{name}", "A B", binary(INTEGERS), EXACT, f"{name} of every bit", bits)
            for name in ("And", "Or", "Xor")
        ),
        row(
            "BitShift",
            "X Y",
            binary(UNSIGNED),
            EXACT,
            "Shifts x by y bits",
            "unsigned integers",
            direction,
        ),
    ]


_SELECT = _row("Where", "condition X Y", _where, EXACT, "x where condition, else y", "any")

ROWS: tuple[OpDef, ...] = (*_unary_rows(), *_binary_rows(), _SELECT)
