"""A tiny grid through `halobench run`: its output and results, a second run, and what one edit reruns."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from conftest import Workspace, few_cells
from halobench.calibration.calibrators.exact import fit_temperature
from halobench.storage import arrays_io, records
from halobench.storage.files import read_json
from halobench.storage.verify import verify

JOB = re.compile(r"\[ *(\d+)/(\d+)\] (\S+(?: \S+)?)  [\d.]+ (?:s|min)(?:  about [\d.]+ (?:s|min|h) left)?")
LOSSES = ("cross_entropy", "mixup2")
CELLS = [f"{stage} noisy/mlp/{loss}/seed0" for stage in ("train", "probe", "calibrate") for loss in LOSSES]
DRAWN = {"manifest tiny", "aggregate tiny", "claims tiny", "figure tiny/summary", "overview tiny", "explorer"}


def run(workspace: Workspace) -> tuple[list[str], str]:
    """The jobs that `halobench run` prints, which must be numbered in order, and the rest of its lines."""
    done = workspace.halobench("run", "--cores", "2")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    lines = done.stderr.splitlines()
    jobs = [match for match in map(JOB.fullmatch, lines) if match]
    assert [(int(job[1]), int(job[2])) for job in jobs] == [(n + 1, len(jobs)) for n in range(len(jobs))]
    return [job[3] for job in jobs], "\n".join(line for line in lines if not JOB.fullmatch(line))


def test_a_grid_runs_once_and_an_edit_reruns_what_it_changes(tmp_path):
    config = few_cells()
    workspace = Workspace(tmp_path, config)
    results = tmp_path / "results"
    jobs, rest = run(workspace)
    assert {"source digits", "reference noisy/seed0", *CELLS} | DRAWN <= set(jobs)
    assert jobs.index("figure tiny/summary") > max(map(jobs.index, CELLS))
    assert jobs.index("train noisy/mlp/mixup2/seed0") < jobs.index("probe noisy/mlp/mixup2/seed0")
    assert re.search(rf"^{len(jobs)} jobs done in ", rest, re.M)
    assert "Start at results/index.html: it leads to all figures, tables and claims." in rest
    assert len(rest.splitlines()) <= 20
    answers = [
        f"  {each['question']} {each['lead']}" for each in read_json(results / "tables/tiny/answers.json")["answers"]
    ]
    assert "\n".join(["tiny:", *answers]) in rest.replace("halobench: ", "")
    assert verify(results).faults == ()
    assert (results / "figures/tiny/summary.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    # One score, recomputed from the logits: the expected NLL of a cell at its optimal temperature.
    cell = "runs/noisy/mlp/mixup2/seed0"
    arrays = arrays_io.read_arrays(results / cell / "logits.safetensors")
    scaled = fit_temperature(arrays["val.logits"], arrays["val.labels"]).beta * arrays["test.logits"].astype(float)
    nll = np.logaddexp.reduce(scaled, axis=1) - (arrays["transition"][arrays["test.clean"]] * scaled).sum(axis=1)
    table = pd.read_csv(results / "tables/tiny/metrics.csv").query("split == 'test' and labels == 'noisy'")
    row = table.query("loss == 'mixup2' and calibrator == 'exact' and metric == 'nll'")
    np.testing.assert_allclose(row["value"], nll.mean(), rtol=1e-9)

    again, rest = run(workspace)
    assert again == []
    assert "Nothing to be done" in rest

    trained = {path: path.stat().st_mtime_ns for path in results.glob("runs/**/train.json")}
    old = records.read_record(results / cell / "probe.json")
    config["probes"]["sphere"]["radii"] = [0.0, 1.0, 2.0]
    workspace.write(config)
    jobs, _ = run(workspace)
    assert {job for job in jobs if "/mlp/" in job} == {f"probe noisy/mlp/{loss}/seed0" for loss in LOSSES}
    assert set(jobs) >= DRAWN - {"claims tiny"}
    assert {path: path.stat().st_mtime_ns for path in results.glob("runs/**/train.json")} == trained
    assert records.read_record(results / cell / "probe.json")["spec"] != old["spec"]
    assert 1.0 in set(pd.read_parquet(results / cell / "neighbourhood.parquet").query("probe == 'sphere'")["radius"])
