"""silero-vad: is this speech? The one that streams in batches, and six that go step by step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import speech
from numpy.typing import NDArray
from zoo_base import Feeds, Model, Run

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


#: One stream: what was fed, and the probability of speech in each window.
Stream = tuple[list[Feeds], NDArray[np.float32]]


def _in_batches(run: Run) -> Stream:
    """31 windows at a time; hidden and cell state carried on."""
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


def _step_by_step(run: Run, *, rate: bool = False) -> Stream:
    """One window at a time; the state is one tensor; some variants ask for the sample rate."""
    state = np.zeros((2, 1, 128), np.float32)
    fed, found = [], []
    for window in _windows():
        feeds: Feeds = {"input": window[None], "state": state}
        if rate:
            feeds["sr"] = np.array(speech.RATE, np.int64)
        outputs = run(feeds)
        fed.append(feeds)
        found.append(outputs["output"][0])
        state = outputs["stateN"]
    return fed, np.concatenate(found)


def _labels(stream: Callable[[Run], Stream], run: Run) -> list[str]:
    return ["speech" if p > 0.5 else "noise" for p in stream(run)[1]]


def _recorded(model: Model, stream: Callable[[Run], Stream]) -> list[Feeds]:
    """What onnxruntime is fed while it streams, a second of speech among it first."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model.file()), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    fed = stream(lambda feeds: dict(zip(names, session.run(None, feeds), strict=True)))[0]
    return fed if len(fed) <= 4 else fed[_STEPS + 5 : _STEPS + 8]


def _model(
    name: str, package: str, path: str, stream: Callable[[Run], Stream], *, rate: bool = False
) -> Model:
    batched = stream is _in_batches
    extent = {"input": (_STEPS if batched else 1, _WINDOW + _CONTEXT)}
    state = {"h": (1, 1, 128), "c": (1, 1, 128)} if batched else {"state": (2, 1, 128)}
    model = Model(
        name=name,
        package=package,
        path=path,
        shapes=extent | state,
        values={"sr": np.array(speech.RATE, np.int64)} if rate else {},
        run=partial(_labels, stream),
        feeds=lambda: _recorded(model, stream),
    )
    return model


def _variant(file: str, *, rate: bool = False, batched: bool = False) -> Model:
    stream = _in_batches if batched else partial(_step_by_step, rate=rate)
    name = f"silero-vad {file.removeprefix('silero_vad').lstrip('_') or 'v5'}"
    return _model(name, "silero-vad", f"silero_vad/data/{file}.onnx", stream, rate=rate)


SILERO = _model(
    "silero-vad v6", "faster-whisper", "faster_whisper/assets/silero_vad_v6.onnx", _in_batches
)
VARIANTS = (
    _variant("silero_vad", rate=True),
    _variant("silero_vad_16k_op15", rate=True),
    _variant("silero_vad_16k_sequence", batched=True),
    _variant("silero_vad_half"),
    _variant("silero_vad_op18_ifless", rate=True),
    _variant("silero_vad_openvino_16k"),
)
