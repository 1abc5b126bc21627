"""Pages of the report: their numbers are the tables', their HTML is valid, and the same input gives the same page."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

import synthetic
from conftest import ROOT
from halobench.analysis import names
from halobench.analysis.claims import evaluate, load_claims
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.experiment import code_version
from halobench.experiment.config_loader import load_config
from halobench.experiment.figure_choice import QUESTIONS
from halobench.reporting import explorer, finding, labels, rendering
from halobench.reporting.answers.answers import answers, write_answers
from halobench.reporting.pages import files_pages, leaderboard, overview
from halobench.reporting.pages.claims_page import claims_html
from halobench.reporting.pages.index import write_index
from halobench.reporting.print_tables import layout
from halobench.results import job_and_fit_tables
from halobench.runner import end_of_run
from halobench.storage import files, provenance, records, tables_io
from halobench.storage.columns import FIT_COLUMNS, TABLE_COLUMNS
from halobench.storage.layout import ORIGINS, PAGES, STAGES, TABLES
from halobench.storage.request_diff import Request

VOID = {"meta", "img", "br", "input", "link"}


class Page(HTMLParser):
    """A page's tags in order, its text, and its tables' rows as (attributes, cells' attributes and texts)."""

    def __init__(self, source: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.rows: list[tuple[dict, list[list]]] = []
        self.ids: list[str] = []
        self.feed(source)
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append((found, []))
        if tag in ("td", "th"):
            self.rows[-1][1].append([found, ""])

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)
            if {"td", "th"} & set(self.open):
                self.rows[-1][1][-1][1] += data

    @property
    def items(self) -> list[tuple[dict, list[list]]]:
        """The rows that filters and sorting apply to."""
        return [row for row in self.rows if "item" in (row[0].get("class") or "").split()]


def shown(source: str) -> str:
    """A page's visible text on one line."""
    return " ".join("".join(Page(source).text).split())


def repeated(source: str) -> set[str]:
    """The sentences of six words or more that a page's text has twice."""
    sentences = re.findall(r"[A-Z][^.?!]+[.?!](?= |$)", shown(source))
    return {text for text, times in Counter(sentences).items() if times > 1 and text.count(" ") >= 5}


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """Made-up tables in the demo's shape, with the claims' verdicts."""
    found = {}
    for name, table in synthetic.made(seeds=(0, 1)).items():
        found[name] = table.reindex(columns=list(dict.fromkeys([*table.columns, *TABLE_COLUMNS.get(name, ())])))
    jobs = [record("train", 3.0), record("train", 5.0, "cuda:0", peak_memory_mib=900.0)]
    jobs += [record("probe", 1.5, commit="b" * 40 + "-dirty", started="2026-01-01T09:00:00+00:00")]
    found["jobs"] = job_and_fit_tables.jobs_table(job_and_fit_tables.job_row(str(i), job) for i, job in enumerate(jobs))
    found["fits"] = pd.DataFrame([dict.fromkeys(FIT_COLUMNS, 0)])
    return found | {"claims": evaluate(load_claims(ROOT / "workflow/claims.yaml"), found)}


def record(stage: str, seconds: float = 2.0, device: str = "cpu", commit: str | None = "a" * 40, **changes) -> dict:
    """A record as a stage writes it."""
    made = provenance.record(Request(stage, {}, {}), 0, [], seconds, ["pandas"])
    made |= {"device": device, "commit": commit, "started": "2026-01-01T10:00:30.5+00:00"}
    return made | {"finished": "2026-01-01T11:30:00+00:00", "peak_memory_mib": 100.0} | changes


@pytest.fixture(scope="module")
def config():
    return load_config(yaml.safe_load((ROOT / "config.yaml").read_text())).used("demo")


@pytest.fixture(scope="module")
def pages(tables, config) -> dict[str, str]:
    """Every kind of page."""
    return made_pages(tables, config=config) | {"claims": claims_html(tables["claims"], "demo")}


def made_pages(tables: dict[str, pd.DataFrame], **changes) -> dict[str, str]:
    """An experiment's own pages, with the answers from its tables."""
    return overview.pages(tables, [answer.words for answer in answers(tables)], spec(**changes))


def spec(**changes) -> dict:
    """The spec of an overview, with two figures and a table."""
    found = {
        "experiment": "demo",
        "config": {},
        "note": "",
        "figures": ["log_k", "summary"],
        "tables": ["scores"],
    }
    return found | changes


# Every page -----------------------------------------------------------------------------------------------------------


def test_pages_are_well_formed_and_ask_nothing_of_a_network(pages, tmp_path):
    for name, source in pages.items():
        page = Page(source)
        assert ("html", {"lang": "en"}) in page.tags
        assert len(page.ids) == len(set(page.ids)), name
        assert not {"iframe", "object"} & {tag for tag, _ in page.tags}
        for tag, attributes in page.tags:
            # Readers may follow links to the web, but the page itself needs only its neighbours.
            assert tag == "a" or attributes.get("href", "data:").startswith("data:")
            assert attributes.get("src", "data:").startswith(("data:", "../../figures/demo/"))
        assert "nan" not in "".join(page.text).lower().split(), name
        assert "url(" not in source
        assert "@import" not in source
        rendering.write(tmp_path / name, source)
        assert Page((tmp_path / name).read_text("ascii")).text == page.text
    # Character references mean nothing inside scripts and styles.
    assert all(rendering.inline(path.name).isascii() for path in rendering.TEMPLATES.glob("[pfs]*.[cj]s*"))


def test_the_order_of_the_tables_rows_changes_nothing(tables):
    shuffled = {name: table.sample(frac=1, random_state=0) for name, table in tables.items() if name != "claims"}
    made = [leaderboard.leaderboard_page("demo", each["metrics"], each["runs"]) for each in (tables, shuffled)]
    assert made[0] == made[1]


def test_numbers_are_shown_short_and_sorted_in_full():
    entries = [rendering.entry(value) for value in (0.12345, -2.0, math.inf, -math.inf, math.nan)]
    assert [entry.text for entry in entries] == ["0.123", "−2.000", "∞", "−∞", "–"]
    keys = [rendering.sort_key(entry.key) for entry in entries]
    assert keys == ["0.12345", "-2.0", "Infinity", "-Infinity", ""]


def test_names_from_the_tables_are_escaped(tables):
    nasty = '<i>"&'
    renamed = tables["metrics"].replace("mixup2", nasty)
    page = Page(leaderboard.leaderboard_page(nasty, renamed, tables["runs"], nasty))
    assert "i" not in {tag for tag, _ in page.tags}
    rows = [row for _, row in page.rows if len(row) > 1 and row[1][0].get("data-value") == nasty]
    assert rows
    assert all(row[1][1] == nasty for row in rows)
    own = made_pages(tables | {"metrics": renamed.replace("focal", "mixup5")})["overview"]
    assert f"Against the optimal temperature, with label noise, {nasty} wins on" in shown(own)
    assert "i" not in {tag for tag, _ in Page(own).tags}


# The leaderboard ------------------------------------------------------------------------------------------------------


def test_ranks_are_of_paired_differences_and_alike_for_one_seed():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 5)) + np.arange(6)[:, None] + 3 * rng.normal(size=5)
    better = np.array([[stats.ttest_rel(a, b).pvalue < 0.05 and a.mean() < b.mean() for b in values] for a in values])
    expected = [[1 + better[:, i].sum(), 6 - better[i].sum()] for i in range(6)]
    assert leaderboard.ranks(values).tolist() == expected
    assert leaderboard.ranks(values[:, :1]).tolist() == [[1, 6]] * 6
    assert leaderboard.ranks(np.zeros((3, 4))).tolist() == [[1, 3]] * 3
    # Seeds that share samples are worth fewer: the variance of a mean of 5 is 1 / 5 + .5 of one seed's.
    gaps = values[:, None] - values
    half = stats.t.ppf(0.975, 4) * gaps.std(axis=2, ddof=1) * np.sqrt(1 / 5 + 0.5)
    surely = gaps.mean(axis=2) + half < 0
    expected = [[1 + surely[:, i].sum(), 6 - surely[i].sum()] for i in range(6)]
    assert leaderboard.ranks(values, 0.5).tolist() == expected
    assert surely.sum() < better.sum()
    # An infinite score is worse than any finite one, and seeds missing from one side are left out.
    values = np.array([[1.0, 1.1, 1.2], [np.inf, 2.0, 3.0], [np.nan, 5.1, 5.2]])
    assert leaderboard.ranks(values).tolist() == [[1, 1], [2, 3], [2, 3]]


