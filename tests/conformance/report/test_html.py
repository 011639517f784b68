"""The page: whole, self-contained, readable in both colours, and true to the data."""

import re
from html.parser import HTMLParser
from importlib import resources

import pytest
from example_runs import make_run, passed

from accelsdk_conformance.case import Level
from accelsdk_conformance.report.data import as_json
from accelsdk_conformance.report.html import render
from accelsdk_conformance.report.matrix import matrices
from accelsdk_conformance.report.plots import Spread, histogram, strips

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and notes ids, links and what is loaded."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.loads, self.tags = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        self.loads += [given[name] for name in ("src", "srcset", "data") if name in given]
        assert not any(name.startswith("on") for name in given)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(report):
    text = render(report)
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return text, page


def test_the_page_is_whole_and_loads_nothing(report):
    text, page = parsed(report)
    assert page.loads == []
    assert "script" not in page.tags
    assert "@import" not in text
    assert "url(" not in text
    assert len(page.ids) == len(set(page.ids))
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    outside = [link for link in page.links if not link.startswith("#")]
    assert outside == ["https://example.org/7"]


def test_the_page_tells_everything(report):
    text, _ = parsed(report)
    for part in (
        "NON-CONFORMANT",
        "--replay fp8/Cast/fp32xe4m3/",
        "1.0 (0x3C00) &lt;b&gt;",  # what a plugin says is text
        "no &lt;such&gt; op",
        "no answer within 3 s",
        "firmware 1.2",
        "refutes the claim",
        "not exercised",
        "unclaimed",
        "NPU 7",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("change", "mark"), [({}, "✓"), ({"partial": True}, "◌"), ({"level": Level.SMOKE}, "◌")]
)
def test_only_a_whole_run_gets_the_green_mark(device_cases, change, mark):
    run = make_run(device_cases, map(passed, device_cases), profiles=("device",), **change)
    text, _ = parsed(as_json(run))
    assert f'<span class="mark" aria-hidden="true">{mark}</span>' in text


def test_a_link_that_is_no_web_address_is_text(report):
    report["waivers"][0]["link"] = "javascript:alert(1)"
    _, page = parsed(report)
    assert not any("javascript" in link for link in page.links)


def test_the_matrix_shows_the_loosest_tier_and_every_broken_case(report):
    fp8, fp32 = sorted(matrices(report["results"]), key=lambda m: m.profile, reverse=True)
    (cast,) = fp8.pairs
    assert (cast.title, cast.columns) == ("Cast", ["e4m3"])
    assert cast.rows[0][0] == "fp32"
    assert cast.rows[0][1][0].text == f"1/{fp8.cases}"
    assert fp8.broken == 1
    shown = {cell.text for table in fp32.families for _, cells in table.rows for cell in cells}
    assert shown & {"U"}
    assert sum(m.cases for m in (fp8, fp32)) == len(report["results"])


def test_plots_show_every_case_once_and_nothing_accepted_beyond_the_bound():
    points = [(10.0**-k, f"c{k}", True) for k in range(9)] + [(3.0, "bad", False)]
    points += [(1e300, "worse", False)]
    spread = Spread("x & y", 4, tuple(points))
    svg = histogram(spread)
    counts = [int(n) for n in re.findall(r": (\d+) (?:cases|failing cases)</title>", svg)]
    assert sum(counts) == len(points)
    over = re.findall(r'class="bar over" x="([\d.]+)"', svg)
    inside = re.findall(r'class="bar" x="([\d.]+)"', svg)
    assert max(map(float, inside)) < 6 / 7 * 300 < min(map(float, over))
    dots = strips([spread])
    assert dots.count('class="cross"') == 2
    assert "x &amp; y" in dots


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


PAIRS = [
    *(("ink", back) for back in ("page", "panel", "t0", "t1", "t2", "t3", "u", "off")),
    *(("soft", back) for back in ("page", "panel", "off")),
    ("link", "page"), ("link", "panel"), ("good", "good-back"), ("bad", "bad-back"),
    ("warn", "warn-back"), ("bad", "page"), ("bad", "hole"),
]  # fmt: skip


@pytest.mark.parametrize("theme", [0, 1])
def test_text_has_the_contrast_that_wcag_asks_for(theme):
    css = (resources.files("accelsdk_conformance") / "report" / "report.css").read_text()
    block = re.findall(r":root \{([^}]*--page[^}]*)\}", css)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    for text, back in PAIRS:
        assert contrast(colours[text], colours[back]) >= 4.5, (text, back)
    assert contrast(colours["dot"], colours["page"]) >= 3
