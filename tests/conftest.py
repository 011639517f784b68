import os

from hypothesis import settings

from accelsdk_conformance.scenarios.seeded import BACKEND

# Tests leave nothing in the user's cache of programs, and find nothing there.
os.environ["ACCELSDK_CACHE"] = "off"

# What property tests draw follows from the tests alone, so that a run says something about the
# change that it is made for; their time is not judged, for machines differ. The other profile
# looks for what nobody has drawn yet: `pytest --hypothesis-profile=search`.
settings.register_profile(
    "accelsdk", deadline=None, database=None, derandomize=True, backend=BACKEND
)
settings.register_profile("search", deadline=None)
settings.load_profile("accelsdk")
