"""The status, the inventory and the verification of results: pure functions of jobs, records and files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from conftest import tiny_config
from halobench.core.errors import SpecError
from halobench.experiment.code_version import code_digest, code_key
from halobench.experiment.config_loader import load_config
from halobench.experiment.jobs import Job, computed_jobs, jobs
from halobench.results import status
from halobench.results.inventory import list_inventory, take_inventory
from halobench.storage import files, records, verify
from halobench.storage.layout import CELL_STAGES, STAGES
from halobench.storage.manifest import list_files, read_manifest
from halobench.storage.provenance import record

CELL = "clean/mlp/mixup2/seed0"
RUN = f"runs/{CELL}"


def small() -> dict:
    """A configuration with one data set, model and loss and two seeds."""
    config = tiny_config()
    config["experiments"]["tiny"]["grid"][0] |= {"datasets": ["clean"], "models": ["mlp"], "losses": ["mixup2"]}
    config["experiments"]["tiny"] |= {"figures": ["training", "summary"], "tables": []}
    return config


def listed(**changes: object) -> list[Job]:
    """The jobs of that configuration, with some values changed."""
    config = small()
    for place, value in changes.items():
        section, name = place.split("__")
        config[section][name] = value
    return jobs(load_config(config))


def write(job: Job, results: Path, everything: list[Job], contents: str = "") -> None:
    """Write a job's outputs and record, as its stage would."""
    if job.stage == "manifest":
        files.write_json(results / job.record, records.seal(list_files(job.spec, results)))
        return
    paths = [results / path for path in job.paths[:-1]]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{job.stage} {job.key} {path.name} {contents}")
    made = status.survey(everything, results)
    by_name = {each.name: each for each in everything}
    inputs: dict[str, str] = {}
    for need in job.needs:
        inputs |= status.outputs_of(by_name[need], made[need], results, job.stage)
    files.write_json(results / job.record, record(job.request, job.seed, paths, 60.0, facts={"inputs": inputs}))


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A results folder in which everything is current."""
    results, everything = tmp_path_factory.mktemp("status") / "results", listed()
    for name in status.survey(everything, results):
        write(next(job for job in everything if job.name == name), results, everything)
    return results


@pytest.fixture
def results(done, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(done, tmp_path / "results"))


def would_run(everything: list[Job], results: Path) -> dict[str, set[str]]:
    """The keys of the jobs that would run, by stage; asking changes no byte and no time."""
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in results.rglob("*")}
    chosen = status.to_run(everything, status.survey(everything, results))
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in results.rglob("*")}
    found: dict[str, set[str]] = {}
    for stage, key in chosen:
        found.setdefault(stage, set()).add(key)
    return found


def lines(everything: list[Job], results: Path) -> list[str]:
    return status.report(everything, status.survey(everything, results))


DRAWN = {stage: {"tiny"} for stage in ("manifest", "aggregate", "claims", "overview")}
DRAWN |= {"figure": {"tiny/training", "tiny/summary"}, "explorer": {"explorer"}}
OF_CELL = [stage.name for stage in CELL_STAGES if stage.cells != "laddered"]  # no ladder is shown
READERS = [stage for stage in OF_CELL if "train" in STAGES[stage].reads]
TRAINED = {stage: {CELL} for stage in OF_CELL} | DRAWN  # what follows from the training


def test_nothing_runs_where_all_is_current_wherever_it_was_copied(results):
    assert would_run(listed(), results) == {}
    assert lines(listed(), results) == [status.NOTHING]
    for path in results.rglob("*"):  # a copy that keeps no times
        path.touch()
    assert would_run(listed(), results) == {}


def test_everything_runs_where_nothing_is_there(tmp_path):
    found = would_run(listed(), tmp_path)
    assert found == {stage: {job.key for job in listed() if job.stage == stage} for stage in found}
    assert set(found) == set(STAGES) - {"weights", "repair", "table"}
    downstream = f"and {len(listed()) - 1} jobs downstream"
    assert lines(listed(), tmp_path)[:2] == ["source digits: it has never run", downstream]


def test_a_changed_value_reruns_its_cells_and_what_needs_them_and_is_named(results):
    edited = listed(train__lr=0.01)
    cells = {f"clean/mlp/mixup2/seed{seed}" for seed in (0, 1)}
    expected = dict.fromkeys(OF_CELL, cells) | DRAWN
    assert would_run(edited, results) == expected
    many = {"train__lr": 0.01, "train__epochs": 7, "train__batch": 32, "train__weight_decay": 0.3, "train__warmup": 7}
    line, *_ = lines(listed(**many), results)
    assert line.count(" and is now ") == 3
    assert line.endswith("; and 2 more changes")
    first, *_, last = lines(edited, results)
    assert first == f"train, 2 jobs ({CELL}, clean/mlp/mixup2/seed1): train.lr was 0.003 and is now 0.01"
    jobs_of = {stage: len(expected[stage]) for stage in STAGES if stage in expected}
    total, each = sum(jobs_of.values()), ", ".join(f"{n} {stage}" for stage, n in jobs_of.items())
    assert last == f"{total} jobs would run: {each}"
    assert would_run(listed(), results) == {}, "back to the old value"


@pytest.mark.parametrize(
    ("path", "stages", "reason"),
    [
        (f"{RUN}/metrics.csv", {"calibrate": {CELL}} | DRAWN, "metrics.csv is missing"),
        (f"{RUN}/train.json", TRAINED, "train.json is missing"),
        (f"{RUN}/logits.safetensors", TRAINED, "logits.safetensors changed after the stage wrote it"),
        ("figures/tiny/summary.pdf", {"figure": {"tiny/summary"}}, "summary.pdf is missing"),
    ],
)
def test_a_lost_or_changed_file_is_made_again(results, path, stages, reason):
    if reason.endswith("missing"):
        (results / path).unlink()
    else:
        (results / path).write_text("other")
    assert would_run(listed(), results) == stages
    assert lines(listed(), results)[0].endswith(f": {reason}")


def test_what_was_made_from_other_inputs_is_made_again(results):
    """As when only the training was repeated, with other bytes: whoever read the old ones isn't current."""
    train = next(job for job in listed() if job.name == ("train", CELL))
    write(train, results, listed(), "other")
    assert would_run(listed(), results) == {stage: {CELL} for stage in READERS} | DRAWN
    first = lines(listed(), results)[0]
    assert first == f"probe {CELL}: its inputs history.csv, logits.safetensors and model.safetensors changed"
    found = take_inventory(load_config(small()), "tiny", results)
    assert [(row["seed"], row["stage"]) for row in found.missing] == [(0, "probe")], "tables leave the cell out"
    write(train, results, listed())
    assert would_run(listed(), results) == {}, "the same bytes again"


