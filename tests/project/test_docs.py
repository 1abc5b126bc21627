"""The documentation builds without warnings, and is right about keys, commands and code."""

from __future__ import annotations

import doctest
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
import torch
import yaml
from sklearn.linear_model import LogisticRegression

import halobench
from conftest import ROOT
from halobench.cli import main
from halobench.core import plugins
from halobench.experiment.figure_choice import tables_read
from halobench.reporting import finding
from halobench.storage.layout import PAGES
from halobench.storage.records import seal
from synthetic import CLAIM_ROW

EXAMPLES = [path for path in (ROOT / "src/halobench").rglob("*.py") if ">>> " in path.read_text()]
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())


def script(name: str) -> Any:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_builds_strict(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    expected = ("index", "runs", "configuration", "commands", "glossary", "reading", "library")
    assert {f"{name}.html" for name in expected} <= pages
    published = [path.name for path in (ROOT / "results/published").iterdir()]
    assert {f"runs/{run}/{name}.html" for run in published for name in ("index", "explorer")} <= pages
    text = "".join((tmp_path / "site" / name).read_text() for name in pages)
    loaded = set(re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(https?://[^\" >]+)", text))
    loaded |= set(re.findall(r"<link[^>]*rel=\"?stylesheet\"?[^>]*href=\"?(https?://[^\" >]+)", text))
    assert not loaded, "no page loads anything from another place"
    assert "<msub>" in text
    assert "arithmatex" not in text, "formulas have become MathML"


def test_files_that_are_made_and_tracked_are_up_to_date():
    made = script("hooks").tracked()
    assert "workflow/schemas/config.schema.yaml" in made
    for path, text in made.items():
        assert (ROOT / path).read_text() == text, f"{path}: run python docs/hooks.py"


def schema_keys(node: Any) -> Iterator[tuple[str, dict]]:
    """Every key that any mapping of the schema may have, with the schema of its value."""
    if isinstance(node, dict):
        properties = node.get("properties")
        if isinstance(properties, dict):
            yield from properties.items()
        for child in node.values():
            yield from schema_keys(child)
    elif isinstance(node, list):
        for child in node:
            yield from schema_keys(child)


def test_the_configuration_reference_has_every_key_with_its_description():
    """The keys come from an independent walk over the schema, not the one that makes the page."""
    page = (ROOT / "docs/configuration.md").read_text()
    for key, node in schema_keys(SCHEMA):
        rows = [line for line in page.splitlines() if re.match(rf"\| `(?:[^`]*\.)?{key}(?:\[\])*` \|", line)]
        sections = [part for part in page.split("\n## ") if part.startswith(f"`{key}`")]
        assert key == "recipe" or node["description"], key
        assert any(node["description"] in text for text in rows + sections), key
        if isinstance(node.get("default"), str | int | float):
            default = f"`{json.dumps(node['default'])}`"
            assert any(f"| {default} |" in row for row in rows) or any(f": {default}." in part for part in sections), (
                key
            )


def titled_code(page: str) -> dict[str, str]:
    """The files shown on a page of the docs, by title."""
    found = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return dict(found)


def test_the_tutorial_runs(tmp_path):
    """Its logits are calibrated, also in Python, and Snakemake accepts its grid with its data and its loss."""
    for name, text in titled_code("docs/start.md").items():
        (tmp_path / name).write_text(text)
    halobench = [sys.executable, "-m", "halobench.cli.main"]
    grid = ["run", "--dry-run", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "study.yaml", "loss.yaml"]
    commands = [
        [sys.executable, "mine.py"],
        [*halobench, "diagnose", "mine.npz", "--out", "mine"],
        [sys.executable, "apply.py"],
        [*halobench, *grid],
    ]
    for command in commands:
        env = os.environ | {"PYTHONPATH": os.pathsep.join([".", str(ROOT / "src")])}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "mine/diagnosis.html").exists()
    with np.load(tmp_path / "mine/probabilities.npz") as file:
        np.testing.assert_array_equal(np.load(tmp_path / "probabilities.npy"), file["test_probabilities"])
    assert "train 18" in " ".join(done.stdout.split()), "3 losses x 2 data sets x 3 seeds"


PLAIN = "import sys; sys.modules.update(probmetrics=None, netcal=None); from halobench.cli.main import main; main()"
NUMBER = r"-?\d+(?:[.,]\d+)*"


def test_the_first_steps_show_what_diagnose_prints_without_extras(tmp_path):
    """Words are equal, and numbers differ by at most 2% or .005, since libraries round differently; [...] is any."""
    (tmp_path / "mine.py").write_text(titled_code("docs/start.md")["mine.py"])
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    for command in (["mine.py"], ["-c", PLAIN, "diagnose", "mine.npz"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
    printed = " ".join(done.stdout.split())
    page = (ROOT / "docs/start.md").read_text()
    (block,) = re.findall(r"^```text\n(?:\$ .*\n)?(mine\.npz\n.*?)^```", page, re.M | re.S)
    shown = " ".join(block.split())
    pattern = re.sub(NUMBER, "0", shown).split("[...]")
    pattern = ".*?".join(re.escape(part.strip()).replace("0", f"({NUMBER})") for part in pattern)
    match = re.match(pattern.replace(r"\ .*?", ".*?"), printed)
    assert match, f"the page shows\n{shown}\nand diagnose prints\n{printed}"
    for ours, theirs in zip(re.findall(NUMBER, shown), match.groups(), strict=True):
        assert float(theirs) == pytest.approx(float(ours), rel=0.02, abs=0.0051)


CORE_ONLY = """
import sys
class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "matplotlib", "pyarrow", "yaml", "snakemake"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing)
sys.modules.update(probmetrics=None, netcal=None)
import numpy as np
rng = np.random.default_rng(0)
truth = rng.normal(size=(3000, 4))
labels = (truth + rng.gumbel(size=truth.shape)).argmax(axis=1)
val_logits, val_labels, new_logits = 5 * truth[:2000], labels[:2000], 5 * truth[2000:]
"""
CHECKED = """
expected = np.exp(truth[2000:]) / np.exp(truth[2000:]).sum(axis=1, keepdims=True)
assert np.abs(probabilities - expected).max() < 0.1
"""


def test_the_readme_lines_run_with_the_core_install(tmp_path):
    """On logits that are five times too large, in a process that can import no extra."""
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", f"{CORE_ONLY}{block}{CHECKED}"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(re.search(r"\bT=([\d.]+).*converged=True", done.stdout)[1]) == pytest.approx(5, abs=0.5)


def test_a_release_has_no_relative_link_in_its_readme(tmp_path):
    """PyPI's page shows the README elsewhere; the release's own command makes links absolute."""
    steps = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["release"]["steps"]
    (command,) = (step["run"] for step in steps if step.get("run", "").startswith("sed "))
    (tmp_path / "README.md").write_bytes((ROOT / "README.md").read_bytes())
    env = os.environ | {"REPOSITORY": "https://example.org/o/halobench", "TAG": "v1"}
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, check=True)
    text = (tmp_path / "README.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 20
    assert all(link.startswith("https://") for link in links)
    assert "(https://example.org/o/halobench/raw/v1/docs/answer-temperature.png)" in text
    assert "(https://example.org/o/halobench/blob/v1/docs/start.md)" in text
    assert "](https://example.org/o/halobench/blob/v1/LICENSE)" in text


def test_the_readme_is_read_within_two_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 80


def test_the_library_lines_run(capsys, tmp_path, monkeypatch):
    """They run in order, on a user's arrays and module, with the names used in the text."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4000, 4))
    labels = np.array([rng.choice(4, p=np.exp(row) / np.exp(row).sum()) for row in truth])
    names = {"val_logits": 5 * truth[:2000], "val_labels": labels[:2000], "rng": rng}
    names |= {"test_logits": 5 * truth[2000:], "test_labels": labels[2000:], "new_logits": 5 * truth[2000:]}
    names |= {"labels": labels[:40]}
    names |= {"inputs": torch.randn(40, 3, 8, 8), "one_hot": torch.eye(4)[labels[:40]]}
    names |= {"x": truth[:400], "y": labels[:400], "x_val": truth[400:800], "y_val": labels[400:800]}
    names["classifier"] = LogisticRegression().fit(names["x"], names["y"])
    names["model"] = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/library.md").read_text(), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    assert len(blocks) == 8
    probabilities = []
    for block in blocks:
        lines = [line for line in block.splitlines() if line.strip() and not re.match("from|import", line)]
        assert len(lines) <= 5, block
        exec(block, names)  # our own pages
        probabilities += [names.pop("probabilities")] if "probabilities" in names else []
    assert [len(rows) for rows in probabilities] == 3 * [2000], "temperature, saved partner scaling, the choice"
    for rows in probabilities:
        np.testing.assert_allclose(rows, scipy.special.softmax(truth[2000:], axis=1), atol=0.1)
    assert abs(names["fit"].T - 5) < 0.5, "the logits were five times too large"
    assert names["scaling"].temperature_ == names["fit"].T
    assert names["fit"].converged
    assert names["model"][1].weight.grad.abs().sum() > 0
    assert set(names["result"].curves["radius"].dropna()) == {1.0, 5.0}
    assert names["result"].radii["point"].nunique() == 40
    files = {f"{name}.{kind}" for name in ("halos", "radii") for kind in ("pdf", "png", "svg")}
    assert {path.name for path in tmp_path.iterdir()} == files | {"calibrator.npz", "svc.joblib"}
    assert capsys.readouterr().out.count("\n") >= 4


def test_a_published_run_has_the_pages_of_a_run_from_its_tables_alone(tmp_path, monkeypatch):
    """Each link between them leads to a file, what can't be drawn is named, and the same tables give the same bytes."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    runs = script("runs")
    assert sorted(runs.LISTED) == sorted(path.name for path in (ROOT / "results/published").iterdir())
    for out in ("one", "two"):
        runs.write(tmp_path / out, "controls-passes")
    written = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*.*")}
    assert written == {
        path.relative_to(tmp_path / "two"): path.read_bytes() for path in (tmp_path / "two").rglob("*.*")
    }
    (tmp_path / "runs.html").write_text("the documentation's list of runs, next to the folder of their pages")
    pages = {path: path.read_text("utf-8") for path in (tmp_path / "one").rglob("*.html")}
    assert {path.stem for path in pages} == {"index", "explorer", "claims", *PAGES}
    for path, text in pages.items():
        for link in re.findall(r'(?:href|src)="([^"#:]+)[^":]*"', text.partition("<script id")[0]):
            assert (path.parent / link).is_file(), (path, link)
        assert re.search(r'href="[./]+/runs\.html">Published runs<', text)
        assert str(tmp_path) not in text
        assert ("Left out" in text) == (path.stem == "figures")
    (figures,) = (text for path, text in pages.items() if path.stem == "figures")
    assert "Reliability" in figures.partition("Left out")[2].partition("</p>")[0]
    for page in re.findall(r"\]\(runs/controls-passes/([^)#]+)", runs.landing()):
        assert tmp_path / "one/controls-passes" / page in pages


def test_lists_of_runs_say_which_had_uncommitted_edits():
    edited = "| controls-apart | 108 | 3 | 58 | 2026-12-02 | 676a02e with edits |"
    assert edited in script("published").runs_table()
    assert "(676a02e with edits)" in script("runs").landing()


def test_a_number_that_is_typed_or_wrong_is_found(tmp_path, monkeypatch):
    """By page and line, whether it is the page or the table that was changed, and also if the table has no such row."""
    published = script("published")
    page = (
        "<!--numbers run=mine-->\n\nIt is <!--n claims.a spread .1f-->.3 to .4<!--/-->, <!--c setting-->.9<!--/-->.\n"
    )
    folder = tmp_path / "mine"
    folder.mkdir()
    row = CLAIM_ROW | {"adjusted": "undecided", "most": 0.4}
    monkeypatch.setattr(published, "verdicts", lambda run: pd.DataFrame([row]))
    monkeypatch.setattr(published, "PUBLISHED", tmp_path)
    assert published.written(page) == (page, [])
    assert published.filled("claims.a words", {"run": "mine"}) == finding.adjusted_words(row)
    assert published.filled("claims.a spread neg .1f", {"run": "mine"}) == "-.4 to -.3"
    made, wrong = published.written(page.replace(".3 to", ".4 to"))
    assert made == page
    assert [line for line, _ in wrong] == [3]
    marks = ("<!--n claims.b spread-->1<!--/-->", "<!--n kl-->1<!--/-->", "<!--n claims.a spread-->1")
    for other in ("It is .25", "<!--c setting-->.9<!--/-->", *(f"It is {mark}" for mark in marks)):
        wrong = published.written(page.replace(".9<!--/-->", f".9<!--/-->\n{other}"))[1]
        assert [line for line, _ in wrong] == [4], other
    pd.DataFrame({"seed": [0]}).to_parquet(folder / "runs.parquet")
    outputs = {"runs.parquet": hashlib.sha256((folder / "runs.parquet").read_bytes()).hexdigest()}
    (folder / "records.json").write_text(json.dumps({"aggregate": seal({"outputs": outputs})}))
    monkeypatch.setattr(published, "ROOT", tmp_path)
    assert list(published.damaged()) == []
    pd.DataFrame({"seed": [1]}).to_parquet(folder / "runs.parquet")
    assert len(list(published.damaged())) == 1


def test_joined_tables_keep_all_rows_of_the_first_run_that_measured_something(monkeypatch):
    """With two runs of one cell, of which the second has another cell too, each with several rows by distance."""
    published = script("published")
    cell = {"dataset": "d", "model": "m", "loss": "l", "seed": 0, "points": "train", "probe": "sphere"}
    first = pd.DataFrame([{**cell, "radius": radius, "confidence": 1.0 - radius} for radius in (0.0, 0.1, 0.2)])
    second = pd.concat([first.assign(confidence=0.5), first.assign(seed=1), first.assign(probe="manifold")])
    joined = published.first_of([first, second.reset_index(drop=True)])
    assert joined.equals(pd.concat([first, second.iloc[3:]], ignore_index=True))

    monkeypatch.syspath_prepend(ROOT / "docs")
    pictures = script("pictures")
    run, figure = pictures.PUBLISHED["paper-small"]
    table = tables_read("figures", figure)[0]
    assert len(pictures.published_table(run, table)) == len(published.table(run, table))


def test_a_changed_digit_of_a_generated_table_is_found(monkeypatch):
    """In the pages as they are: tables with verdicts and of several runs."""
    published = script("published")
    monkeypatch.syspath_prepend(ROOT / "docs")
    for page, query in (
        ("docs/findings.md", "grid families"),
        ("docs/findings.md", "grid radii"),
    ):
        (block,) = re.findall(rf"<!--n {query}-->.*?<!--/-->", (ROOT / page).read_text(), re.S)
        assert published.written(block, typed=False) == (block, []), query
        digits = [match.start() for match in re.finditer(r"\d", block)]
        assert len(digits) > 5
        for at in (digits[0], digits[len(digits) // 2], digits[-1]):
            other = f"{block[:at]}{(int(block[at]) + 1) % 10}{block[at + 1 :]}"
            made, wrong = published.written(other, typed=False)
            assert made == block, "written anew"
            assert [message.startswith(f"{query}: the page says ") for _, message in wrong] == [True], (query, at)


def test_sentences_and_numbers_of_the_answers_follow_them(monkeypatch):
    """Take-aways and counts over the pairs of several runs, compared with the answers in words."""
    published = script("published")
    monkeypatch.syspath_prepend(ROOT / "docs")
    answers = importlib.import_module("answers")

    def said(query: str) -> str:
        return published.filled(query, {})

    reach, temperature, mixup = (answers.answer(key) for key in ("reach", "temperature", "mixup"))
    assert f"removes {said('removed exact')} of the KL from the known posterior" in temperature.short
    assert f"and leaves {said('removed exact left')}. Without label noise, it removes" in temperature.short
    assert f"it removes {said('removed exact clean')} of the NLL" in temperature.short
    assert f"removes {said('removed paper')} with label noise" in temperature.detail
    assert re.search(r"median \d+%", said("removed partner"))[0] in answers.lead("maps")
    assert f"certainty ends after {said('reached worst')} of the distance" in reach.short
    assert f"after {said('reached decision')} with label noise" in reach.detail
    wins, defeats = (said(f"won mixup5 exact other{lost}") for lost in ("", " lost"))
    assert f"5-point Mixup wins on {wins} and loses on {defeats.split()[0]}. On MLPs without" in mixup.short
    assert f"with label noise, 2-point Mixup wins on {said('won mixup2 paper')} pairs" in mixup.detail
    two, five = (said(f"won {loss} exact").split()[0] for loss in ("mixup2", "mixup5"))
    assert said("won mixup2,mixup5 exact") == f"{two} and {five} of {said('won mixup2 exact').split()[2]}"
    fits = "same_fit.value run=architectures-fit loss=mixup5 calibrator=none base_calibrator=exact"
    assert said(f"{fits} signs").endswith(said("won mixup5 same_fit lost").replace(" of ", " above, of "))

    page = f"**<!--n lead temperature-->{temperature.takeaway}<!--/-->** It is a sentence.\n"
    assert published.written(page) == (page, [])
    made, wrong = published.written(page.replace("most", "little"))
    assert (made, [line for line, _ in wrong]) == (page, [1])
    monkeypatch.setattr(answers, "answer", lambda key, run: replace(temperature, takeaway="It helps."))
    made, wrong = published.written(page)
    assert "**<!--n lead temperature-->It helps.<!--/-->** It" in made
    assert [line for line, _ in wrong] == [1]


def test_a_generated_table_has_a_row_per_query_and_says_what_it_lacks(tmp_path, monkeypatch):
    """What a column says replaces what its row says; a cell that is in no table is as the table says, or wrong."""
    published = script("published")
    (tmp_path / "r").mkdir()
    cells = [(d, m, s) for d in ("a", "b") for m in ("mlp", "cnn") for s in (0, 1) if (d, m) != ("b", "cnn")]
    table = pd.DataFrame(cells, columns=["dataset", "model", "seed"]).assign(loss="l", split="test", labels="noisy")
    values = {("a", "mlp"): 0.25, ("a", "cnn"): 0.5, ("b", "mlp"): 1.75}
    table["value"] = [values[d, m] + (s - 0.5) / 10 for d, m, s in cells]  # means over seeds are as above
    table.assign(calibrator="exact", metric="kl").to_parquet(tmp_path / "r/metrics.parquet")
    table.assign(classes=4, seed_correction=0.0).to_parquet(tmp_path / "r/runs.parquet")
    spec = {"columns": {"what": "label", "of": "models", "A": "dataset=a .2f", "B": "dataset=b .2f"}, "run": "r"}
    spec |= {"rows": {"first": "kl model=mlp dataset=c", "second": "kl model=cnn"}, "missing": "–"}
    monkeypatch.setattr(published, "PUBLISHED", tmp_path)
    monkeypatch.setattr(published, "GRIDS", tmp_path / "grids.yaml")
    monkeypatch.setattr(published, "MODEL_NAMES", {"mlp": "MLP", "cnn": "CNN"})
    published.GRIDS.write_text(yaml.safe_dump({"mine": spec}, sort_keys=False))
    rows = ["| what | of | A | B |", "| --- | --- | --- | --- |"]
    rows += ["| first | MLP | .25 | 1.75 |", "| second | CNN | .50 | – |"]
    page = "<!--n grid mine-->\n\n" + "\n".join(rows) + "\n\n<!--/-->\n"
    assert published.written(page) == (page, [])
    made, wrong = published.written(page.replace(".25", ".26"))
    assert (made, [line for line, _ in wrong]) == (page, [1])
    spec |= {"columns": {"what": "label", "claim": "claim words"}, "claims": {"second": "a"}}
    published.GRIDS.write_text(yaml.safe_dump({"mine": spec}, sort_keys=False))
    monkeypatch.setattr(published, "verdicts", lambda run: pd.DataFrame([CLAIM_ROW]))
    rows = ["| what | claim |", "| --- | --- |", "| first |  |", f"| second | {finding.adjusted_words(CLAIM_ROW)} |"]
    assert published.grid("mine").strip() == "\n".join(rows)
    spec["columns"] = {"A": "dataset=a .2f", "B": "dataset=b .2f"}
    del spec["missing"]
    published.GRIDS.write_text(yaml.safe_dump({"mine": spec}, sort_keys=False))
    assert "grid mine" in published.written(page)[1][0][1]
    with pytest.raises(published.Wrong):
        published.grid("mine")


def test_numbers_are_means_ratios_intervals_and_slopes_over_seeds(tmp_path, monkeypatch):
    """Compared with their formulas, on a table of two models, three seeds and four numbers of classes."""
    published = script("published")
    rng = np.random.default_rng(0)
    cells = [(f"d{k}", k, model, seed) for k in (2, 4, 8, 16) for model in ("a", "b") for seed in range(3)]
    runs = pd.DataFrame(
        {"dataset": d, "model": m, "loss": "l", "seed": s, "classes": k, "seed_correction": 0.3} for d, k, m, s in cells
    )
    kl = runs[["dataset", "model", "loss", "seed"]].assign(
        split="test", labels="noisy", calibrator="exact", metric="kl", value=rng.random(len(runs))
    )
    (tmp_path / "r").mkdir()
    runs.to_parquet(tmp_path / "r/runs.parquet")
    monkeypatch.setattr(published, "PUBLISHED", tmp_path)

    def fresh(table: pd.DataFrame) -> None:
        table.to_parquet(tmp_path / "r/metrics.parquet")
        published.table.cache_clear()
        published.values.cache_clear()

    value = kl.assign(k=runs["classes"]).set_index(["model", "k", "seed"])["value"].sort_index()

    def said(query: str) -> list[float]:
        return [float(number) for number in re.findall(r"-?[\d.]+", published.filled(query, {"run": "r"}))]

    fresh(kl)
    means = value.groupby(["model", "k"]).mean()
    assert np.allclose(said("kl model=a dataset=d2 .6f"), means["a", 2], atol=1e-6)
    assert np.allclose(said("kl model=a dataset=d2,d8 spread .6f"), sorted(means["a"][[2, 8]]), atol=1e-6)
    assert np.allclose(said("kl model=a max .6f"), means["a"].max(), atol=1e-6)
    assert np.allclose(said("kl model=a minus model=b median .6f"), (means["a"] - means["b"]).median(), atol=1e-6)
    by = kl[(kl["model"] == "b") & (kl["seed"] != 2)].set_index(["dataset", "seed"])["value"]
    over = [value["a", k][[0, 1]].mean() / by[f"d{k}"].mean() for k in (2, 4, 8, 16)]
    fresh(kl[(kl["model"] == "a") | (kl["seed"] != 2)])
    assert np.allclose(said("kl model=a over model=b spread .6f"), [min(over), max(over)], atol=1e-6)
    with pytest.raises(published.Wrong, match="a ratio of means has no interval"):
        published.filled("kl model=a dataset=d2 over model=b interval", {"run": "r"})
    fresh(kl)
    slopes = [np.polyfit(np.log([2, 4, 8, 16]), value["a"].xs(seed, level="seed"), 1)[0] for seed in range(3)]
    half = scipy.stats.t.ppf(0.975, 2) * np.std(slopes, ddof=1) / np.sqrt(3)
    mean = np.mean(slopes)
    assert np.allclose(said("kl slope model=a .6f"), [mean, mean - half, mean + half], atol=1e-6)
    one = value["a", 4].to_numpy()
    half = scipy.stats.t.ppf(0.975, 2) * np.std(one, ddof=1) * np.sqrt(1 / 3 + 0.3)
    expected = [one.mean(), one.mean() - half, one.mean() + half]
    assert np.allclose(said("kl dataset=d4 model=a interval .6f"), expected, atol=1e-6)
    with pytest.raises(published.Wrong, match="differ in dataset"):
        published.filled("kl model=a", {"run": "r"})
    rows = means["a"].to_numpy()
    half = scipy.stats.t.ppf(0.975, 3) * rows.std(ddof=1) / 2
    assert np.allclose(said("kl model=a mean .6f"), [rows.mean(), rows.mean() - half, rows.mean() + half], atol=1e-6)
    assert published.filled("kl model=a minus model=a signs", {"run": "r"}) == "0 below, 0 above, of 4"
    fresh(kl.assign(value=np.where(kl["dataset"] == "d2", 9.0, kl["seed"] - 1.0)))
    assert published.filled("kl model=a neg signs", {"run": "r"}) == "1 below, 0 above, of 4"


def test_numbers_of_a_studys_table_are_those_of_rows_that_meet_the_conditions(tmp_path, monkeypatch):
    published = script("published")
    monkeypatch.setattr(published, "ROOT", tmp_path)
    (tmp_path / "studies/mine").mkdir(parents=True)
    rows = [
        ("net a", "TS, labels", 0.5, 0.4, 0.7),
        ("net a", "TS, votes", 0.4, 0, 1),
        ("net b", "TS, labels", 0.3, 0, 1),
    ]
    pd.DataFrame(rows, columns=["network", "row", "value", "low", "high"]).to_csv(
        tmp_path / "studies/mine/scores.csv", index=False
    )
    for query, text in [
        ("value network=net?b", ".300"),
        ("value row=TS??labels spread .1f", ".3 to .5"),
        ("value row=TS??labels max .2f", ".50"),
        ("value network=net?a row=TS??labels interval .1f", ".5 [.4, .7]"),
        ("value network=net?b neg .1f", "-.3"),
    ]:
        assert published.filled(f"mine/scores.{query}", {}) == text
    with pytest.raises(published.Wrong, match="2 rows of mine/scores"):
        published.filled("mine/scores.value row=TS??labels", {})
    with pytest.raises(published.Wrong, match="no row has network=c"):
        published.filled("mine/scores.value network=c", {})
    page = "A page says <!--n mine/scores.value network=net?b .1f-->.3<!--/--> here."
    assert published.written(page) == (page, [])
    assert published.written(page.replace(".3<", ".4<"))[1][0][1].endswith("the page says '.4', the table '.3'")


def test_badges_name_the_oldest_versions_that_are_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (snakemake,) = (each for each in project["optional-dependencies"]["workflow"] if each.startswith("snakemake>="))
    for name, requirement in {"python": project["requires-python"], "snakemake": snakemake}.items():
        version = requirement.partition(">=")[2].partition(",")[0]
        assert f">{version} or newer<" in (ROOT / f"docs/badges/{name}.svg").read_text()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings_give_what_they_show(path, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_documentation_imports_public_names_or_names_their_module():
    examples = sorted((ROOT / "examples/plugins").rglob("*.py"))  # to which docs/extend.md links
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *examples]
    imported = {
        name.strip()
        for page in pages
        for names in re.findall(r"^from halobench import (.+)$", page.read_text(), re.M)
        for name in names.split(",")
    }
    assert {"fit_temperature", "ece", "Mixup", "probe", "Loss", "Images"} <= imported
    assert imported <= set(halobench.__all__)


def test_the_cluster_page_tells_the_truth():
    """Its settings are those of the profile."""
    text = (ROOT / "docs/cluster.md").read_text()
    profile = (ROOT / "profiles/slurm/profile.yaml").read_text()
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+) \|$", text[: text.index("## Watch it")], re.M)
    keys = {key for row in rows for key in re.findall(r"`([a-z][a-z_-]+)[`:]", row)}
    assert {"default-resources", "slurm_partition", "retries", "local-cores", "set-resources"} <= keys
    for key in keys - {"squeue", "sacct"}:
        assert re.search(rf"\b{key}:", profile), key


def test_the_readme_tells_the_truth():
    """Its links exist, and so do its and the docs' commands and targets; test_docs.py runs its library lines."""
    text = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (ROOT / link).exists(), link
    text += "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^    )make ([\w-]+)", text, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    named = re.findall(r"(?:`|^    )(?:\S+=\S+ |\S*/)?halobench ([a-z]+)(?: ([a-z]+))?", text, re.M)
    for name in {name for name, _ in named}:
        with pytest.raises(SystemExit) as stop:
            main.main([name, "--help"])
        assert stop.value.code == 0, name
    assert {stage for name, stage in named if name == "stage" and stage} <= {*plugins.names("stages")}
