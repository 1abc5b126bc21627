"""The explorer in Chromium, from a file and without a network: what can be chosen, drawn, read and opened."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from halobench.reporting import explorer
from halobench.results import cell_results
from halobench.storage.columns import SURVIVAL, SURVIVAL_COLUMNS

pytestmark = [pytest.mark.browser, pytest.mark.workflow]

WIDTHS = (1280, 390)
CELL = "noisy/mlp/mixup2/seed1"
WALK = "dataset == 'noisy' and model == 'mlp' and loss == 'mixup2' and probe == 'nearest_other' and points == 'train'"
DRAWN = """id => document.getElementById(id).data.map(trace => ({
  name: trace.name, mode: trace.mode, type: trace.type, x: Array.from(trace.x || []), y: Array.from(trace.y || []),
  cells: Array.from(trace.customdata || []), half: Array.from((trace.error_y || trace.error_x || {}).array || []),
}))"""


@pytest.fixture
def page(finished, browser_page):
    """Opens the tiny grid's explorer and waits until it is ready."""

    def opened(width: int = 1280, choices: str = ""):
        made = browser_page(width)
        made.goto((finished.folder / "results/explorer.html").as_uri() + f"#{choices}")
        made.wait_for_selector("body[data-ready=true]")
        return made

    return opened


@pytest.fixture
def page_of(open_file, tmp_path):
    """Opens the explorer of other data."""

    def opened(found: dict):
        path = tmp_path / "explorer.html"
        path.write_text(explorer.explorer_page(found))
        page = open_file(path)
        page.wait_for_selector("body[data-ready=true]")
        return page

    return opened


def rows_of(finished, name: str, query: str) -> pd.DataFrame:
    """The rows of a table that a query selects."""
    return pd.read_parquet(finished.folder / f"results/tables/tiny/{name}.parquet").query(query)


def choose(page, **choices: str) -> None:
    """Choose values in menus by the menus' names."""
    for name, value in choices.items():
        page.locator(f"select[name={name}]").select_option(value)


@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_without_a_network_and_without_an_error(page, width):
    opened = page(width)
    assert opened.errors == []
    assert opened.requests_made == []
    for plot in ("scores", "curves", "reliability"):
        assert opened.locator(f"#{plot} svg.main-svg").first.is_visible()
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.locator("select[name=dataset]").input_value() == "noisy", "where calibration has most to do"


def test_marks_are_the_tables_values_after_another_choice(page, finished):
    opened = page()
    names = opened.evaluate(DRAWN, "scores")
    assert {trace["name"] for trace in names if trace["type"] == "bar"} == {"TS (optimal)"}, "which it opens on"
    choose(opened, calibrator="all")  # kept for other data sets
    for dataset, metric in (("clean", "nll"), ("noisy", "ece")):
        choose(opened, dataset=dataset, metric=metric, labels="noisy")
        query = "split == 'test' and labels == 'noisy' and loss != 'reference'"
        wanted = rows_of(finished, "metrics", f"{query} and dataset == '{dataset}' and metric == '{metric}'")
        wanted = wanted[np.isfinite(wanted["value"])]
        traces = opened.evaluate(DRAWN, "scores")
        points = [y for trace in traces if trace["mode"] == "markers" for y in trace["y"] if isinstance(y, int | float)]
        assert sorted(points) == sorted(wanted["value"])
        bars = [trace for trace in traces if trace["type"] == "bar"]
        assert len(bars) == wanted["calibrator"].nunique()
        groups = wanted.groupby(["calibrator", "model", "loss"])["value"]
        means = sorted(y for trace in bars for y in trace["y"])
        np.testing.assert_allclose(means, sorted(groups.mean()), rtol=1e-12)
        halves = sorted(half for trace in bars for half in trace["half"])
        correction = rows_of(finished, "runs", f"dataset == '{dataset}'")["seed_correction"].max()
        expected = t.ppf(0.975, 1) * groups.std(ddof=1) * math.sqrt(1 / 2 + correction)
        np.testing.assert_allclose(halves, sorted(expected), rtol=1e-9, atol=1e-13)


