"""``python -m accelsdk``: the command line."""

from accelsdk.cli.main import run

run()