def test_the_leaderboard_pools_the_models_that_all_losses_have(tables):
    metrics = tables["metrics"]
    alone = (metrics["model"] == "mlp") & (metrics["loss"] == "cross_entropy")
    metrics = pd.concat(
        [metrics, metrics[alone].assign(model="alone", value=99.0)]
    )  # pooled, it would change the means
    boards = leaderboard.boards(metrics, tables["runs"])
    assert {board["dataset"] for board in boards} == set(tables["runs"]["dataset"])
    for board in boards:
        rows = metrics[(metrics["dataset"] == board["dataset"]) & (metrics["split"] == "test")]
        rows = rows[(rows["labels"] == "noisy") & (rows["loss"] != "reference") & (rows["calibrator"] != "oracle")]
        rows = rows[rows["metric"] == ("kl" if "kl" in set(rows["metric"]) else "nll")]
        losses = rows.groupby("model")["loss"].nunique()
        whole = losses.index[losses == rows["loss"].nunique()]
        assert "alone" not in whole
        means = rows[rows["model"].isin(whole)].groupby(["loss", "calibrator"])["value"].mean()
        shown = {(line.keys["loss"], line.keys["calibrator"]): line.entries[3] for line in board["lines"]}
        assert shown == pytest.approx(means.to_dict())
        assert list(shown.values()) == sorted(shown.values())