def test_curves_are_the_tables_values(page, finished):
    opened = page()
    choose(opened, dataset="noisy", model="mlp", loss="mixup2", probe="nearest_other", scale="relative_radius")
    found = rows_of(finished, "neighbourhood", f"{WALK} and relative_radius == relative_radius")
    traces = opened.evaluate(DRAWN, "curves")
    (points,) = (trace for trace in traces if trace["mode"] == "markers")
    drawn = sorted(zip(points["x"], points["y"], strict=True))
    np.testing.assert_allclose(
        drawn, sorted(zip(found["relative_radius"], found["confidence"], strict=True)), rtol=1e-5
    )
    (line,) = (trace for trace in traces if trace["mode"] == "lines")
    np.testing.assert_allclose(line["y"], found.groupby("relative_radius")["confidence"].mean(), rtol=1e-5)


def test_shares_still_certain_and_a_cards_radii_are_the_tables_values(page, finished):
    opened = page()
    choose(opened, dataset="noisy", model="mlp", loss="mixup2", probe="nearest_other", scale="survival")
    found = rows_of(finished, "radii", f"{WALK} and quantity == 'certainty' and calibrator == 'none'")
    (line,) = (trace for trace in opened.evaluate(DRAWN, "curves") if trace["mode"] == "lines")
    np.testing.assert_allclose(line["x"], SURVIVAL[1:])
    np.testing.assert_allclose(line["y"], found[list(SURVIVAL_COLUMNS[1:])].mean(), rtol=1e-5)
    card = page(choices=f"cell={CELL}").locator("#card [aria-label=Radii]")
    shown = card.locator("tr", has_text="nearest other").filter(has_text="training points").text_content()
    assert f"{found.loc[found['seed'] == 1, 'relative_median'].item():.3f} [" in shown


def test_reliability_diagrams_are_the_tables_values(page, finished):
    opened = page()
    choose(opened, dataset="noisy", model="cnn", loss="cross_entropy", calibrator="exact", labels="clean")
    query = "split == 'test' and labels == 'clean' and calibrator == 'exact' and count > 0"
    query += " and dataset == 'noisy' and model == 'cnn' and loss == 'cross_entropy'"
    found = rows_of(finished, "reliability", query)
    (points,) = (trace for trace in opened.evaluate(DRAWN, "reliability") if trace["mode"] == "markers")
    drawn = sorted((round(x, 4), round(y, 4)) for x, y in zip(points["x"], points["y"], strict=True))
    expected = sorted(map(tuple, found[["confidence", "accuracy"]].round(4).to_numpy().tolist()))
    np.testing.assert_allclose(drawn, expected, atol=2e-4)


def click_on_point(opened, number: int) -> None:
    """Click on a point until a card opens: Plotly may redraw, or drop a click that comes while it looks for a point."""
    from playwright.sync_api import TimeoutError

    for _ in range(20):
        box = opened.locator("#scores .scatterlayer .point").nth(number).bounding_box()
        opened.mouse.move(0, 0)
        opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        opened.wait_for_timeout(200)  # Plotly looks for the point under the mouse every 50 ms
        opened.mouse.down()
        opened.mouse.up()
        with contextlib.suppress(TimeoutError):
            opened.wait_for_selector("dialog[open]", timeout=3000)
            return
    raise AssertionError("no card opens at a click on a point")