def test_an_inventory_lists_what_is_finished_and_why_the_rest_is_not(results):
    config = load_config(small())
    whole = take_inventory(config, "tiny", results)
    assert (whole.note, whole.missing) == ("", ())
    before = list_inventory(whole, results)
    for folder in ("runs/clean/mlp/mixup2/seed1", "references/clean/seed1"):
        shutil.rmtree(results / folder)
    found = take_inventory(config, "tiny", results)
    assert [cell.seed for cell in found.cells] == [0]
    assert found.listed["references"] == [{"dataset": "clean", "seed": 0, "path": "clean/seed0"}]
    assert found.note == "partial: 1 of 2 cells"
    missing = [(row["loss"], row["seed"], row["stage"], row["why"]) for row in found.missing]
    assert missing == [("mixup2", 1, "train", "not made yet"), ("reference", 1, "reference", "not made yet")]
    assert list_inventory(found, results) != before


def test_other_answers_make_the_pages_that_show_them_again(results):
    """As when a run with other words was stopped before its pages. Figures and tables don't read answers."""
    claims = next(job for job in listed() if job.stage == "claims")
    write(claims, results, listed())
    answers = results / "tables/tiny/answers.json"
    answers.write_text("other words")
    content = files.read_json(results / claims.record)
    content["outputs"]["answers.json"] = files.checksum(answers)
    files.write_json(results / claims.record, records.seal(content))
    assert would_run(listed(), results) == {"overview": {"tiny"}, "explorer": {"explorer"}}
    assert lines(listed(), results)[0] == "overview tiny: its input answers.json changed"


