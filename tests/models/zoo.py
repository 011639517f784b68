"""The real models: which there are. What each means stands in the modules beside this one."""

from __future__ import annotations

from zoo_base import Feeds, Missing, Model, Run, locate
from zoo_files import MAGIKA
from zoo_light import LIGHT
from zoo_made import MADE
from zoo_ocr import CLS, DET, DET_V4, REC, REC_V4
from zoo_speech import SILERO, VARIANTS
from zoo_text import MINILM

__all__ = ["EVERY", "MINILM", "MODELS", "SILERO", "Feeds", "Missing", "Model", "Run", "locate"]

#: The first five: what benchmarks time.
MODELS = (MAGIKA, CLS, REC, SILERO, MINILM)
#: All of them.
EVERY = (*MODELS, DET, DET_V4, REC_V4, *VARIANTS, *LIGHT, *MADE)
