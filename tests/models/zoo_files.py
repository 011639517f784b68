"""magika: what kind of file is this?"""

from __future__ import annotations

import gzip
import io
import json
import sysconfig
import wave
import zipfile
from pathlib import Path

import numpy as np
import speech
from numpy.typing import NDArray
from zoo_base import Feeds, Model, Run, locate, only

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
    return [labels[int(only(run(feeds)).argmax())] for feeds in _magika_feeds()]


MAGIKA = Model(
    name="magika",
    package="magika",
    path=f"{_MAGIKA}/model.onnx",
    shapes={"bytes": (1, 2048)},
    run=_magika_run,
    feeds=_magika_feeds,
    truth=lambda: [label for label, _ in _files()],
)