def test_the_leaderboard_says_titles_and_never_keys(pages, tables):
    text = shown(pages["leaderboard"])
    keys = {key for kind in ("model", "loss", "dataset") for key in tables["runs"][kind]}
    assert [key for key in sorted(keys) if re.search(rf"\b{re.escape(key)}\b", text)] == []
    assert "2-point Mixup (" in text


def test_models_of_libraries_go_by_the_names_that_the_user_gave_them(tables):
    own = {
        **{"tiny": '{"name":"timm/test_resnet"}', "mine": '{"name":"timm/resnet50"}'},
        **{"tv": '{"name":"torchvision/resnet18","zero_init_residual":true}', "plain": '{"name":"cnn"}'},
    }
    renamed = dict(zip(("mlp", "cnn", "efficientnet"), own, strict=False))
    given = {
        name: table.assign(model=table["model"].replace(renamed)) if "model" in table else table
        for name, table in tables.items()
    }
    given["runs"] = given["runs"].assign(model_plugin=given["runs"]["model"].map(own))
    also = given["runs"].iloc[:1].assign(model="plain", model_plugin=own["plain"])
    with labels.naming(pd.concat([given["runs"], also])):
        assert labels.model_label("plain") == "CNN", "a variant that states no options is a title for its name alone"
        texts = {"summary": synthetic.words(synthetic.drawn("summary", given))}
        texts |= {name: shown(page) for name, page in made_pages(given).items() if name in ("overview", "leaderboard")}
        texts |= {"table": layout.latex(plugins.load("tables", "scores")(given["metrics"], given["runs"]), "t")}
    for name, text in texts.items():
        assert "DenseNet" not in text, name
        assert all(re.search(rf"\b{model}\b", text) for model in ("tiny", "mine")), name
    assert re.search(r"\btv\b", texts["summary"])


# The overview ---------------------------------------------------------------------------------------------------------


def test_the_overview_tells_grid_cost_and_where(pages, tables):
    text = shown(pages["overview"])
    runs = tables["runs"]
    assert "of 3 data sets, 3 models and 4 losses, not in all combinations" in text
    assert f"Of {len(runs)} that were trained here {int(runs['interpolates'].sum())} interpolate" in text
    assert "2026-01-01 09:00 UTC to 2026-01-01 11:30 UTC" in text
    assert "4.5 s of jobs on CPUs, 5.0 s on GPUs; peak memory of any job 900 MiB" in text
    assert f"{'a' * 12} (2 jobs); {'b' * 12}-dirty (1 job)" in text