def test_a_click_on_a_point_opens_the_card_of_its_cell(page):
    opened = page(choices="dataset=noisy&model=mlp&loss=mixup2&calibrator=exact&metric=nll&labels=noisy")
    (points,) = (trace for trace in opened.evaluate(DRAWN, "scores") if trace["mode"] == "markers")
    names = []
    for number in range(2):
        click_on_point(opened, number)
        names.append(opened.locator("#card-title").inner_text())
        value = points["y"][number]
        rows = opened.locator("#card-body tr", has_text="NLL (nats)").all_inner_texts()
        assert any(f"{value:.3f}" in row for row in rows), (names, value)
        opened.keyboard.press("Escape")
        assert not opened.locator("dialog").is_visible()
    assert names == ["noisy/mlp/mixup2/seed0", "noisy/mlp/mixup2/seed1"]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_card_has_all_of_its_cell(page, finished, width):
    opened = page(width, "dataset=noisy")
    button = opened.get_by_role("button", name=CELL)
    button.focus()
    opened.keyboard.press("Enter")
    opened.wait_for_selector("dialog[open]")
    assert opened.locator("#card-title").inner_text() == CELL
    text = opened.locator("#card-body").inner_text()
    found = cell_results.read_cell(finished.folder / "results", CELL)
    for command in cell_results.commands(found, cell_results.read_source_spec(found.results, found.source)):
        assert command in opened.locator("#card-body pre").inner_text()
    for key in found.spec:
        assert key in text
    (exact,) = (fit for fit in found.fits if fit["calibrator"] == "exact")
    assert f"{exact['T']:.4g}" in text
    assert "optimum proved" in text
    losses = found.history["train_loss"].tolist()
    (curve,) = opened.evaluate(DRAWN, "history")
    np.testing.assert_allclose(curve["y"], losses, rtol=1e-5)
    assert opened.evaluate("document.querySelector('dialog').scrollWidth <= window.innerWidth")
    opened.get_by_role("button", name="Close the card").click()
    assert not opened.locator("dialog").is_visible()
    assert opened.evaluate("document.activeElement.textContent") == CELL, "the focus is back where it was"


def test_choices_are_in_the_address_and_come_back(page):
    opened = page()
    choose(opened, dataset="noisy", metric="ece", calibrator="exact", probe="manifold")
    assert "dataset=noisy" in opened.url
    opened.reload()
    opened.wait_for_selector("body[data-ready=true]")
    values = opened.evaluate("Object.fromEntries(new FormData(document.getElementById('choices')))")
    assert {"dataset": "noisy", "metric": "ece", "calibrator": "exact"}.items() <= values.items()
    assert opened.locator("select[name=probe]").input_value() == "manifold"
    opened.evaluate("location.hash = 'dataset=clean&metric=nll'")
    opened.wait_for_function("document.querySelector('select[name=dataset]').value === 'clean'")
    assert opened.locator("select[name=metric]").input_value() == "nll"
    opened.evaluate(f"location.hash = 'cell={CELL}'")
    opened.wait_for_selector("dialog[open]")
    assert opened.locator("#card-title").inner_text() == CELL
    assert opened.locator("select[name=dataset]").input_value() == "noisy"
    opened.keyboard.press("Escape")
    opened.wait_for_function("!location.hash.includes('cell=')")
    opened.get_by_role("button", name=CELL, exact=True).click()
    opened.wait_for_function("location.hash.includes('cell=')")
    opened.reload()
    opened.wait_for_selector("dialog[open]")
    assert opened.locator("#card-title").inner_text() == CELL


def test_charts_follow_the_choice_of_dark(page):
    opened = page()
    ground = "document.querySelector('#scores').layout.paper_bgcolor"
    assert opened.evaluate(ground) == "rgb(255, 255, 255)"
    opened.get_by_role("button", name="Switch between light and dark").click()
    assert opened.evaluate(ground) == opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert opened.evaluate(ground) != "rgb(255, 255, 255)"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_is_used_by_keyboard_and_screen_reader(page, axe, width, scheme):
    opened = page(width)
    opened.emulate_media(color_scheme=scheme)
    assert [str(finding) for finding in axe(opened, serious=True)] == []
    opened.locator("summary").first.focus()
    opened.keyboard.press("Enter")  # unfolds the explanations of terms
    assert opened.get_by_text("a bound on what any temperature can achieve").is_visible()
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.name") == "experiment"
    opened.locator("#cells button").first.click()
    opened.wait_for_selector("dialog[open]")
    assert [str(finding) for finding in axe(opened, serious=True)] == []


