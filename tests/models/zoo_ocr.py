"""PP-OCR: finding, turning and reading rendered lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from zoo_base import Feeds, Model, Run, only

LINES = (
    "The quick brown fox",
    "jumps over 13 lazy dogs",
    "accelerator 2107.04140",
    "Invoice No. 48215-B",
    "Total: 1,299.00 EUR",
    "matrix multiplication",
    "HELLO WORLD 2026",
    "numpy and onnx models",
    "rounding to nearest even",
    "Reykjavik, 64.15 N",
)


def line(text: str) -> NDArray[np.uint8]:
    """Renders a line of dark text on white, 48 pixels high."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=32)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("RGB", (int(right - left) + 16, int(bottom - top) + 12), "white")
    ImageDraw.Draw(image).text((8 - left, 6 - top), text, fill=(20, 20, 40), font=font)
    width = max(1, round(image.width * 48 / image.height))
    return np.asarray(image.resize((width, 48), Image.Resampling.BILINEAR))


def ocr_input(image: NDArray[np.uint8], width: int) -> NDArray[np.float32]:
    """The pre-processing of PaddleOCR: fit the width, scale to [-1, 1], pad with zeros."""
    from PIL import Image

    if image.shape[1] > width:
        image = np.asarray(Image.fromarray(image).resize((width, 48), Image.Resampling.BILINEAR))
    pixels = image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)  # RGB to BGR
    padded = np.zeros((1, 3, 48, width), np.float32)
    padded[0, :, :, : image.shape[1]] = (pixels / 255 - 0.5) / 0.5
    return padded


REC_WIDTH = 480


def rec_feeds() -> list[Feeds]:
    """The rendered lines, as the recogniser takes them."""
    return [{"x": ocr_input(line(text), REC_WIDTH)} for text in LINES]


def rec_run(model: Model, run: Run) -> list[str]:
    """Reads every line with the characters that the model file carries."""
    import onnx

    loaded = onnx.load(model.file(), load_external_data=False)
    table = next(p.value for p in loaded.metadata_props if p.key == "character")
    symbols = ["", *table.splitlines(), " "]  # 0 is the blank of CTC
    return [_ctc(only(run(feeds))[0], symbols) for feeds in rec_feeds()]


def _ctc(scores: NDArray, symbols: Sequence[str]) -> str:
    best = scores.argmax(axis=1)
    kept = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return "".join(symbols[index] for index in kept)


def cls_feeds() -> list[Feeds]:
    """The rendered lines, upright and turned by half."""
    images = [line(text) for text in LINES]
    turned = [image for pair in ((i, i[::-1, ::-1]) for i in images) for image in pair]
    return [{"x": ocr_input(image, 192)} for image in turned]


def cls_run(run: Run) -> list[str]:
    """Says of each line whether it is upside down."""
    return [("0", "180")[int(only(run(feeds)).argmax())] for feeds in cls_feeds()]


# -- finding lines on a page -------------------------------------------------------------------

_PAGE = 320
_PAGES = (LINES[:1], LINES[1:4], LINES[4:9])


def _page(lines: Sequence[str]) -> NDArray[np.float32]:
    """A page with lines of text, far apart, normalised as PaddleOCR does (ImageNet)."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (_PAGE, _PAGE), "white")
    font = ImageFont.load_default(size=20)
    for index, text in enumerate(lines):
        ImageDraw.Draw(image).text((20, 16 + 60 * index), text, fill=(20, 20, 40), font=font)
    pixels = np.asarray(image)[:, :, ::-1].astype(np.float32) / 255
    scaled = (pixels - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def _det_feeds() -> list[Feeds]:
    return [{"x": _page(lines)} for lines in _PAGES]


def _det_run(run: Run) -> list[str]:
    """Counts the bands of rows in which the model sees text."""
    found = []
    for feeds in _det_feeds():
        rows = only(run(feeds))[0, 0].max(axis=1) > 0.3
        found.append(str(int((np.diff(rows, prepend=False) & rows).sum())))
    return found


def _recogniser(name: str, package: str, path: str, *, exact: bool = True) -> Model:
    model = Model(
        name=name,
        package=package,
        path=path,
        shapes={"x": (1, 3, 48, REC_WIDTH)},
        run=lambda run: rec_run(model, run),
        feeds=rec_feeds,
        truth=(lambda: list(LINES)) if exact else None,
    )
    return model


_detector = partial(
    Model,
    shapes={"x": (1, 3, _PAGE, _PAGE)},
    run=_det_run,
    feeds=_det_feeds,
    truth=lambda: [str(len(lines)) for lines in _PAGES],
)
CLS = Model(
    name="PP-OCR textline classifier",
    package="rapidocr-onnxruntime",
    path="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    shapes={"x": (1, 3, 48, 192)},
    run=cls_run,
    feeds=cls_feeds,
    truth=lambda: ["0", "180"] * len(LINES),
)
REC = _recogniser("PP-OCRv6 recogniser", "rapidocr", "rapidocr/models/PP-OCRv6_rec_small.onnx")
REC_V4 = _recogniser(
    "PP-OCRv4 recogniser",
    "rapidocr-onnxruntime",
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    exact=False,  # the older model adds blanks to half of the lines
)
DET = _detector(
    name="PP-OCRv6 detector",
    package="rapidocr",
    path="rapidocr/models/PP-OCRv6_det_small.onnx",
)
DET_V4 = _detector(
    name="PP-OCRv4 detector",
    package="rapidocr-onnxruntime",
    path="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
)