def test_the_overview_shows_costs_by_stage_and_the_configuration(pages, config):
    page = Page(pages["overview"])
    rows = {row[0][1]: [cell[1] for cell in row[1:]] for _, row in page.items if len(row) == 6}
    assert rows["train"] == ["2", "3.0 s", "5.0 s", "5.0 s", "900 MiB"]
    assert rows["probe"] == ["1", "1.5 s", "0", "1.5 s", "100 MiB"]
    text = "".join(page.text)
    assert yaml.safe_load(text[text.index("experiments:") : text.rindex("Cite\n")]) == json.loads(json.dumps(config))


def test_the_overview_lists_the_sources_of_what_was_used_and_of_nothing_else(tables):
    used = {"losses": {"a": {"name": "mixup"}, "b": {"name": "mine:loss"}}}
    used |= {
        "probes": {"worst": {"kind": "adversarial"}},
        "calibrate": {"calibrators": ["exact", {"mixed": {"name": "confusion_mix"}}]},
        "sources": {"digits": {}},
    }
    text = made_pages(tables, config=used)["overview"]
    for source in ("arXiv 1710.09412", "FMN", "C. Guo et al.", "Bayesian Classifier", "Kaynak", "AAAI 2015"):
        assert source in text, source
    assert not any(other in text for other in ("Focal Loss", "CROWN", "LeCun", "Dirichlet", "](http"))


def test_an_overview_without_figures_or_claims_is_still_one(tables):
    bare = made_pages(tables | {"claims": tables["claims"].iloc[:0]}, note="partial: 3 of 9", figures=[])
    for text in bare.values():
        assert "partial: 3 of 9" in text
        assert "<img" not in text
        Page(text)


def test_the_claims_page_sums_up_the_verdicts_once(pages, tables):
    claims = tables["claims"].to_dict("records")
    for said in (finding.finding(claims), finding.registration_line(claims)):
        assert said
        assert shown(pages["claims"]).count(said) == 1
    assert not any(finding.finding(claims) in shown(pages[name]) for name in PAGES), "it has a page of its own"


def test_a_claim_links_only_to_a_figure_that_the_experiment_has():
    table = pd.DataFrame([synthetic.CLAIM_ROW | {"theme": "halos"}])
    for figures, linked in ((None, True), (["reach"], True), (["maps"], False)):
        assert ('href="figures.html#reach"' in claims_html(table, "demo", figures=figures)) == linked


def test_the_bold_verdict_is_holms_and_the_other_one_says_that_it_is_by_its_own_interval():
    whole = synthetic.CLAIM_ROW | {"verdict": "does_not", "adjusted": "undecided", "pairs": 2, "hold": 1}
    pair = whole | {"scope": "digits/mlp", "adjusted": "", "pairs": 1}
    page = Page(claims_html(pd.DataFrame([whole, pair]), "demo"))
    bold = [a["class"] for tag, a in page.tags if tag == "span" and "verdict" in (a.get("class") or "")]
    assert bold == ["verdict undecided"], "a single pair's isn't corrected"
    heads, test, folded = ([cell[1].strip() for cell in row] for _, row in page.rows)
    assert "See" not in heads, "its links are in the first column, which stays in sight"
    assert heads.count("Verdict") == heads.count("By its own interval") == 1
    assert test[heads.index("Verdict")] == "undecided of 2 pairs: for 1, undecided for 1"
    assert test[heads.index("By its own interval")] == "does not hold"
    assert folded[heads.index("Verdict")] == "does not hold by its own interval"
    assert test[0].startswith("A figure cells")


