"""The page, the print and the table of a report: nothing to run or load, and the same each time."""

from __future__ import annotations

import csv
import io
import re
import struct
import zlib
from copy import deepcopy
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from browser import DARK, Browser, find_axe, find_browser

from router.reports.charts import CHARTS, COLOURS, draw
from router.reports.page import TEMPLATES, report_page
from router.reports.pdf import report_pdf
from router.reports.sheets import COLUMNS, report_csv, safe_cell

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 300_000
POLICY = "default-src 'none'"
LOADING = {"src", "srcset", "data", "action", "poster", "background", "ping", "formaction"}
LEAST_CONTRAST = 4.5


class Elements(HTMLParser):
    """All start tags of a page, with their attributes, and which tags are open at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="session")
def page(september: dict[str, Any]) -> str:
    """Render the report of the simulated ledger."""
    return report_page(september)


def test_a_page_has_nothing_to_run_and_nothing_to_load(page: str) -> None:
    """No script, no handler, no address, under a policy that would refuse them."""
    elements = Elements(page).found
    assert {"script", "link", "iframe", "object", "img"}.isdisjoint(tag for tag, _ in elements)
    for tag, attributes in elements:
        assert not LOADING.intersection(attributes), tag
        assert not any(name.startswith("on") for name in attributes), tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    assert not re.search(r"url\((?!#)|@import", page)
    policies = [a["content"] for t, a in elements if t == "meta" and "http-equiv" in a]
    assert len(policies) == 1
    assert (policies[0] or "").startswith(POLICY)
    assert len(page.encode()) < MOST_BYTES


def test_the_same_document_gives_the_same_bytes(september: dict[str, Any], page: str) -> None:
    """Names are salted with the chart's, and no time is written."""
    assert report_page(deepcopy(september)) == page


def test_every_chart_has_a_name_a_description_and_its_figures(
    september: dict[str, Any], page: str
) -> None:
    """A reader who does not see the picture gets the same figures as a table."""
    elements = Elements(page).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    charts = [attributes for tag, attributes in elements if tag == "svg"]
    drawn = [name for name, data in september["charts"].items() if data["empty"] is None]
    assert len(charts) == len(drawn) == len(CHARTS)
    for chart in charts:
        assert chart["role"] == "img"
        assert set((chart["aria-labelledby"] or "").split()) <= set(ids)
    assert sum(tag == "details" for tag, _ in elements) == len(drawn)
    assert sum(tag == "caption" for tag, _ in elements) == len(drawn) + 2
    pointed = re.findall(r'(?:href="|url\()#([\w.-]+)', page)
    assert set(pointed) <= set(ids)


def test_a_page_tells_what_the_document_says(september: dict[str, Any], page: str) -> None:
    """Each tile, the decision and the coverage, word for word; and that it was made up."""
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for tile in september["tiles"]:
        assert tile["title"] in text
        assert tile["value"] in text
        assert tile["detail"] in text
    assert "SIMULATED" in text
    assert september["header"]["coverage"] in text
    assert september["footer"]["definitions"][0]["text"] in text
    assert "Not audited" in text


def test_names_that_users_gave_are_text_and_never_markup(september: dict[str, Any]) -> None:
    """A team, an arm or a policy called like a script stays a name; in charts too."""
    evil = "<script>alert(1)</script>"
    document = deepcopy(september)
    document["drivers"]["rows"][0]["name"] = evil
    document["header"]["policy"] = evil
    document["charts"]["frontier"]["points"][0].update(name=evil, label=evil, on_frontier=True)
    document["charts"]["compute"]["parts"][0]["name"] = "$\\frac{1}{0}$" + evil
    document["charts"]["burn_up"]["title"] = evil
    made = report_page(document)
    assert "<script" not in made
    assert made.count("&lt;script&gt;") >= 4


def test_an_empty_report_draws_nothing_and_says_why(nothing: dict[str, Any]) -> None:
    """No axis from 0 to 1 where there is no figure, and no dollar sign."""
    made = report_page(nothing)
    assert "<svg" not in made
    assert made.count("Not enough data:") >= len(CHARTS)
    body = made.partition("<main>")[2]
    assert "$0" not in body


def test_literal_colours_are_of_the_palette_and_variables_of_the_page(
    september: dict[str, Any],
) -> None:
    """Print has fixed colours; the page can change each one, as it does in the dark."""
    style = (TEMPLATES / "report.css").read_text("utf-8")
    for name, data in september["charts"].items():
        literal, themed = draw(name, data, literal=True), draw(name, data)
        assert "var(" not in literal
        used = set(re.findall(r"#[0-9a-f]{6}\b", literal))
        assert used <= set(COLOURS)
        for variable in re.findall(r"var\(--(\w+)", themed):
            assert style.count(f"--{variable}:") == 2


