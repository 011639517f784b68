"""docs/ops.md is what the table says."""

from accelsdk.graph.ops import TABLE
from docs.ops_page import PAGE, page


def test_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m docs.ops_page"


def test_page_has_every_op():
    text = page()
    for op, row in TABLE.items():
        assert f"### {op}\n" in text
        for definition in row.attributes:
            assert f"- `{definition.name}` (" in text
