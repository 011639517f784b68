"""Property tests here are deterministic, and their time is not judged: machines differ."""

from hypothesis import settings

settings.register_profile("numerics", deadline=None, derandomize=True)
settings.load_profile("numerics")
