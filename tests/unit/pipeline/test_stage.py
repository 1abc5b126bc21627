"""The protocol of a stage: everything around its actual work."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
import torch
from filelock import FileLock, Timeout

from halobench.core.errors import SpecError
from halobench.experiment.code_version import code_map
from halobench.pipeline.stage import StageRun, resumable, stage
from halobench.storage import files, provenance, records

SPEC = {"loader": "digits"}


def run(folder, text="{}", **options):
    with stage("source", folder, SPEC, **options) as running:
        running.outputs[0].write_text(text)
        running.facts["note"] = "made here"


def test_outputs_are_sealed_with_what_was_asked_for(tmp_path):
    run(tmp_path, seed=3, packages=["pandas"])
    record = records.read_record(tmp_path / "source.json")
    assert (record["stage"], record["spec"], record["seed"]) == ("source", SPEC, 3)
    assert record["code"] == code_map("source")
    assert record["outputs"] == {"meta.json": files.checksum(tmp_path / "meta.json")}
    assert record["note"] == "made here"
    assert {"python", "numpy", "halobench", "pandas"} == set(record["versions"])


@pytest.mark.process
def test_plug_ins_from_outside_are_kept_with_their_commit(tmp_path, monkeypatch):
    source = tmp_path / "mine/own_loader.py"
    source.parent.mkdir()
    source.write_text("def load():\n    return 3  # naïve\n", encoding="utf-8")
    git = ["git", "-C", str(source.parent), "-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=now"]):
        subprocess.run([*git, *arguments], check=True)
    monkeypatch.syspath_prepend(source.parent)
    run(tmp_path, plugins=[("data", "own_loader:load"), ("data", "digits")])
    kept = records.read_record(tmp_path / "source.json")["plugins"]
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert kept == {"own_loader:load": {"text": source.read_text(encoding="utf-8"), "commit": head}}


def test_a_stage_that_fails_leaves_no_record(tmp_path):
    with pytest.raises(ZeroDivisionError), stage("source", tmp_path, SPEC):
        _ = 1 / 0
    assert not (tmp_path / "source.json").exists()


def test_code_that_was_edited_since_it_was_asked_for_is_refused_before_anything_is_touched(tmp_path):
    old = tmp_path / f"{files.TEMPORARY}old"
    old.touch()
    os.utime(old, (0, 0))
    other = code_map("source") | {"data/sources": "0" * 16}
    with pytest.raises(SpecError, match="edited after the run had started"):
        run(tmp_path, code=other)
    assert list(tmp_path.iterdir()) == [old]
    run(tmp_path, code=code_map("source"))
    assert not old.exists(), "what killed writers left is cleared away"


def claim(folder, spec=SPEC):
    with stage("source", folder, spec) as running:
        running.claim_folder()
        running.outputs[0].write_text("{}")


def test_an_orphan_does_not_write_over_a_result_that_was_asked_for_later(tmp_path):
    """It may only overwrite the same result, or one of a process that started before it."""
    tmp_path /= "new"
    claim(tmp_path)
    claim(tmp_path, {"loader": "photos"})
    path = tmp_path / "source.json"
    later = records.read_record(path) | {"started": f"9999{provenance.started()[4:]}"}
    files.write_json(path, records.seal(later))
    claim(tmp_path, {"loader": "photos"})
    files.write_json(path, records.seal(later))
    before = path.read_bytes()
    with pytest.raises(
        SpecError, match=r"a later run \(started 9999.* already written another result here; this one .* was discarded"
    ):
        claim(tmp_path)
    assert path.read_bytes() == before


def test_the_folder_is_held_until_the_record_is_written(tmp_path):
    """Two processes write one after the other, and the lock file is removed afterwards."""
    lock = FileLock(tmp_path / files.LOCK, blocking=False)
    with stage("source", tmp_path, SPEC) as running:
        running.claim_folder()
        running.outputs[0].write_text("{}")
        with pytest.raises(Timeout), lock:
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meta.json", "source.json"]
    with lock:
        pass


@pytest.mark.parametrize("change", [{}, {"spec": {}}, {"seed": 1}, {"code": "b"}, {"content": "other"}])
def test_a_resume_point_is_used_only_for_the_same_spec_seed_code_and_inputs(tmp_path, change):
    def resume_point(spec=SPEC, seed=0, code="a", content="one"):
        running = StageRun("train", tmp_path / "train.json", spec, seed, {"module": code}, [], [], {"input": content})
        with resumable(running, "cpu", 0.0, 1) as checkpoint_of:
            return checkpoint_of("cpu")

    resume_point().save({"weights": torch.ones(2)}, {"step": 3}, "step 3")
    found = resume_point(**change).load()
    assert (found is None) == bool(change)


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for folder in ("file", "file/below", "dangling"):
        with pytest.raises(SpecError, match=r"(file|dangling).*: can't be written to"):
            claim(tmp_path / folder)
    claim(tmp_path / "new/below")


def test_seconds_of_earlier_processes_count(tmp_path):
    began = time.perf_counter()
    with stage("source", tmp_path, SPEC) as running:
        running.outputs[0].write_text("{}")
        running.seconds = 100.0
    seconds = records.read_record(tmp_path / "source.json")["seconds"]
    assert 100.0 <= seconds <= 100.0 + time.perf_counter() - began + 0.001


def test_what_a_stage_writes_against_its_declaration_is_named(tmp_path):
    running = StageRun("source", tmp_path / "source.json", SPEC, None, {}, [], [tmp_path / "entropy.txt"])
    with pytest.raises(SpecError, match=r"source: run writes 0 of the files in STAGE; .* in this order: entropy\.txt"):
        running.write()
    with pytest.raises(SpecError, match=r"entropy\.txt: has no writer here; .* choose one of \.json, \.csv"):
        running.write({})


def test_files_that_a_stage_reads_against_its_declaration_are_named(tmp_path):
    told = r"stages\.source: run reads files of train, which `reads` in the STAGE of source doesn't list"
    with pytest.raises(SpecError, match=told), stage("source", tmp_path, SPEC, reads={"train": tmp_path}):
        pass
