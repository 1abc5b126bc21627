"""The report and its pages in Chromium, from files and without a network: what a reader sees, clicks and chooses."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pandas as pd
import pytest

from browser.conftest import is_remote
from conftest import tiny_figures, tiny_tables
from halobench.reporting import labels as names
from halobench.reporting.pages.claims_page import FIGURES
from halobench.results import finding
from halobench.results.names import THEMES

pytestmark = [pytest.mark.browser, pytest.mark.workflow]

OWN = ("overview", "leaderboard", "cells", "claims", "figures", "tables", *tiny_tables())
SITE = ("Overview", "Claims", "Leaderboard", "Cells", "Explorer", "Figures", "Tables", "Cite")
WIDTHS = (1280, 390)
SORTED = """([index, column]) => {
  const bodies = [...document.querySelectorAll("table")[index].tBodies];
  const folded = bodies[0].matches(".item");
  const rows = folded ? bodies.map(body => body.rows[0]) : [...bodies[0].querySelectorAll(".item")];
  return rows.map(row => row.cells[column].dataset.value);
}"""


@pytest.fixture
def pages(finished) -> Path:
    """The folder of the tiny grid's pages."""
    return finished.folder / "results/tables/tiny"


def shown_rows(page, within: str) -> list[dict[str, str]]:
    """The data attributes of the visible rows."""
    rows = page.locator(f"{within} .item")
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
    assert text.count("16 cells (a cell is one model,") == 1
    assert "from one seed) of 2 data sets, 2 models and 2 losses, with seeds 0, 1." in text
    for fact in ("Run", "Cost", "Hardware", "Commit", "Versions", "torch", "python", "MiB"):
        assert fact in text
    claims = pd.read_parquet(finished.folder / "results/tables/tiny/claims.parquet").query("scope == 'all'")
    counts = claims["verdict"].value_counts()
    found = pd.read_csv(finished.folder / "results/tables/tiny/claims.csv").to_dict("records")
    assert text.index(finding.finding(found)) < text.index("cells (a cell is one model,"), "the finding comes first"
    for theme, tests in finding.by_theme(found).items():
        assert f"{THEMES[theme].sentence} {finding.tests_of_questions(tests)}: {finding.counted(tests)}" in text
    words = front.locator(".word").all_inner_texts()
    assert len(words) == (claims["verdict"] != "not_tested").sum()
    for verdict, word in names.VERDICTS.items():
        expected = 0 if verdict == "not_tested" else int(counts.get(verdict, 0))
        assert sum(found.split(" ", 1)[1] == word for found in words) == expected
    image = front.locator("img")
    assert image.count() == 1
    assert image.evaluate("image => image.naturalWidth") > 0
    assert page.locator("div#rulegraph").count() == 1
    # It opens at the top, and is no wider than the window.
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


def test_links_of_the_front_page_open_pages_next_to_the_report_and_copies_inside_it(report, open_file):
    page = open_file(report)
    links = page.evaluate("[...document.querySelectorAll('.pages a')].map(link => link.href)")
    places = [Path(unquote(urlsplit(link).path)) for link in links if link.startswith("file:")]
    assert [place.stem for place in places] == [name.lower() for name in SITE[:-1]]
    assert all(place.is_file() for place in places)
    links = {"everything on one page": "Experiment tiny", "claims": "Claims and verdicts"}
    links |= {"every cell": "Cells of tiny"}
    for text, title in links.items():
        page.reload()
        page.locator(".pages", has_text="Copies").locator("a", has_text=text).click()
        frame = page.frame_locator("iframe")
        frame.locator("h1").wait_for()
        assert frame.locator("h1").inner_text().startswith(title)
        # Scripts run in the copy too, because menus appear.
        assert frame.locator("form.filters").first.is_visible()
    assert page.errors == []
    assert page.requests_made == []


def test_what_axe_finds_in_snakemakes_own_shell_is_told(report, open_file, axe):
    """Its menu is up to Snakemake; the content inside it is ours."""
    for width in WIDTHS:
        page = open_file(report, width)
        page.locator(".front").wait_for()
        for fault in axe(page):
            print(f"{width} px, {fault}")
        assert [str(fault) for fault in axe(page, serious=True, within=".prose")] == []