# The four answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [(), QUESTIONS, QUESTIONS[1:3]], ids=["no figure", "four figures", "two figures"])
def test_the_overview_the_entrance_and_the_last_lines_give_the_same_four_answers(tmp_path, tables, drawn):
    """A sentence that is the title of a figure isn't repeated below it; screen readers read it out as the figure's."""
    found = [answer.words for answer in answers(tables)]
    folder = tmp_path / "tables/demo"
    folder.mkdir(parents=True)
    write_answers(folder / "answers.json", answers(tables))
    written = files.read_json(folder / "answers.json")["answers"]
    assert written == found
    own = overview.pages(tables, written, spec(figures=[*drawn, "radii"]))["overview"]
    write_index(tmp_path / "index.html", ["demo"], tmp_path / "tables", {"demo": drawn or ["radii"]}, {})
    entrance = (tmp_path / "index.html").read_text("ascii")
    for name, source in (("overview", own), ("entrance", entrance)):
        page, text = Page(source), shown(source)
        spoken = [a["alt"] for tag, a in page.tags if tag == "img"]
        for each in written:
            pictured = each["key"] in drawn
            lead = each["lead"]
            assert (text.count(lead), spoken.count(lead)) == (not pictured, pictured), (name, each)
            if name == "overview":
                assert text.count(each["short"]) == (not pictured or bool(each["takeaway"])), each
            assert text.count(each["question"]) == 1
            if name == "entrance":  # a picture shows its question: the heading is then for screen readers
                assert source.count('<h3 class="unseen">') == len(drawn)
            details = [each[part] for part in ("detail", "limit") if each[part]]
            assert [text.count(part) for part in details] == [int(name == "overview")] * len(details)
        assert [text.index(each["question"]) for each in written] == sorted(text.index(w["question"]) for w in written)
        assert repeated(source) <= {f"About {each['length']}." for each in written}
    places = {a["href"] for tag, a in Page(entrance).tags if tag == "a" and "#" in a["href"]}
    assert {f"tables/demo/overview.html#{each['key']}" for each in written} <= places
    assert {each["key"] for each in written} <= {*Page(own).ids}
    lines = end_of_run.summary([str(folder / "answers.json")])
    assert lines == ["demo:", *(f"  {each['question']} {each['takeaway'] or each['short']}" for each in written)]


def test_links_below_an_answer_lead_to_figures_that_were_drawn(tables):
    def places(*figures: str) -> set[str]:
        page = Page(made_pages(tables, figures=figures)["overview"])
        return {a["href"] for tag, a in page.tags if tag == "a" and a["href"].startswith("figures.html#")}

    assert places() == places("reach", "training") == set()
    assert places("radii", "calibration", "halo") == {f"figures.html#{x}" for x in ("radii", "calibration", "halo")}


def test_the_page_of_tables_says_what_each_holds_and_links_to_the_formats_that_are_there(tables):
    every = shown(made_pages(tables)["tables"])
    for name in (*TABLES, *ORIGINS, "claims"):
        assert f"{name}Each row is {files_pages.ROWS_OF_TABLES[name]}." in every
    some = made_pages(
        tables, data={"runs": ["parquet"], "metrics": ["parquet"]}, formats=["svg"], undrawn="No training."
    )
    for name, missing, there in (
        ("tables", "history.parquet", 'href="runs.parquet"'),
        ("leaderboard", "metrics.csv", 'href="metrics.parquet"'),
        ("figures", ".png", "No training."),
    ):
        assert missing not in some[name]
        assert there in some[name]


def test_every_metric_has_a_title(tables):
    """Those of regions and of the repair ladder as well, which a cell's card shows."""
    assert {*names.REGIONS} == {*names.REGION_METRICS}
    ladder = {f"repair_{part}" for part in ("nll", "best_map", *names.REPAIRS)}
    page = explorer.page_data({}, {})
    for key in (*plugins.names("metrics"), *names.REGION_METRICS, *ladder):
        assert key not in (labels.metric_label(key), page["metrics"][key])


# The entrance ---------------------------------------------------------------------------------------------------------


