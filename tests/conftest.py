import os

# Tests leave nothing in the user's cache of programs, and find nothing there.
os.environ["ACCELSDK_CACHE"] = "off"