def test_text_stands_out_from_its_ground_in_the_light_and_in_the_dark() -> None:
    """WCAG 2.2, 1.4.3: a contrast of at least 4.5 for every colour that text has."""
    style = (TEMPLATES / "report.css").read_text("utf-8")
    for block in re.findall(r":root \{([^}]*)\}", style):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for name in ("ink", "muted", "blue", "red", "green", "amber"):
            for ground in ("card", "back"):
                assert _contrast(colours[name], colours[ground]) >= LEAST_CONTRAST, (name, ground)


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_print_is_a_pdf_and_the_same_each_time(september: dict[str, Any]) -> None:
    """Two pages of A4 at most, without a time in them."""
    pytest.importorskip("weasyprint", reason="the extra `pdf` is not installed")
    made = report_pdf(september)
    assert made.startswith(b"%PDF-")
    assert report_pdf(september) == made
    assert 1 <= _pages(made) <= 2


def _pages(pdf: bytes) -> int:
    streams = [
        zlib.decompress(body)
        for body in re.findall(rb"/FlateDecode.*?stream\n(.*?)\nendstream", pdf, re.DOTALL)
        if body[:1] == b"x"
    ]
    whole = b"\n".join([pdf, *streams])
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", whole))


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", '=HYPERLINK("http://x")'],
)
def test_no_cell_is_taken_for_a_formula(september: dict[str, Any], text: str) -> None:
    """Names that users gave are quoted; figures stay figures, also below 0."""
    document = deepcopy(september)
    document["facts"]["by"]["team"][0]["name"] = text
    rows = list(csv.reader(io.StringIO(report_csv(document), newline="")))
    assert f"'{text}" in {row[1] for row in rows if row[0] == "team"}
    for row in rows[1:]:
        for cell in row:
            assert not cell.lstrip(" ").startswith(("=", "@", "\t", "\r", "\n"))
            assert not cell.startswith(("+", "-")) or float(cell) <= 0
    assert safe_cell(-5) == -5
    assert safe_cell(None) == ""


def test_the_table_has_the_whole_and_its_parts_in_nano_usd(september: dict[str, Any]) -> None:
    """A spreadsheet can add up what the page shows."""
    rows = list(csv.reader(io.StringIO(report_csv(september))))
    assert tuple(rows[0]) == COLUMNS
    costs: dict[str, int] = {}
    for section, _, figure, value, unit in rows[1:]:
        if figure == "cost" and unit == "nano-USD" and section != "change":
            costs[section] = costs.get(section, 0) + int(value)
    assert len(costs) > 8
    assert set(costs.values()) == {september["facts"]["whole"]["cost_nano_usd"]}


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """Find a browser; skip where none is installed."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    return Browser(program, tmp_path_factory.mktemp("browser"))


@pytest.mark.parametrize("width", [400, 1100])
def test_nothing_sticks_out_of_a_screen(browser: Browser, page: str, width: int) -> None:
    """Wide tables scroll in a frame of their own, which the keyboard reaches."""
    needed, sticking = browser.measure(page, width)
    assert (needed, sticking) == (width, "")
    scrolling = [a for _, a in Elements(page).found if a.get("class") == "scroll"]
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in scrolling)


def test_a_browser_shows_it_without_a_complaint_and_asks_for_nothing(
    browser: Browser, page: str, tmp_path: Path
) -> None:
    """Its policy refuses what is not in it, and the browser says so where something is."""
    path = tmp_path / "report.html"
    path.write_text(page, "utf-8")
    shot = tmp_path / "shot.png"
    _, said = browser.run(path, f"--screenshot={shot}", "--window-size=1100,1600")
    assert said == []
    assert _shades(shot.read_bytes()) > 20
    path.write_text(page.replace("<main>", '<main><img src="https://x.invalid/a.png">'), "utf-8")
    _, said = browser.run(path, "--dump-dom")
    assert len(said) == 1
    assert "Content Security Policy" in said[0]


@pytest.mark.parametrize("flags", [(), DARK], ids=["light", "dark"])
def test_an_examiner_finds_nothing_that_hinders_a_reader(
    browser: Browser, page: str, flags: tuple[str, ...]
) -> None:
    """With axe-core at hand no rule is broken, and a picture without a name would break one."""
    script = find_axe()
    if script is None:
        pytest.skip("RHEOSTAT_AXE does not name the script of axe-core")
    broken, kept = browser.examine(page, script, *flags)
    assert broken == []
    assert kept > 30
    nameless = page.replace("<main>", '<main><img src="data:,">')
    assert browser.examine(nameless, script, *flags)[0] == ["image-alt"]


def _shades(png: bytes) -> int:
    """Count how many different bytes the lines of a picture have."""
    body, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            body += png[at + 8 : at + 8 + length]
        at += 12 + length
    return len(set(zlib.decompress(body)))
