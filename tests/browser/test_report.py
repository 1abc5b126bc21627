"""The report and its pages in Chromium, from files and without a network: what a reader sees, presses and chooses."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from conftest import tiny_figures, tiny_tables
from halobench.reporting import labels as names
from halobench.results import finding
from halobench.results.names import THEMES

pytestmark = [pytest.mark.browser, pytest.mark.workflow]

OWN = ("overview", "cells", "claims", *tiny_tables())
WIDTHS = (1280, 390)
SORTED = """([index, column]) => {
  const body = document.querySelectorAll("table")[index].tBodies[0];
  return [...body.querySelectorAll("tr.item")].map(row => row.cells[column].dataset.value);
}"""


@pytest.fixture
def pages(finished) -> Path:
    """The folder of the tiny grid's pages."""
    return finished.folder / "results/tables/tiny"


def shown_rows(page, within: str) -> list[dict[str, str]]:
    """The data attributes of the rows that are seen."""
    rows = page.locator(f"{within} tr.item")
    found = rows.evaluate_all("rows => rows.filter(row => !row.closest('[hidden]')).map(row => ({...row.dataset}))")
    return list(found)


# The report -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_the_front_page_tells_what_was_run_and_what_came_out(report, open_file, finished, width):
    page = open_file(report, width)
    front = page.locator(".front")
    front.wait_for()
    page.evaluate("document.querySelectorAll('.front details').forEach(fold => (fold.open = true))")
    text = front.inner_text()
    assert "16 cells (one model each) of 2 data sets, 2 models and 2 losses, with seeds 0, 1." in text
    for fact in ("Run", "Cost", "Hardware", "Commit", "Versions", "torch", "python", "MiB"):
        assert fact in text
    claims = pd.read_parquet(finished.folder / "results/tables/tiny/claims.parquet").query("scope == 'all'")
    counts = claims["verdict"].value_counts()
    found = pd.read_csv(finished.folder / "results/tables/tiny/claims.csv").to_dict("records")
    assert text.index(finding.finding(found)) < text.index("cells (one model each)"), "the finding comes first"
    for theme, tests in finding.by_theme(found).items():
        assert f"{THEMES[theme].sentence} {len(tests)} test{'s' * (len(tests) != 1)}: {finding.counted(tests)}" in text
    words = front.locator(".word").all_inner_texts()
    assert len(words) == (claims["verdict"] != "not_tested").sum()
    for verdict, word in names.VERDICTS.items():
        expected = 0 if verdict == "not_tested" else int(counts.get(verdict, 0))
        assert sum(found.split(" ", 1)[1] == word for found in words) == expected
    image = front.locator("img")
    assert image.count() == 1
    assert image.evaluate("image => image.naturalWidth") > 0
    assert page.locator("div#rulegraph").count() == 1
    # It is read from its top, and is no wider than the window.
    assert page.locator(".prose h1").first.bounding_box()["y"] >= 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.errors == []
    assert page.requests_made == []


def test_every_figure_of_the_report_loads(report, open_file):
    page = open_file(report)
    sizes = page.evaluate(
        """async () => {
          const found = {};
          for (const [path, result] of Object.entries(results)) {
            if (!result.mime_type.startsWith("image")) continue;
            const image = new Image();
            image.src = result.data_uri;
            await image.decode();
            found[result.name] = image.naturalWidth;
          }
          return found;
        }"""
    )
    assert set(sizes) == {f"{name}.png" for name in tiny_figures()}
    assert all(width > 0 for width in sizes.values())
    assert all(caption for caption in page.evaluate("Object.values(results).map(result => result.caption)"))
    assert page.errors == []


def test_links_of_the_front_page_open_pages_that_work_inside_the_report(report, open_file):
    page = open_file(report)
    links = {"everything on one page": "Experiment tiny", "claims": "Claims and verdicts"}
    links |= {"every cell": "Every cell of tiny"}
    for text, title in links.items():
        page.reload()
        page.locator(".pages a", has_text=text).click()
        frame = page.frame_locator("iframe")
        frame.locator("h1").wait_for()
        assert frame.locator("h1").inner_text().startswith(title)
        # Scripts run in there too: selects appear.
        assert frame.locator("form.filters").first.is_visible()
    assert page.errors == []
    assert page.requests_made == []


