"""`halobench show` and `compare` on the files of a real run."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from halobench.cli.main import main
from halobench.core import console
from halobench.core.errors import SpecError
from halobench.core.formatting import number
from halobench.reporting import explorer, terminal
from halobench.results import cell_results
from halobench.storage import files, records

CELL = "noisy/mlp/mixup2/seed1"
NLL = ("test", "noisy", "exact", "nll")


@pytest.fixture
def results(finished):
    return finished.folder / "results"


def said(capsys, *arguments) -> str:
    """Return what a command prints; it must succeed."""
    assert main(list(map(str, arguments))) == 0
    return capsys.readouterr().out


def test_show_prints_what_the_files_hold(results, capsys):
    told = said(capsys, "show", CELL, "--results", results)
    metrics = pd.read_csv(results / "runs" / CELL / "metrics.csv").set_index(
        ["split", "labels", "calibrator", "metric"]
    )
    row = metrics.loc[("test", "noisy", "exact", "nll")]
    assert f"{row['value']:.3f}" in told
    assert f"[{row['low']:.3f}, {row['high']:.3f}]" in told
    assert told.count("in brackets the 95% bootstrap interval over test samples") == 2
    fits = json.loads((results / "runs" / CELL / "calibration.json").read_text())
    (exact,) = (fit for fit in fits if fit["calibrator"] == "exact")
    assert f"{exact['T']:.4g}" in told
    assert "dataset.noise.p" in told
    assert "optimum proved" in told
    assert "val" not in [line.split(":")[0] for line in told.splitlines()]
    expected, clean = told.split("\ntest, judged by ")[1:]
    assert ("ECE floor" in expected, "ECE floor" in clean) == (False, True)


def test_show_has_the_repair_ladder_of_a_cell_that_has_one(results, tmp_path, capsys):
    folder = tmp_path / "results/runs" / CELL
    shutil.copytree(results / "runs" / CELL, folder)
    assert "What could repair it?" not in said(capsys, "show", CELL, "--results", tmp_path / "results")
    said(capsys, "stage", "repair", "--run", folder, "--seed", 1, "--spec", "{}")
    told = said(capsys, "show", CELL, "--results", tmp_path / "results").split("What could repair it?")[1]
    rows = pd.read_csv(folder / "repair.csv").set_index("metric")
    words = {"nll": "the model as it is", "temperature": "repaired by a temperature", "noise": "nothing: noise"}
    words |= {"richer_map": "repaired by a richer map of the logits", "training": "repaired by only other training"}
    for name, label in words.items():
        assert re.search(rf"{label} +{re.escape(number(rows.loc[f'repair_{name}', 'value']))} *\n", told)


def test_names_of_cells(results):
    for name in (f"results/runs/{CELL}", f"{CELL}/", "noisy/mlp/mixup2/seed1"):
        assert cell_results.find_cell(results, name) == CELL
    for name, told in (
        (
            "noisy/mlp/mixup3/seed1",
            "no cell 'noisy/mlp/mixup3/seed1' among the 16 trained cells in .*closest: noisy/mlp/mixup2/seed1",
        ),
        ("mixup2/seed0", "'mixup2/seed0' matches several cells: clean/cnn/mixup2/seed0, clean/mlp/mixup2/seed0"),
        ("seed", "and 4 more"),
        ("quite another", "closest: clean/"),
    ):
        with pytest.raises(SpecError, match=told):
            cell_results.find_cell(results, name)


def test_folders_without_cells(tmp_path):
    with pytest.raises(SpecError, match="no such folder"):
        cell_results.cell_names(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="no `runs` folder in it"):
        cell_results.cell_names(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(SpecError, match="no trained cells"):
        cell_results.cell_names(tmp_path)


def test_a_cell_under_way_is_shown_as_far_as_it_is(results, tmp_path, capsys):
    shutil.copytree(results / "runs" / CELL, tmp_path / "runs" / CELL)
    for name in ("calibrate.json", "calibration.json", "metrics.csv", "reliability.csv", "probe.json"):
        (tmp_path / "runs" / CELL / name).unlink()
    told = said(capsys, "show", CELL, "--results", tmp_path)
    assert "probe and calibrate" in told
    assert "train loss" in told


def test_a_damaged_cell_is_refused(results, tmp_path, capsys):
    shutil.copytree(results / "runs" / CELL, tmp_path / "runs" / CELL)
    path = tmp_path / "runs" / CELL / "metrics.csv"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    assert main(["show", CELL, "--results", str(tmp_path)]) == 2
    assert "metrics.csv: not the content recorded for it (SHA-256" in capsys.readouterr().err


def test_the_commands_make_the_same_bytes(results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = cell_results.read_cell(results, CELL)
    for line in cell_results.commands(found, cell_results.read_source_spec(results, found.source)):
        program, *arguments = shlex.split(line)
        assert (program, main(arguments)) == ("halobench", 0), line
    for stage in ("train", "probe", "calibrate"):
        again = json.loads((tmp_path / "again" / CELL / f"{stage}.json").read_text())
        assert again["outputs"] == found.records[stage]["outputs"], stage


def scores(results, loss: str, seed: int, *key: str) -> float:
    return (
        cell_results.read_cell(results, f"noisy/mlp/{loss}/seed{seed}")
        .metrics.set_index(cell_results.SCORE_KEYS)
        .loc[key, "value"]
    )


def test_two_cells(results, capsys):
    """There is one row per metric, after optimal temperature scaling."""
    other = "noisy/mlp/cross_entropy/seed1"
    text = said(capsys, "compare", other, CELL, "--results", results)
    assert "loss.name" in text
    change = scores(results, "mixup2", 1, *NLL) - scores(results, "cross_entropy", 1, *NLL)
    (row,) = re.findall(r"^ *NLL .*$", text, re.M)
    assert f" {number(change)} " in row
    assert text.count("Test scores after") == 1
    assert said(capsys, "compare", other, CELL, "--results", results, "--all").count("Test scores after") > 4


def test_two_losses_over_their_seeds(results, capsys):
    """The change is paired within seeds; its interval is Student's t, not widened, since seeds have own test blocks."""
    text = said(capsys, "compare", "noisy/mlp/cross_entropy", "noisy/mlp/mixup2", "--results", results, "--all")
    assert "(95% t interval of the change over 2 seeds)" in text
    for key in (NLL, ("test", "clean", "exact", "ece")):
        change = np.array(
            [scores(results, "mixup2", s, *key) - scores(results, "cross_entropy", s, *key) for s in (0, 1)]
        )
        low, high = stats.t.interval(0.95, 1, change.mean(), stats.sem(change))
        assert number(change.mean()) in text
        assert f"[{number(low)}, {number(high)}]" in text