# Our own pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_pages_of_ours_pass_axe_and_fit_the_window(pages, open_file, axe, name):
    page = open_file(pages / f"{name}.html")
    assert page.locator("nav.site a").all_inner_texts() == list(SITE)
    for fold in page.locator("details > summary").all():
        fold.click()
    for width, scheme in ((1280, "dark"), (390, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert [str(finding) for finding in axe(page, serious=True)] == [], width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.errors == []
    assert page.requests_made == []


def test_every_link_of_the_site_opens_something_offline(pages, open_file):
    """Files and anchors exist, and the choices in an address are applied."""
    results = pages.parents[1]
    found, left = {}, [pages / "overview.html"]
    while left:
        path = left.pop()
        page = open_file(path)
        page.wait_for_load_state()
        links = {link for link in page.evaluate("[...document.links].map(link => link.href)") if not is_remote(link)}
        found[path] = (set(page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")), links)
        assert page.errors == []
        page.close()
        for link in links:
            other = Path(unquote(urlsplit(link).path))
            assert other.is_file(), (path, link)
            if other.suffix == ".html" and other not in (*found, *left):
                left.append(other)
    assert set(found) == {pages / f"{name}.html" for name in OWN} | {results / "explorer.html"}
    for _, links in found.values():
        for link in links:
            path, place = Path(unquote(urlsplit(link).path)), urlsplit(link).fragment
            if place and "=" not in place:
                assert place in found[path][0] or place in FIGURES.values(), link


def test_claims_lead_to_cells_and_cells_to_cards(pages, open_file):
    page = open_file(pages / "claims.html")
    page.locator("button.unfold").first.click()
    link = page.locator(".beneath a").first
    wanted = dict(parse_qsl(link.get_attribute("href").partition("#")[2]))
    link.click()
    rows = shown_rows(page, "#cells")
    assert rows
    assert all(row[key] == value for row in rows for key, value in wanted.items())
    page.locator("tbody.item:not([hidden]) button.unfold").first.click()
    card = page.locator(".beneath:not([hidden]) a").first
    name = dict(parse_qsl(card.get_attribute("href").partition("#")[2]))["cell"]
    card.click()
    page.wait_for_selector("dialog[open]")
    assert page.locator("#card-title").inner_text() == name


def test_dark_is_chosen_once_for_all_pages_and_never_printed(pages, open_file):
    ground = "getComputedStyle(document.body).backgroundColor"
    # On a busy machine, Chromium opens about every fiftieth page of a folder with an empty local storage.
    for _ in range(4):
        page = open_file(pages / "overview.html")
        light = page.evaluate(ground)
        page.get_by_role("button", name="Switch between light and dark").click()
        dark = page.evaluate(ground)
        assert dark != light
        page.get_by_role("link", name="Cells", exact=True).click()
        page.wait_for_url("**/cells.html")
        if page.evaluate(ground) == dark:
            break
    assert page.evaluate(ground) == dark
    page.emulate_media(media="print")
    assert page.evaluate(ground) == light
    assert not page.locator("nav.site").is_visible()


def test_nothing_is_hidden_at_1280_pixels_until_more_columns_are_asked_for(pages, open_file):
    for name in ("cells", "claims"):
        page = open_file(pages / f"{name}.html")
        fits = "(() => { const box = document.querySelector('.scroll'); return box.scrollWidth <= box.clientWidth; })()"
        assert page.evaluate(fits), name
        assert not page.locator("thead th.more").first.is_visible()
        page.get_by_role("button", name="More columns").click()
        assert page.locator("thead th.more").first.is_visible()


def test_a_heading_sorts_by_its_numbers_both_ways_and_nothing_comes_last(pages, open_file):
    page = open_file(pages / "cells.html")
    head = page.locator("th", has_text="NLL TS (opt.)")
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
    # Seeds move with their means.
    for body in page.locator("tbody.item").all():
        assert {row.locator("td").nth(0).inner_text() for row in body.locator("tr.beneath").all()} <= {
            body.locator("tr td").first.inner_text(),
            "",
        }


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


def test_a_filter_leaves_the_rows_of_a_data_set_is_in_the_address_and_reset_brings_all_back(pages, open_file):
    page = open_file(pages / "cells.html")
    assert len(shown_rows(page, "#cells")) == 8
    page.get_by_label("Data set").select_option("noisy")
    assert [row["dataset"] for row in shown_rows(page, "#cells")] == ["noisy"] * 4
    page.get_by_label("Loss").select_option("mixup2")
    assert page.url.endswith("#dataset=noisy&loss=mixup2")
    page.reload()
    rows = shown_rows(page, "#cells")
    assert {(row["dataset"], row["loss"]) for row in rows} == {("noisy", "mixup2")}
    assert page.locator("form.filters output").inner_text() == f"{len(rows)} of 8 rows"
    page.get_by_role("button", name="Reset filters").click()
    page.wait_for_function("document.querySelector('output').textContent.startsWith('8 of')")
    assert len(shown_rows(page, "#cells")) == 8


def test_a_filter_hides_tables_without_rows_left(pages, open_file):
    page = open_file(pages / "paper_images.html")
    page.get_by_label("Data set").select_option("clean")
    assert {row["dataset"] for row in shown_rows(page, "#parts")} == {"clean"}
    assert page.locator("#parts table:visible").count() == 1


def test_without_a_script_all_is_there_to_be_read(pages, browser):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((pages / "cells.html").resolve().as_uri())
    assert page.locator("tr.beneath:visible").count() == 16
    assert page.locator("form.filters:visible").count() == 0
    context.close()