def test_what_axe_finds_in_snakemakes_own_shell_is_told(report, open_file, axe):
    """Its menu is Snakemake's to mend; what is set into it is ours."""
    for width in WIDTHS:
        page = open_file(report, width)
        page.locator(".front").wait_for()
        for fault in axe(page):
            print(f"{width} px, {fault}")
        assert [str(fault) for fault in axe(page, serious=True, within=".prose")] == []


# Pages of ours --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", OWN)
def test_pages_of_ours_pass_axe_and_fit_the_window(pages, open_file, axe, name, width):
    page = open_file(pages / f"{name}.html", width)
    for fold in page.locator("details > summary").all():
        fold.click()
    assert [str(finding) for finding in axe(page, serious=True)] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.errors == []
    assert page.requests_made == []


def test_a_heading_sorts_by_its_numbers_both_ways_and_nothing_comes_last(pages, open_file):
    page = open_file(pages / "cells.html")
    head = page.locator("th", has_text="NLL, TS (optimal)")
    column = int(head.get_attribute("data-column"))
    for way, sign in (("ascending", 1), ("descending", -1)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == way
        values = page.evaluate(SORTED, [0, column])
        known = [float(value) for value in values if value]
        assert known == sorted(known, key=lambda value: sign * value)
        assert values[len(known) :] == [""] * (len(values) - len(known))
    other = page.locator("th", has_text="Loss")
    other.locator("button").focus()
    page.keyboard.press("Enter")
    assert other.get_attribute("aria-sort") == "ascending"
    assert head.get_attribute("aria-sort") == "none"
    words = page.evaluate(SORTED, [0, int(other.get_attribute("data-column"))])
    assert words == sorted(words)


def test_blocks_of_a_printed_table_are_sorted_each_by_itself(pages, open_file):
    page = open_file(pages / "paper_images.html")
    before = page.locator("tbody").all_inner_texts()
    head = page.locator("table").first.locator("th[aria-sort]").first
    head.locator("button").click()
    head.locator("button").click()
    values = [float(value) for value in page.evaluate(SORTED, [0, 1]) if value]
    assert values == sorted(values, reverse=True)
    after = page.locator("tbody").all_inner_texts()
    assert [sorted(text.split("\n")) for text in after] == [sorted(text.split("\n")) for text in before]
    assert [text.split("\n")[0] for text in after] == [text.split("\n")[0] for text in before]


def test_a_filter_leaves_the_rows_of_a_data_set_and_reset_brings_all_back(pages, open_file):
    page = open_file(pages / "cells.html")
    assert len(shown_rows(page, "#cells")) == 16
    page.get_by_label("Data set").select_option("noisy")
    assert [row["dataset"] for row in shown_rows(page, "#cells")] == ["noisy"] * 8
    page.get_by_label("Loss").select_option("mixup2")
    rows = shown_rows(page, "#cells")
    assert {(row["dataset"], row["loss"]) for row in rows} == {("noisy", "mixup2")}
    assert page.locator("form.filters output").inner_text() == f"{len(rows)} of 16 cells"
    page.get_by_role("button", name="Reset filters").click()
    assert len(shown_rows(page, "#cells")) == 16


def test_a_filter_hides_tables_without_rows_left(pages, open_file):
    page = open_file(pages / "paper_images.html")
    page.get_by_label("Data set").select_option("clean")
    assert {row["dataset"] for row in shown_rows(page, "#parts")} == {"clean"}
    assert page.locator("#parts table:visible").count() == 1


def test_without_a_script_all_is_there_to_be_read(pages, browser):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((pages / "cells.html").resolve().as_uri())
    assert page.locator("tr.item:visible").count() == 16
    assert page.locator("form.filters:visible").count() == 0
    context.close()


def test_what_is_shown_is_what_the_tables_hold(pages, open_file):
    page = open_file(pages / "cells.html")
    metrics = pd.read_parquet(pages / "metrics.parquet").query("split == 'test' and metric == 'nll'")
    column = int(page.locator("th", has_text="NLL, uncalibrated").get_attribute("data-column"))
    labels = "noisy" if "noisy" in set(metrics["labels"]) else "drawn"
    own = metrics[(metrics["labels"] == labels) & (metrics["calibrator"] == "none") & (metrics["loss"] != "reference")]
    shown = sorted(float(value) for value in page.evaluate(SORTED, [0, column]))
    assert all(math.isclose(a, b) for a, b in zip(shown, sorted(own["value"]), strict=True))