@pytest.mark.parametrize("command", [("show", CELL), ("compare", "noisy/mlp/cross_entropy", "noisy/mlp/mixup2")])
def test_no_line_breaks_within_brackets_at_80_columns(results, capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    told = re.sub(r"\x1b\[[0-9;]*m", "", said(capsys, *command, "--results", results))
    tables = re.split(r"^Commands to reproduce", told, flags=re.M)[0]
    lines = tables[tables.index("Test scores" if command[0] == "compare" else "Calibrators") :].splitlines()
    assert max(map(len, lines)) <= 80
    for line in lines:
        assert [line.count(sign) for sign in "[("] == [line.count(sign) for sign in "])"], line
        assert "…" not in line
    assert command[0] == "compare" or re.search(r"optimum\s+proved", tables)


def test_two_folders(results, tmp_path, capsys):
    shutil.copytree(results / "runs", tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs/clean/cnn/mixup2")
    moved = tmp_path / "runs" / CELL
    shutil.rmtree(moved)
    shutil.copytree(results / "runs/noisy/mlp/mixup2/seed0", moved)
    text = said(capsys, "compare", results, tmp_path)
    assert "Cells in both: 14, 13 of them with the same metrics." in text
    assert "Only in A: clean/cnn/mixup2/seed0, clean/cnn/mixup2/seed1" in text
    assert f"Different specs in 1 cell: {CELL}" in text
    assert "(95% t interval of the change over 2 seeds)" in text


def without(record, *keys: str) -> None:
    """Remove keys from a record, as if a version that doesn't know them had written it."""
    found = {key: value for key, value in files.read_json(record).items() if key not in (*keys, "self")}
    files.write_json(record, records.seal(found))


@pytest.mark.parametrize("command", ["show", "compare"])
def test_a_record_of_another_version_is_named(results, tmp_path, command, capsys):
    old = tmp_path / "old"
    shutil.copytree(results, old)
    without(old / "runs" / CELL / "train.json", "interpolates")
    given = {"show": (CELL, "--results", old), "compare": (old, results)}[command]
    assert main(list(map(str, (command, *given)))) == 2
    said = capsys.readouterr().err
    assert f"{CELL}/train.json" in said
    assert "interpolates" in said


def test_the_explorer_says_what_it_lacks(results, tmp_path, capsys):
    tables, page = tmp_path / "tables", tmp_path / "page.html"
    arguments = ["stage", "explorer", "--tables", str(tables), "--out", str(page), "--spec"]

    def told(spec: str = "{}") -> str:
        assert main([*arguments, spec]) == 2
        assert not page.exists()
        return capsys.readouterr().err

    assert "tables: no such folder" in told()
    shutil.copytree(results / "tables", tables)
    assert "did you mean 'tiny'?" in told('{"experiments": ["tinny"]}')
    (tables / "tiny/runs.parquet").unlink()
    assert "runs.parquet: no such file" in told()
    (tables / "tiny/aggregate.json").unlink()
    assert "halobench run partial" in told()


def test_the_explorer_shows_the_cells_from_the_tables_alone(results, tmp_path):
    shutil.copytree(results / "tables", tmp_path / "tables")
    found = explorer.gather(tmp_path / "tables", ["tiny"])["experiments"]["tiny"]
    scores = found["metrics"]
    metric, labels = (np.array(scores[name]["names"])[scores[name]["codes"]] for name in ("metric", "labels"))
    datasets = np.array([cell["dataset"] for cell in found["cells"]])[scores["cell"]]
    floors = set(zip(datasets[metric == "ece_floor"], labels[metric == "ece_floor"], strict=True))
    assert floors == {("clean", "noisy"), ("clean", "clean"), ("noisy", "clean")}, "an expectation under noise has none"
    (card,) = (card for card in found["cells"] if card["name"] == CELL)
    read = cell_results.read_cell(results, CELL)
    assert card["commands"] == cell_results.commands(read, cell_results.read_source_spec(results, read.source))
    assert card["spec"] == [[key, console.value_text(value)] for key, value in read.spec.items()]
    for shown, fit in zip(card["fits"], read.fits, strict=True):
        assert shown["temperature"] == terminal.temperature(fit)
        assert shown["certificate"] == terminal.certificate(fit)
        assert (shown["nll"], shown["calibrator"], shown["labels"]) == (fit["nll"], fit["calibrator"], fit["labels"])
    assert [loss for _, loss in card["history"]] == pytest.approx(read.history["train_loss"].tolist(), rel=1e-5)
    facts = dict(card["facts"])
    assert facts["finished"] == read.train["finished"]
    assert facts["seconds"].split(", ")[0] == f"train {read.train['seconds']:.1f}"


def test_the_explorer_of_a_run_keeps_what_other_experiments_left(results, tmp_path, capsys):
    """An experiment that can't be read is named and left out; one requested by name is shown alone."""
    for name in ("tiny", "other", "broken"):
        shutil.copytree(results / "tables/tiny", tmp_path / "tables" / name)
    (tmp_path / "tables/broken/runs.parquet").write_bytes(b"")
    shown = explorer.write(tmp_path / "page.html", ["tiny"], tmp_path / "tables", others=True)
    assert shown == ["tiny", "other"]
    assert "skipping experiment broken: " in capsys.readouterr().out
    assert list(explorer.gather(tmp_path / "tables", ["tiny"])["experiments"]) == ["tiny"]


def test_commands_are_in_one_piece_each(results, capsys, monkeypatch):
    """This holds in a narrow terminal too, since they are copied from it."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    told = said(capsys, "show", CELL, "--results", results).splitlines()
    found = cell_results.read_cell(results, CELL)
    for line in cell_results.commands(found, cell_results.read_source_spec(results, found.source)):
        assert line in told
