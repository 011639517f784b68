"""Deterministic speech-like audio and noise, from a source-filter model.

A voice is a sum of harmonics of a gliding pitch, weighted by the resonances of vowels
(formant frequencies after Peterson & Barney, JASA 24, 1952), opened and closed in syllables,
with a burst of high noise before each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
_VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
    (530, 1840, 2480),
)
_BANDWIDTHS = (80.0, 100.0, 140.0)


def speech(seconds: float) -> NDArray[np.float32]:
    """Returns a voice that says vowels at four syllables a second."""
    count = int(seconds * RATE)
    t = np.arange(count) / RATE
    syllable = np.minimum((t * 4).astype(int), int(seconds * 4))
    vowel = np.array(_VOWELS, float)[syllable % len(_VOWELS)]
    smooth = np.ones(800) / 800
    formants = np.stack([np.convolve(f, smooth, "same") for f in vowel.T])
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.7 * t) + 4 * np.sin(2 * np.pi * 5.3 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = np.zeros(count)
    for harmonic in range(1, 34):
        frequency = harmonic * pitch
        gain = sum(
            1 / (1 + ((frequency - f) / b) ** 2) for f, b in zip(formants, _BANDWIDTHS, strict=True)
        )
        voice += gain / harmonic**0.7 * np.sin(harmonic * phase)
    position = (t * 4) % 1
    envelope = np.clip(np.sin(np.pi * np.clip((position - 0.15) / 0.8, 0, 1)), 0, None) ** 0.5
    hiss = np.diff(np.random.default_rng(1).standard_normal(count + 1)) * (position < 0.15)
    made = voice * envelope + 0.05 * hiss
    return (0.3 * made / np.abs(made).max()).astype(np.float32)


def noise(seconds: float) -> NDArray[np.float32]:
    """Returns white noise as loud as a quiet room's hum."""
    count = int(seconds * RATE)
    return (0.01 * np.random.default_rng(2).standard_normal(count)).astype(np.float32)
