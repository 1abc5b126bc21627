"""The real workflow on a tiny grid: what it leaves, that nothing then reruns, and what it refuses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT, Workspace, tiny_figures, tiny_tables
from halobench.calibration.calibrators.exact import fit_temperature
from halobench.cli.main import main
from halobench.core.errors import SpecError
from halobench.storage import arrays_io, files, records
from halobench.storage.columns import KEYS, REFERENCE, TABLE_COLUMNS
from halobench.storage.verify import verify


def table(workspace: Workspace, name: str) -> pd.DataFrame:
    """A table of the tiny experiment."""
    return pd.read_parquet(workspace.folder / f"results/tables/tiny/{name}.parquet")


def cells(workspace: Workspace) -> list[Path]:
    """The folders of all cells."""
    return sorted(path.parent for path in workspace.folder.glob("results/runs/*/*/*/*/train.json"))


def test_every_table_is_there_with_its_columns_and_all_cells(finished):
    for name, columns in TABLE_COLUMNS.items():
        found = table(finished, name)
        assert set(columns) <= set(found.columns), name
        if set(KEYS) <= set(columns):
            assert len(found.loc[found["loss"] != REFERENCE, KEYS].drop_duplicates()) == 16, name
        if name not in ("jobs", "fits"):
            again = pd.read_csv(finished.folder / f"results/tables/tiny/{name}.csv")
            assert (list(again.columns), len(again)) == (list(found.columns), len(found)), name
    assert len(cells(finished)) == 16


def test_every_figure_is_there_in_all_formats(finished):
    for name in tiny_figures():
        stem = finished.folder / f"results/figures/tiny/{name}"
        assert stem.with_suffix(".png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert stem.with_suffix(".pdf").read_bytes()[:5] == b"%PDF-"
        assert b"<svg" in stem.with_suffix(".svg").read_bytes()[:1000]


def test_every_table_for_print_is_there_and_holds_the_means_of_the_metrics(finished):
    metrics = table(finished, "metrics").query("split == 'test' and loss != 'reference'")
    assert tiny_tables() == ["scores"]
    stem = finished.folder / "results/tables/tiny/scores"
    found = pd.read_csv(stem.with_suffix(".csv")).query("loss != 'reference'")
    keys = ["dataset", "labels", "model", "loss", "calibrator", "metric"]
    means = metrics.groupby(keys)["value"].mean()
    assert len(found) == 2 * 2 * 2 * 2 * 4 * 3
    np.testing.assert_allclose(found["mean"], means.loc[found.set_index(keys).index], rtol=1e-12)
    parts = 2 + 1  # both data sets against clean labels, and the noisy one under its posterior
    assert stem.with_suffix(".tex").read_text().count(r"\begin{table}") == parts
    assert stem.with_suffix(".html").read_text().count("<table") == parts
    outputs = records.read_record(stem.with_suffix(".json"))["outputs"]
    assert set(outputs) == {f"scores.{suffix}" for suffix in ("csv", "tex", "html")}


def test_records_hold_provenance_and_true_checksums(finished):
    for folder in cells(finished):
        for stage in ("train", "probe", "calibrate"):
            record = files.read_json(folder / f"{stage}.json")
            assert record["seed"] == int(folder.name.removeprefix("seed"))
            assert record["versions"]["python"]
            assert record["hardware"]["host"]
            assert all(len(digest) == 16 for digest in record["code"].values())
            assert 0 < record["peak_memory_mib"] < 2048
            for name, digest in record["outputs"].items():
                assert files.checksum(folder / name) == digest, (folder, name)


@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_a_cell_opens_again_as_it_was_trained(finished, model):
    import torch

    import halobench

    folder = finished.folder / f"results/runs/noisy/{model}/mixup2/seed1"
    cell = halobench.open_cell(folder)
    assert not cell.model.training
    with torch.no_grad():
        for split, samples in cell.data.splits.items():
            logits = cell.model(torch.from_numpy(cell.data.inputs(split))).numpy()
            np.testing.assert_allclose(logits, cell.logits[f"{split}.logits"], atol=1e-5)
            np.testing.assert_array_equal(samples.labels, cell.logits[f"{split}.labels"])
    assert (cell.spec["loss"]["name"], cell.seed, cell.recipe.epochs) == ("mixup", 1, 3)
    with pytest.raises(SpecError, match=r"no train\.json in it"):
        halobench.open_cell(folder.parent)


def test_packed_results_open_elsewhere(finished, tmp_path, capsys):
    """As docs/run.md says, whole, and without sources and models."""
    import halobench

    (line,) = re.findall(r"^ +(tar -czf .*)$", (ROOT / "docs/run.md").read_text(), re.M)
    name = "noisy/cnn/mixup2/seed1"
    original = halobench.open_cell(finished.folder / "results/runs" / name)
    for more in ("", " --exclude=results/sources --exclude=model.safetensors"):
        packed, folder = tmp_path / f"{len(more)}.tar.gz", tmp_path / str(len(more))
        folder.mkdir()
        command = line.replace("results.tar.gz", str(packed)).replace(" results", f"{more} results")
        subprocess.run(command, shell=True, check=True, cwd=finished.folder)
        subprocess.run(["tar", "-xzf", packed], check=True, cwd=folder)
        assert not list(folder.rglob(".*"))
        assert bool(verify(folder / "results").faults) == bool(more)
        assert main(["show", name, "--results", str(folder / "results")]) == 0
        assert "optimum proved" in capsys.readouterr().out
        logits = halobench.open_cell(folder / "results/runs" / name).logits
        np.testing.assert_array_equal(logits["test.logits"], original.logits["test.logits"])


def test_metrics_agree_with_the_logits_that_they_came_from(finished):
    """The NLL and error of one cell, raw and at its exact temperature, are recomputed here from the stored logits."""
    folder = finished.folder / "results/runs/noisy/mlp/cross_entropy/seed0"
    arrays = arrays_io.read_arrays(folder / "logits.safetensors")
    found = table(finished, "metrics").query(
        "dataset == 'noisy' and model == 'mlp' and loss == 'cross_entropy' and seed == 0 and split == 'test'"
    )
    values = found.set_index(["labels", "calibrator", "metric"])["value"]
    logits = arrays["test.logits"].astype(np.float64)
    posterior = arrays["transition"][arrays["test.clean"]]
    fit = fit_temperature(arrays["val.logits"], arrays["val.labels"])
    assert fit.converged
    for calibrator, beta in (("none", 1.0), ("exact", fit.beta)):
        scaled = beta * logits
        log_softmax = scaled - np.log(np.exp(scaled - scaled.max(1, keepdims=True)).sum(1, keepdims=True))
        log_softmax -= scaled.max(1, keepdims=True)
        nll = -(posterior * log_softmax).sum(1).mean()
        assert values["noisy", calibrator, "nll"] == pytest.approx(nll, rel=1e-9)
        entropy = -(0.5 * np.log(0.5)) * 2
        assert values["noisy", calibrator, "kl"] == pytest.approx(nll - entropy, rel=1e-9)
        error = (logits.argmax(1) != arrays["test.clean"]).mean()
        assert values["clean", calibrator, "error"] == pytest.approx(error)


def test_references_bound_the_cells_where_theory_says_so(finished):
    """Nothing beats the expected NLL of the posterior, which is its entropy; uniform predictions score log k."""
    found = table(finished, "metrics").query("split == 'test' and labels == 'noisy' and metric == 'nll'")
    bayes = found[found["model"] == "bayes"].query("dataset == 'noisy'")["value"]
    np.testing.assert_allclose(bayes, np.log(2), rtol=1e-9)
    uniform = found[found["model"] == "uniform"]["value"]
    np.testing.assert_allclose(uniform, np.log(10), rtol=1e-9)
    rest = found[(found["dataset"] == "noisy") & (found["model"] != "bayes")]["value"]
    assert (rest > np.log(2)).all()


def test_probes_of_one_data_set_and_seed_share_their_points_across_models(finished):
    parts = [
        pd.read_parquet(finished.folder / f"results/runs/noisy/{model}/{loss}/seed0/radii.parquet")
        for model in ("mlp", "cnn")
        for loss in ("cross_entropy", "mixup2")
    ]
    shared = ["points", "probe", "point", "ray", "other_distance", "line_length"]
    for part in parts[1:]:
        pd.testing.assert_frame_equal(part[shared], parts[0][shared])


def test_the_report_is_built_offline_and_holds_claims_first(finished):
    done = finished.snakemake("--nolock", "--report", "report.html")
    assert done.returncode == 0, done.stderr[-3000:]
    text = (finished.folder / "report.html").read_text()
    for category in ("0 Overview", "1 Answers", "6 Claims"):
        assert category in text
    assert "3 Calibration" in text
    assert "Scores before and after calibration: page and LaTeX" in text
    words = r"(?:\s|\\n)+".join(["Lower", "is", "always", "better."])  # lines may end in between
    assert re.search(words, text), "a caption, which is in the table's file"
