"""The page about the card is made from the card."""

from pathlib import Path

import pytest

from accelsdk.errors import NotFound
from accelsdk_sim_card import tables

PAGE = Path(__file__).parents[3] / "docs" / "sim-card.md"


def test_the_page_is_up_to_date():
    text = PAGE.read_text("utf-8")
    assert tables.refresh(text) == text


def test_the_page_has_every_table():
    text = PAGE.read_text("utf-8")
    assert all(f"<!-- table: {name} -->\n|" in text for name in tables.TABLES)


def test_refreshing_replaces_what_is_old(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table: faults -->\nold\n<!-- end -->\nb\n")
    tables.main(str(page))
    assert "old" not in page.read_text()
    assert "| `hang` |" in page.read_text()
    assert list(tmp_path.iterdir()) == [page]


def test_an_unknown_table_is_named():
    with pytest.raises(NotFound, match="nonsense"):
        tables.refresh("<!-- table: nonsense -->\n<!-- end -->")
