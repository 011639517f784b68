"""Attention, rotary embedding and decoders' attention of com.microsoft against onnxruntime."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.errors import AccelError
from tests.compiler.rules.microsoft_peer import (
    BYTES,
    SEEDS,
    SMALL,
    Data,
    check_floats,
    close,
    here,
    model,
    scalar,
)

BATCH, HEADS, SIZE = 2, 2, 4
HIDDEN = HEADS * SIZE
MASKS = st.sampled_from(["none", "ends", "starts", "keys", "scores"])


def _mask(make, form, rows, columns):
    """One of the forms of a mask; every query sees a key."""
    if form == "none":
        return None
    if form in ("ends", "starts"):
        ends = make.rng.integers(1, columns + 1, BATCH)
        return np.array([*ends, *([0] * BATCH if form == "starts" else [])], np.int32)
    shape = (BATCH, columns) if form == "keys" else (BATCH, rows, columns)
    mask = (make.rng.random(shape) > 0.3).astype(np.int32)
    mask[..., 0] = 1  # where no key is seen, -10000 rounds what is added to it, in any order
    return mask


@SMALL
@given(
    form=MASKS,
    rows=st.integers(1, 5),
    past=st.integers(0, 3),
    causal=st.integers(0, 1),
    bias=st.sampled_from([None, (1, HEADS), (BATCH, 1)]),
    seed=SEEDS,
)
def test_attention(form, rows, past, causal, bias, seed):
    make, columns = Data(seed), rows + past
    operands = [
        *(make.reals(BATCH, rows, 6), make.reals(6, 3 * HIDDEN) * np.float32(0.3)),
        *(make.reals(3 * HIDDEN), _mask(make, form, rows, columns)),
        make.reals(2, BATCH, HEADS, past, SIZE) if past else None,
        None if bias is None or past else make.reals(*bias, rows, columns),
    ]
    node = {"num_heads": HEADS, "unidirectional": causal}
    check_floats("Attention", operands, outputs=2, terms=6, **node)


@pytest.mark.parametrize(
    "node", [{"scale": 0.3}, {"mask_filter_value": -4.0}, {"qkv_hidden_sizes": [8, 8, 4]}]
)
def test_attention_attributes(node):
    make = Data(2)
    widths = node.get("qkv_hidden_sizes", [8, 8, 8])
    operands = [make.reals(BATCH, 5, 6), make.reals(6, sum(widths)), make.reals(sum(widths))]
    mask = np.array([3, 5], np.int32)
    check_floats("Attention", [*operands, mask], terms=12, num_heads=HEADS, **node)


@SMALL
@given(
    weight=BYTES,
    form=MASKS,
    rows=st.integers(1, 5),
    past=st.integers(0, 2),
    per_column=st.booleans(),
    seed=SEEDS,
)
def test_quantised_attention(weight, form, rows, past, per_column, seed):
    make = Data(seed)
    columns = (3 * HIDDEN,) if per_column else ()
    w_zero = np.zeros(columns, weight) if per_column else make.zero(weight)
    operands = [
        *(make.codes(np.uint8, BATCH, rows, 6), make.codes(weight, 6, 3 * HIDDEN)),
        *(make.reals(3 * HIDDEN), scalar(0.01), make.scale(*columns, high=0.02)),
        *(_mask(make, form, rows, rows + past), make.zero(np.uint8), w_zero),
        make.reals(2, BATCH, HEADS, past, SIZE) if past else None,
    ]
    node = {"num_heads": HEADS, "unidirectional": 1}
    check_floats("QAttention", operands, outputs=2, terms=12, **node)


@SMALL
@given(
    form=st.sampled_from(["none", "ends", "keys", "scores"]),
    rows=st.integers(1, 4),
    columns=st.integers(1, 5),
    past=st.integers(0, 2),
    bias=st.booleans(),
    scores=st.booleans(),
    seed=SEEDS,
)
def test_multi_head_attention(form, rows, columns, past, bias, scores, seed):
    make = Data(seed)
    if past:
        columns = rows  # onnxruntime takes a past with self-attention alone
        form = "none" if form == "ends" else form
    values = HIDDEN if past else HEADS * 3
    total = columns + past
    cache = [make.reals(BATCH, HEADS, past, s) if past else None for s in (SIZE, values // HEADS)]
    operands = [
        *(make.reals(BATCH, rows, HIDDEN), make.reals(BATCH, columns, HIDDEN)),
        make.reals(BATCH, columns, values),
        make.reals(2 * HIDDEN + values) if bias else None,
        _mask(make, form, rows, total),
        make.reals(1, HEADS, rows, total) if scores else None,
        *cache,
    ]
    check_floats("MultiHeadAttention", operands, outputs=3, terms=6, num_heads=HEADS)


@pytest.mark.parametrize("causal", [0, 1])
def test_multi_head_attention_over_given_heads(causal):
    make = Data(4)
    rows = 5
    operands = [make.reals(BATCH, rows, HIDDEN), *[make.reals(BATCH, HEADS, rows, SIZE)] * 2]
    node = {"num_heads": HEADS, "unidirectional": causal, "scale": 0.7}
    check_floats("MultiHeadAttention", operands, terms=4, **node)


def test_packed_queries_keys_and_values():
    """onnxruntime packs them on other devices only: compared with the same, not packed."""
    make = Data(5)
    parts = [make.reals(BATCH, 3, HEADS, SIZE) for _ in range(3)]
    q, k, v = (part.reshape(BATCH, 3, HIDDEN) for part in parts)
    packed, pair = np.stack(parts, axis=3), np.stack(parts[1:], axis=3)
    forms = [[q, k, v], [packed], [q, pair]]
    results = [
        here(
            model("MultiHeadAttention", form, num_heads=HEADS),
            {f"x{i}": a for i, a in enumerate(form)},
        )[0]
        for form in forms
    ]
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@SMALL
@given(
    interleaved=st.integers(0, 1),
    split=st.booleans(),
    part=st.booleans(),
    one=st.booleans(),
    length=st.integers(1, 4),
    seed=SEEDS,
)
def test_rotary_embedding(interleaved, split, part, one, length, seed):
    make, longest = Data(seed), 9
    shape = (BATCH, HEADS, length, 8) if split else (BATCH, length, HEADS * 8)
    half = 2 if part else 4
    positions = (
        np.array([3], np.int64) if one else make.indices(longest, BATCH, length, dtype=np.int64)
    )
    node = {"num_heads": HEADS, "rotary_embedding_dim": 4} if part else {}
    caches = [make.reals(longest, half) for _ in range(2)]
    operands = [make.reals(*shape), positions, *caches]
    check_floats("RotaryEmbedding", operands, interleaved=interleaved, **node)


def _group(make, rows, *, past=None, cache=None, packed=False, batch=1, rotary=False):
    """Operands of GroupQueryAttention: 4 heads of 16, which share 2 keys and values."""
    queries, shared = 64, 32
    total = rows + (past or 0)
    operands = [make.reals(batch, rows, queries + 2 * shared), None, None]
    if not packed:
        operands = [make.reals(batch, rows, n) for n in (queries, shared, shared)]
    operands += [make.reals(batch, 2, cache, 16) if cache else None for _ in range(2)]
    operands += [np.full(batch, total - 1, np.int32), np.array(total, np.int32)]
    return operands + [make.reals(20, 8) if rotary else None for _ in range(2)]


def _check_group(operands, **node):
    while operands[-1] is None:
        operands = operands[:-1]
    counts = {"num_heads": 4, "kv_num_heads": 2}
    check_floats("GroupQueryAttention", operands, held=(5, 6), outputs=3, terms=8, **counts, **node)


@SMALL
@given(
    rows=st.integers(1, 5),
    packed=st.booleans(),
    rotary=st.booleans(),
    batch=st.integers(1, 2),
    node=st.sampled_from(
        [
            {},
            {"local_window_size": 2},
            {"softcap": 1.5},
            {"smooth_softmax": 1},
            {"scale": 0.4},
            {"rotary_interleaved": 1},
            {"causal": 0},
        ]
    ),
    seed=SEEDS,
)
def test_group_query_attention_of_a_prompt(rows, packed, rotary, batch, node, seed):
    operands = _group(Data(seed), rows, packed=packed, rotary=rotary, batch=batch)
    _check_group(operands, do_rotary=int(rotary), **node)


@SMALL
@given(
    rows=st.integers(1, 3),
    past=st.integers(1, 4),
    spare=st.integers(0, 5),
    rotary=st.booleans(),
    window=st.sampled_from([-1, 1, 3]),
    seed=SEEDS,
)
def test_group_query_attention_with_a_cache(rows, past, spare, rotary, window, seed):
    operands = _group(
        Data(seed), rows, past=past, cache=past + (spare and rows + spare), rotary=rotary
    )
    _check_group(operands, do_rotary=int(rotary), local_window_size=window)


@pytest.mark.parametrize("extra", ["positions", "bias", "sink"])
def test_group_query_attention_operands(extra):
    make, rows = Data(6), 4
    operands = _group(make, rows, rotary=extra == "positions")
    operands += {
        "positions": [make.indices(9, 1, rows, dtype=np.int64)],
        "bias": [None, make.reals(1, 1, rows, rows)],
        "sink": [None, None, make.reals(4)],
    }[extra]
    _check_group(operands, do_rotary=int(extra == "positions"))


@pytest.mark.parametrize("rows", [0, 1])
def test_no_queries(rows):
    make = Data(7)
    operands = [make.reals(1, rows, HIDDEN) for _ in range(3)]
    made = model("MultiHeadAttention", operands, num_heads=HEADS)
    (found,) = here(made, {f"x{i}": a for i, a in enumerate(operands)})
    close(found, operands[2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_heads": 3}, "kv_num_heads 2 does not divide num_heads 3"),
        ({"qk_output": 1}, "output_qk"),
        ({"k_quant_type": "PER_TENSOR"}, "quantised cache"),
        ({"surprise": 1}, "attribute 'surprise' is not supported"),
    ],
)
def test_refusals_say_why(change, words):
    operands = _group(Data(8), 2)[:7]
    node = {"num_heads": 4, "kv_num_heads": 2} | change
    with pytest.raises(AccelError, match=words):
        here(model("GroupQueryAttention", operands, **node), {})


def test_a_cache_of_unknown_length_is_refused():
    operands = _group(Data(9), 2, past=3, cache=3)[:7]
    made = model("GroupQueryAttention", operands, num_heads=4, kv_num_heads=2)
    with pytest.raises(AccelError, match=r"seqlens_k .* must be constant"):
        here(made, {})