@pytest.mark.faults
def test_verify_and_remove_speak_of_recorded_files_only(results):
    """Next to results, files that have names like outputs aren't judged."""
    for name in ("train.json", "model.safetensors", "metrics.csv", "mine/logits.safetensors", "mine/broken.json"):
        path = results / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{")
    assert verify.verify(results).faults == ()
    folder, everything = results / RUN, set(results.rglob("*"))
    (folder / "radii.parquet").write_text("edited")
    (folder / "neighbourhood.parquet").unlink()
    lost, changed = verify.verify(results).faults
    assert str(lost) == f"{folder}/neighbourhood.parquet: is missing; the probe stage wrote it"
    assert str(changed).startswith(f"{folder}/radii.parquet: was changed after the probe stage wrote it (SHA-256 ")
    assert verify.remove((lost, changed)) == [folder / "probe.json"]
    assert everything - set(results.rglob("*")) == {folder / "probe.json", folder / "neighbourhood.parquet"}
    assert verify.verify(results).faults == ()
    assert lines(listed(), results)[0] == f"probe {CELL}: probe.json is missing", "status names it"
    with pytest.raises(SpecError, match="mine: contains no records"):
        verify.verify(results / "mine")


@pytest.mark.faults
def test_verify_finds_what_is_no_record_or_was_edited(results):
    for path, content, problem in (
        (results / RUN / "calibrate.json", "{", "can't be read"),
        (results / RUN / "probe.json", "[]", "isn't a record; it was overwritten"),
        (results / "manifests/tiny.json", None, "doesn't match its own checksum, so it was edited"),
    ):
        before = path.read_text()
        path.write_text(before.replace("tiny", "tinier") if content is None else content)
        (fault,) = verify.verify(results).faults
        assert str(fault).startswith(f"{path}: {problem}")
        path.write_text(before)


def test_a_mix_of_settings_is_refused_but_not_code_that_was_edited_since_the_run_began(results, monkeypatch):
    """Snakemake without its memory can't know that a value was changed."""
    computed = computed_jobs(load_config(small()), "tiny")
    status.require_current(computed, results, {})
    edited = small()
    edited["train"]["lr"] = 0.01
    with pytest.raises(SpecError, match=r"results are outdated \(train .* train\.lr was 0\.003"):
        status.require_current(computed_jobs(load_config(edited), "tiny"), results, {})
    codes = {code_key(job.stage, job.plugins): code_digest(job.request.code) for job in computed}
    monkeypatch.setattr("halobench.experiment.jobs.code_map", lambda *_: {"losses/mixup": "edited"})
    with pytest.raises(SpecError, match=r"losses/mixup\.py .* would mix with others; `halobench run` comp"):
        status.require_current(computed, results, {})
    status.require_current(computed, results, codes)
    with pytest.raises(SpecError, match=r"results are outdated"):
        status.require_current(computed, results, dict.fromkeys(codes, "of another run"))


def test_a_record_that_is_damaged_or_was_edited_does_not_count(results):
    path = results / RUN / "calibrate.json"
    content = files.read_json(path)
    for damaged in ("{", "[]", '{"outputs": {}}', path.read_text().replace('"seed": 0', '"seed": 1')):
        path.write_text(damaged)
        assert lines(listed(), results)[0] == f"calibrate {CELL}: its record can't be read"
    files.write_json(path, records.seal(content | {"seed": 1}))
    assert lines(listed(), results)[0] == f"calibrate {CELL}: seed was 1 and is now 0"


def test_a_forged_manifest_is_no_manifest(results):
    path = results / "manifests/tiny.json"
    files.write_json(path, records.seal(files.read_json(path) | {"cells": [1]}))
    assert lines(listed(), results)[0] == "manifest tiny: its record can't be read"
    with pytest.raises(SpecError, match=r"tiny\.json: isn't a manifest, since its cells have no paths"):
        read_manifest(path)


def test_a_job_that_failed_says_how_its_log_ends(results):
    for name in ("probe.json", "neighbourhood.parquet", "radii.parquet"):
        (results / RUN / name).unlink()
    log = results / f"logs/probe/{CELL}.log"
    log.parent.mkdir(parents=True)
    log.write_text("$ halobench stage probe\nhalobench: error: no space\n")
    job = next(job for job in listed() if job.name == ("probe", CELL))
    assert status.state_of(job, results) == status.State("failed", ("no results; its log ends: no space",))


def test_seeds_added_and_dropped_are_named(results):
    config = small()
    config["experiments"]["tiny"]["grid"][0]["seeds"] = [0, 2]
    edited = jobs(load_config(config))
    assert would_run(edited, results)["train"] == {"clean/mlp/mixup2/seed2"}
    said = next(line for line in lines(edited, results) if line.startswith("manifest"))
    assert said == (
        "manifest tiny: references/clean/seed2 and runs/clean/mlp/mixup2/seed2 were added;"
        " references/clean/seed1 and runs/clean/mlp/mixup2/seed1 were dropped"
    )


def test_experiments_that_share_cells_settle_though_only_one_probes_them(results):
    config = small()
    grid = [config["experiments"]["tiny"]["grid"][0] | {"probe": False}]
    config["experiments"]["bare"] = {"grid": grid, "figures": ["training"], "tables": []}
    config["run"] = ["tiny", "bare"]
    both = jobs(load_config(config))
    for name in status.to_run(both, status.survey(both, results)):
        write(next(job for job in both if job.name == name), results, both)
    assert would_run(both, results) == {}


def test_weights_from_a_cell_of_another_experiment_are_followed_and_those_from_elsewhere_are_compared(tmp_path):
    config = small()
    config["experiments"]["warm"] = {
        "grid": [{"datasets": ["clean"], "models": ["warm"], "losses": ["mixup2"], "seeds": [0], "probe": False}],
        "figures": ["training"],
        "tables": [],
    }
    config["run"] = ["warm"]
    own = f"results/{RUN}/model.safetensors"
    for weights, followed in ((own, True), (f"elsewhere/{own}", False)):
        config["models"]["warm"] = {"name": "mlp", "width": 16, "weights": weights}
        names = {job.name for job in jobs(load_config(config))}
        assert (("train", CELL) in names) == followed


def test_a_source_that_was_lost_or_damaged_is_only_written_again(done, tmp_path):
    """Its bytes are always the same, unless it is read from disk; other bytes would be new inputs of what reads it."""
    results, everything, changed = shutil.copytree(done, tmp_path / "results"), listed(), listed(train__epochs=4)
    source = next(job for job in everything if job.stage == "source")
    array, path = results / "sources/digits/labels.npy", results / source.record
    array.write_text("labels")
    files.write_json(path, record(source.request, None, [path.with_name("meta.json"), array], 1.0))
    edit = status.to_run(changed, status.survey(changed, results)).keys()
    assert ("train", CELL) in edit
    harms = {
        "damaged": lambda: (array.write_text("harmed"), os.utime(array, (path.stat().st_mtime + 5,) * 2)),
        "without its description": path.with_name("meta.json").unlink,
        "without its record": path.unlink,
        "lost": lambda: shutil.rmtree(path.parent),
    }
    assert status.to_run(everything, status.survey(everything, results)) == {}
    for name, harm in harms.items():
        harm()
        assert set(status.to_run(everything, status.survey(everything, results))) == {source.name}, name
        assert set(status.to_run(changed, status.survey(changed, results))) == {source.name, *edit}, name
    write(source, results, everything, "other")
    assert {"train", "probe", "reference"} <= would_run(everything, results).keys()
    for loader, restores in (("digits", True), ("image_folder", False)):
        assert status.state_of(Job("source", "mine", {"loader": loader}), results).restores == restores