def test_values_that_are_not_finite_are_told_and_not_drawn(finished, page_of):
    """As with separable data: no T and hence no score, and an infinite NLL."""
    found = explorer.gather(finished.folder / "results/tables", ["tiny"])
    columns = found["experiments"]["tiny"]["metrics"]
    assert all(value not in (None, "inf") for value in columns["value"][:2])
    columns["value"][0], columns["value"][1] = None, "inf"
    opened = page_of(found)
    labels, metrics = columns["labels"], columns["metric"]
    cells = found["experiments"]["tiny"]["cells"]
    dataset = cells[columns["cell"][0]]["dataset"]
    told = []
    choose(opened, calibrator="all")
    for row in (0, 1):
        choose(opened, dataset=dataset, metric=metrics["names"][metrics["codes"][row]])
        choose(opened, labels=labels["names"][labels["codes"][row]])
        told.append(opened.locator("#scores-note").inner_text())
    assert all("not finite" in note for note in told)
    assert opened.errors == []


def test_what_isnt_published_is_left_out_of_the_page_and_of_cards(finished, page_of):
    """Of published runs there are no fits and no bins; metrics of regions have titles."""
    found = explorer.gather(finished.folder / "results/tables", ["tiny"])
    data = found["experiments"]["tiny"]
    data["reliability"] = {key: [] for key in data["reliability"]}
    data["metrics"]["metric"]["names"] = ["gap_top", *data["metrics"]["metric"]["names"][1:]]
    for cell in data["cells"]:
        cell["fits"] = []
    opened = page_of(found)
    assert not opened.locator("#reliability").is_visible()
    opened.locator("#cells button").first.click()
    card = opened.locator("#card-body").inner_text()
    assert "Top logit gap where classes overlap" in card
    assert "gap_top" not in card
    assert "Temperatures" not in card
    assert opened.errors == []


def test_experiments_have_notes_links_and_cells_of_their_own(finished, page_of):
    """Plug-ins are among the explained terms."""
    found = explorer.gather(finished.folder / "results/tables", ["tiny"], note={"other": "partial: 3 of 16 cells"})
    text = json.dumps(found["experiments"]["tiny"]).replace('"oracle"', '"mine.fits:bent"')
    found["experiments"]["other"] = json.loads(text)
    opened = page_of(found)
    assert "Not all" not in opened.locator("#summary").inner_text()
    choose(opened, experiment="other")
    assert "Not all: partial: 3 of 16 cells" in opened.locator("#summary").inner_text()
    links = opened.locator("nav.site a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    assert links[:2] == ["index.html#tiny", "tables/other/overview.html"]
    assert links[-1] == "tables/other/overview.html#cite"
    assert "the plug-in mine.fits:bent" in opened.locator("dl").text_content().lower()
    opened.evaluate(f"location.hash = 'experiment=other&cell={CELL}'")
    opened.wait_for_selector("dialog[open]")
    assert opened.locator("#card-title").inner_text() == CELL
    assert opened.locator("select[name=experiment]").input_value() == "other"


def test_names_cannot_break_the_page(finished, page_of):
    """A name is treated as text wherever it appears."""
    found = explorer.gather(finished.folder / "results/tables", ["tiny"])
    text = json.dumps(found).replace("mixup2", "</script><script>window.harm=1</script>")
    opened = page_of(json.loads(text))
    opened.locator("#cells button").last.click()
    assert opened.evaluate("window.harm === undefined")
    assert opened.errors == []


def test_the_same_tables_give_the_same_bytes(finished, tmp_path):
    results = finished.folder / "results"
    for name in ("a.html", "b.html"):
        explorer.write(tmp_path / name, ["tiny"], results / "tables")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    made = explorer.explorer_page(explorer.gather(results / "tables", ["tiny"]))  # next to the tables, its links differ
    assert made == (results / "explorer.html").read_text("utf-8")
