"""References of float64 functions, in extended precision, against arbitrary precision."""

import mpmath
import numpy as np
import pytest

from accelsdk_conformance.oracles import functions

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 60, reason="the suite leaves these cases out on such a host"
)

TRUTH = {
    "Exp": (mpmath.exp, (-700, 700)),
    "Log": (mpmath.log, (1e-300, 1e300)),
    "Sin": (mpmath.sin, (-3e4, 3e4)),
    "Tan": (mpmath.tan, (-3e4, 3e4)),
    "Asin": (mpmath.asin, (-1, 1)),
    "Acosh": (mpmath.acosh, (1, 1e6)),
    "Atanh": (mpmath.atanh, (-1, 1)),
    "Sinh": (mpmath.sinh, (-700, 700)),
    "Tanh": (mpmath.tanh, (-20, 20)),
    "Sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), (-700, 700)),
    "Erf": (mpmath.erf, (-6, 6)),
    "Gelu": (lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2, (-12, 12)),
    "Softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), (-700, 700)),
    "Mish": (lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))), (-20, 20)),
    "Elu": (lambda x: x if x > 0 else mpmath.expm1(x), (-20, 20)),
}


def exact(value):
    """Returns an extended-precision number as an arbitrary-precision one."""
    high = float(value)
    return mpmath.mpf(high) + mpmath.mpf(float(value - np.longdouble(high)))


@pytest.mark.parametrize("op", TRUTH)
def test_references_are_finer_than_a_tenth_of_the_last_place(op):
    truth, (low, high) = TRUTH[op]
    rng = np.random.default_rng(3)
    small = rng.uniform(-1, 1, 100) * np.exp2(rng.integers(-24, 1, 100))
    x = np.concatenate([rng.uniform(low, high, 100), small])
    x = x[(x > low) & (x < high) & (x != 0)]
    found = functions.unary(op, {})(x.astype(np.longdouble))
    assert found.dtype == np.longdouble
    with mpmath.workprec(220):
        wanted = [truth(mpmath.mpf(v)) for v in x]
        worst = max(abs(exact(f) - w) / abs(w) for f, w in zip(found, wanted, strict=True))
    assert worst < 2.0**-52 / 10