def test_the_entrance_leads_to_every_page_of_each_experiment(tmp_path, tables):
    """Other experiments in the folder, whose figures this run doesn't name, are shown by their answers in words."""
    names = ("demo", "bare", "other")
    for name in names:
        (tmp_path / "tables" / name).mkdir(parents=True)
    for name in ("demo", "other"):
        write_answers(tmp_path / f"tables/{name}/answers.json", answers(tables))
    figures = {"demo": ["temperature", "mixup"], "bare": ["radii"]}
    write_index(tmp_path / "index.html", names, tmp_path / "tables", figures, {"bare": "partial"})
    page = Page((tmp_path / "index.html").read_text())
    links = {a["href"] for tag, a in page.tags if tag == "a"}
    for name in names:
        own = {f"tables/{name}/{each}.html" for each in ("overview", "claims", "leaderboard", "figures", "tables")}
        assert own | {f"explorer.html#experiment={name}", f"tables/{name}/overview.html#cite"} <= links
    pictures = [f"figures/{name}/{stem}.svg" for name, stems in figures.items() for stem in stems]
    assert [a["src"] for tag, a in page.tags if tag == "img"] == pictures
    text = "".join(page.text)
    assert text.count("partial") == 1
    asked = [answer.question for answer in answers(tables)]
    assert [text.count(question) for question in asked] == [2] * 4, "the experiment `bare` has no answers"


# The stage ------------------------------------------------------------------------------------------------------------


def test_the_stage_writes_every_page_and_its_record_twice_the_same(tmp_path, tables):
    folder = tmp_path / "tables/demo"
    folder.mkdir(parents=True)
    names = (*TABLES, *ORIGINS, "claims")
    for name in names:
        tables_io.write_parquet(folder / f"{name}.parquet", tables[name])
    outputs = {f"{name}.parquet": files.checksum(folder / f"{name}.parquet") for name in names}
    for name in ("aggregate", "claims"):
        files.write_json(folder / f"{name}.json", records.seal(record(name, outputs=outputs)))
    write_answers(folder / "answers.json", answers(tables))
    code_version._code_map.cache_clear()
    made, read = {}, outputs | {"answers.json": files.checksum(folder / "answers.json")}
    for out in (tmp_path / "one", tmp_path / "two"):
        out.mkdir()
        plugins.load("stages", "overview")(spec={"config": {"a": 1}}, tables=folder, out=out)
        found = records.read_record(out / "overview.json")
        assert set(found["outputs"]) == {f"{name}.html" for name in PAGES}
        assert found["spec"]["config"] == {"a": 1}
        assert found["inputs"] == read
        made[out.name] = {name: (out / f"{name}.html").read_bytes() for name in PAGES}
    assert made["one"] == made["two"]
    assert b"Experiment demo" in made["one"]["overview"]
    changed = records.seal(record("claims", outputs=outputs | {"answers.json": "0" * 64}))
    files.write_json(folder / "claims.json", changed)
    with pytest.raises(SpecError, match=r"answers\.json"):
        plugins.load("stages", "overview")(spec={}, tables=folder, out=tmp_path / "one")


def test_a_figure_of_ones_own_that_fails_is_told_with_its_line(tmp_path, tables, monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda folder=None: None)  # of its folder, by git
    tables_io.write_parquet(tmp_path / "runs.parquet", tables["runs"])
    outputs = {"runs.parquet": files.checksum(tmp_path / "runs.parquet")}
    files.write_json(tmp_path / "aggregate.json", records.seal(record("aggregate", outputs=outputs)))
    (tmp_path / "broken_figure.py").write_text("def wrong(runs):\n    return runs['nothing']\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SpecError, match=r"broken_figure:wrong: raised KeyError in .*broken_figure.py, line 2"):
        plugins.load("stages", "figure")(spec={"figure": "broken_figure:wrong"}, tables=tmp_path, out=tmp_path / "out")


def test_the_code_of_a_page_counts_with_all_templates():
    """A figure has no page."""
    code_version._code_map.cache_clear()
    every = {f"reporting/templates/{path.name}" for path in rendering.TEMPLATES.iterdir()}
    for stage in STAGES:
        counted = code_version.code_map(stage)
        found = {key for key in counted if key.startswith("reporting/templates/")}
        assert found == (every if stage in ("claims", "table", "explorer", "overview") else set()), stage
