"""The site in Chromium, from files and without a network: what a reader sees, clicks and chooses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd
import pytest

from browser.conftest import is_remote
from conftest import ROOT, tiny_tables
from halobench.analysis.claims import evaluate, load_claims
from halobench.reporting.pages.claims_page import FIGURES, claims_html
from halobench.reporting.rendering import SITE

pytestmark = [pytest.mark.browser, pytest.mark.workflow]

OWN = ("overview", "leaderboard", "claims", "figures", "tables", *tiny_tables())
SORTED = """column => {
  const bodies = [...document.querySelector("table").tBodies];
  const rows = bodies[0].matches(".item") ? bodies.map(body => body.rows[0]) : [...bodies[0].querySelectorAll(".item")];
  return rows.map(row => row.cells[column].dataset.value);
}"""


@pytest.fixture
def pages(finished) -> Path:
    """The folder of the tiny grid's pages."""
    return finished.folder / "results/tables/tiny"


def shown_rows(page, within: str) -> list[dict[str, str]]:
    """The data attributes of the visible rows."""
    rows = page.locator(f"{within} .item")
    return list(rows.evaluate_all("rows => rows.filter(r => !r.closest('[hidden]')).map(r => ({...r.dataset}))"))


@pytest.mark.parametrize("name", ["index", *OWN])
def test_pages_pass_axe_fit_the_window_and_ask_nothing_of_a_network(pages, open_file, axe, name):
    page = open_file((pages.parents[1] if name == "index" else pages) / f"{name}.html")
    for fold in page.locator("details > summary").all():
        fold.click()
    for width, scheme in ((1280, "dark"), (390, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert [str(finding) for finding in axe(page, serious=True)] == [], width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img").evaluate_all("images => images.every(image => image.loading || image.naturalWidth)")
    assert (page.errors, page.requests_made) == ([], [])


def test_every_link_of_the_site_opens_something_offline(pages, open_file):
    """All pages are one click from the entrance and from each other; files and anchors exist."""
    results = pages.parents[1]
    seen, left = {}, [results / "index.html"]
    while left:
        path = left.pop()
        page = open_file(path)
        page.wait_for_load_state()
        links = {link for link in page.evaluate("[...document.links].map(link => link.href)") if not is_remote(link)}
        seen[path] = (set(page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")), links)
        assert page.errors == []
        page.close()
        for link in links:
            other = Path(unquote(urlsplit(link).path))
            assert other.is_file(), (path, link)
            if other.suffix == ".html" and other not in (*seen, *left):
                left.append(other)
    shared = {results / "index.html", results / "explorer.html"}
    assert set(seen) == {pages / f"{name}.html" for name in OWN} | shared
    for path, (_, links) in seen.items():
        reached = {Path(unquote(urlsplit(link).path)) for link in links}
        assert shared | {pages / f"{name}.html" for name in SITE if (pages / f"{name}.html").exists()} <= reached | {
            path
        }
        for link in links:
            target, place = Path(unquote(urlsplit(link).path)), urlsplit(link).fragment
            if place and "=" not in place:
                assert place in seen[target][0] or place in FIGURES.values(), link


@pytest.fixture
def verdicts(pages):
    """A page of verdicts for which no model must interpolate, since none of the tiny grid does."""
    claims = [dataclasses.replace(claim, interpolating=()) for claim in load_claims(ROOT / "workflow/claims.yaml")]
    tables = {name: pd.read_parquet(pages / f"{name}.parquet") for name in ("runs", "metrics", "radii")}
    path = pages / "verdicts.html"
    path.write_text(claims_html(evaluate(claims, tables), "tiny"))
    yield path
    path.unlink()


def test_claims_lead_to_the_cells_they_are_about(verdicts, open_file):
    page = open_file(verdicts)
    page.locator("button.unfold").first.click()
    link = page.locator(".beneath a").first
    wanted = {key: values[0] for key, values in parse_qs(urlsplit(link.get_attribute("href")).fragment).items()}
    link.click()
    page.wait_for_selector("body[data-ready=true]")
    assert {key: page.locator(f"select[name={key}]").input_value() for key in wanted} == wanted
    cells = page.locator("#cells button").all_inner_texts()
    assert cells
    assert all(wanted["dataset"] in cell and wanted.get("model", "") in cell for cell in cells)


def test_dark_is_chosen_once_for_all_pages_and_never_printed(pages, open_file):
    ground = "getComputedStyle(document.body).backgroundColor"
    # On a busy machine, Chromium opens about every fiftieth page of a folder with an empty local storage.
    for _ in range(4):
        page = open_file(pages / "overview.html")
        light = page.evaluate(ground)
        page.get_by_role("button", name="Switch between light and dark").click()
        dark = page.evaluate(ground)
        assert dark != light
        page.get_by_role("link", name="Leaderboard", exact=True).click()
        page.wait_for_url("**/leaderboard.html")
        if page.evaluate(ground) == dark:
            break
    assert page.evaluate(ground) == dark
    page.emulate_media(media="print")
    assert page.evaluate(ground) == light
    assert not page.locator("nav.site").is_visible()


def test_headings_sort_both_ways_and_rows_unfold_into_more_columns(pages, open_file):
    page = open_file(pages / "claims.html")
    box = "(({ scrollWidth: w, clientWidth: c, scrollHeight: h, clientHeight: d }) => w <= c && h <= d)"
    assert page.evaluate(f"{box}(document.querySelector('.scroll'))"), "the table has no scroll bar of its own"
    assert not page.locator("thead th.more").first.is_visible()
    page.get_by_role("button", name="More columns").click()
    assert page.locator("thead th.more").first.is_visible()
    head = page.locator("table").first.locator("th", has_text="Estimate")
    column = int(head.get_attribute("data-column"))
    for way, sign in (("ascending", 1), ("descending", -1)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == way
        values = page.evaluate(SORTED, column)
        known = [float(value) for value in values if value]
        assert known == sorted(known, key=lambda value: sign * value)
        assert values[len(known) :] == [""] * (len(values) - len(known)), "what has no value comes last"
    other = page.locator("table").first.locator("th", has_text="Calibration")
    other.locator("button").focus()
    page.keyboard.press("Enter")
    assert (other.get_attribute("aria-sort"), head.get_attribute("aria-sort")) == ("ascending", "none")


def test_on_a_phone_the_leaderboard_is_five_screens_long_and_unfolds_what_is_chosen(pages, open_file):
    page = open_file(pages / "leaderboard.html", 390)
    assert page.evaluate("document.documentElement.scrollHeight") <= 5 * 844
    assert page.locator("#boards summary:visible").count() > 1
    assert page.locator("#boards table:visible").count() == 0
    page.get_by_label("Data set").select_option("noisy")
    assert page.locator("#boards table:visible").count() == 1
    assert page.evaluate("document.documentElement.scrollHeight") <= 5 * 844


def test_the_entrance_shows_each_question_once(pages, open_file):
    """A picture has its question: the heading above is for the keyboard and for screen readers."""
    page = open_file(pages.parents[1] / "index.html")
    for heading in page.locator("h3:has(+ a img)").all():
        assert heading.bounding_box()["width"] <= 1
        heading.locator("a").focus()
        assert heading.bounding_box()["width"] > 1


def test_a_filter_is_in_the_address_hides_empty_tables_and_is_reset(pages, open_file):
    page = open_file(pages / "leaderboard.html")
    everything = len(shown_rows(page, "#boards"))
    page.get_by_label("Data set").select_option("noisy")
    assert {row["dataset"] for row in shown_rows(page, "#boards")} == {"noisy"}
    assert page.locator("#boards table:visible").count() == 1
    page.get_by_label("Loss").select_option("mixup2")
    assert page.url.endswith("#dataset=noisy&loss=mixup2")
    page.reload()
    rows = shown_rows(page, "#boards")
    assert {(row["dataset"], row["loss"]) for row in rows} == {("noisy", "mixup2")}
    assert page.locator("form.filters output").inner_text() == f"{len(rows)} of {everything} methods"
    page.get_by_role("button", name="Reset filters").click()
    page.wait_for_function(f"document.querySelector('output').textContent.startsWith('{everything} of')")
    assert len(shown_rows(page, "#boards")) == everything


def test_without_a_script_all_is_there_to_be_read(verdicts, browser):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(verdicts.resolve().as_uri())
    assert page.locator("tr.beneath:visible").count() > 0
    assert page.locator("form.filters:visible").count() == 0
    context.close()
