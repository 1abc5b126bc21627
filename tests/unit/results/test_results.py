"""Checks that protect results: unfinished files, the inventory, and verification."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from conftest import end, holder
from halobench.core.errors import SpecError
from halobench.experiment.config_loader import load_config
from halobench.experiment.jobs import cell_jobs, reference_job
from halobench.experiment.sections import Cell
from halobench.results import inventory
from halobench.storage import files, records, verify
from halobench.storage.provenance import record

pytestmark = pytest.mark.faults


def test_only_what_dead_writers_left_is_swept_away(tmp_path):
    """A living writer's file, a recent one, and unrelated files stay."""
    code = "from halobench.storage import files as store; kept = store.replacing(sys.argv[1]); kept.__enter__()"
    living, dead = (holder(code, tmp_path / f"{name}.csv") for name in ("living", "dead"))
    end(dead)
    (tmp_path / ".hidden").touch()
    old = time.time() - 3600
    for path in tmp_path.iterdir():
        os.utime(path, (old, old))
    young = tmp_path / f"{files.TEMPORARY}young-1.csv"
    young.touch()
    files.sweep(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert {".hidden", young.name} < left
    assert sum(name.startswith(f"{files.TEMPORARY}living") for name in left) == 1
    assert not any(name.startswith(f"{files.TEMPORARY}dead") for name in left)
    end(living)


@pytest.fixture
def two_cells():
    """A checked configuration of two cells with 100 points each."""
    sizes = {"source": "digits", "train": 50, "val": 20, "test": 30}
    grid = [{"datasets": ["clean"], "models": ["mlp"], "losses": ["ce"], "seeds": [0, 1]}]
    return load_config(
        {
            "run": ["e"],
            "sources": {"digits": {"loader": "digits"}},
            "datasets": {"clean": sizes},
            "models": {"mlp": {"name": "mlp"}},
            "losses": {"ce": {"name": "cross_entropy"}},
            "probes": {"sphere": {}},
            "experiments": {"e": {"grid": grid}},
        }
    )


def write_cell(results: Path, config, seed: int) -> None:
    """Write a cell's records and one output each, as the stages would."""
    folder = results / f"runs/clean/mlp/ce/seed{seed}"
    for job in cell_jobs(config, Cell("clean", "mlp", "ce", seed), probed=True):
        files.write_json(folder / f"{job.stage}.output", job.stage)
        made = record(job.request, seed, [folder / f"{job.stage}.output"], 1.0)
        files.write_json(results / job.record, made)
    job = reference_job(config, "clean", seed)
    files.write_json(results / job.record, record(job.request, seed, [], 1.0))


def test_a_survey_tells_what_is_there_and_why_the_rest_is_not(two_cells, tmp_path):
    write_cell(tmp_path, two_cells, 0)
    found = inventory.take_inventory(two_cells, "e", tmp_path)
    assert [cell.seed for cell in found.cells] == [0]
    assert found.listed["references"] == [{"dataset": "clean", "seed": 0, "path": "clean/seed0"}]
    assert found.note == "partial: 1 of 2 cells"
    assert [(row["loss"], row["seed"], row["stage"], row["why"]) for row in found.missing] == [
        ("ce", 1, "train", "not made yet"),
        ("reference", 1, "reference", "not made yet"),
    ]
    write_cell(tmp_path, two_cells, 1)
    whole = inventory.take_inventory(two_cells, "e", tmp_path)
    assert (whole.note, whole.missing) == ("", ())
    assert inventory.list_inventory(whole, tmp_path) != inventory.list_inventory(found, tmp_path)
    probe = tmp_path / "runs/clean/mlp/ce/seed1/probe.json"
    made = files.read_json(probe)
    for change, why in (
        ({"code": made["code"] | {"rays": "0" * 16}}, "rays.py is no longer used"),
        ({"seed": 7}, "seed was 7 and is now 1"),
    ):
        files.write_json(probe, records.seal(made | change))
        assert [row["why"] for row in inventory.take_inventory(two_cells, "e", tmp_path).missing] == [why]
    probe.write_text("{")
    assert [row["why"] for row in inventory.take_inventory(two_cells, "e", tmp_path).missing] == [
        "its record can't be read"
    ]


def test_verify_and_remove_speak_of_the_stages_own_files_only(two_cells, tmp_path):
    write_cell(tmp_path, two_cells, 0)
    folder = tmp_path / "runs/clean/mlp/ce/seed0"
    assert verify.verify(tmp_path).faults == ()
    assert (verify.verify(tmp_path).records, verify.verify(tmp_path).files) == (4, 3)
    (folder / "probe.output").write_text("edited")
    (fault,) = verify.verify(tmp_path).faults
    assert str(fault).startswith(f"{folder}/probe.output: was changed after the probe stage wrote it (SHA-256 ")
    assert verify.remove((fault,)) == [folder / "probe.output", folder / "probe.json"]
    assert verify.verify(tmp_path).faults == ()
    left = {f"{stage}.{kind}" for stage in ("train", "calibrate") for kind in ("json", "output")}
    assert {path.name for path in folder.iterdir()} == left


def test_verify_leaves_files_alone_that_no_stage_wrote(two_cells, tmp_path):
    """A folder without a record is refused; next to results, files that have names like outputs aren't judged."""
    names = ("train.json", "model.safetensors", "metrics.csv", "mine/logits.safetensors", "mine/broken.json")
    for name in (*names, "weights/mine/model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{")
    with pytest.raises(SpecError, match="expected a results folder with at least one stage's record"):
        verify.verify(tmp_path)
    write_cell(tmp_path, two_cells, 0)
    assert [fault.path for fault in verify.verify(tmp_path).faults] == [tmp_path / "weights/mine/model.safetensors"]
