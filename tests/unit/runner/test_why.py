"""Reasons, parsed from Snakemake's actual output and reported in sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from halobench.runner import dry_run
from halobench.runner.dry_run import PlannedJob, parse_reason, read_events
from halobench.runner.forecast.explain import explain, report, spec_changes

RUN = "results/runs/clean/cnn/mixup2/seed0"
REQUEST = "results/requests/train-3fa9c1.json"
BEFORE = {"dataset": {"source": "digits", "train": 100}, "loss": {"name": "mixup"}}
NOW = BEFORE | {"loss": {"name": "mixup", "options": {"alpha": 0.5}}}
CHANGED = "Set of input files has changed since last execution"
OLD, NEW = "0" * 16, "f" * 16

SOURCE = ["results/sources/digits/meta.json", REQUEST]
CNN = {"dataset": "clean", "model": "cnn", "loss": "mixup2", "seed": "0"}


def announced(rule: str, reason: str, inputs: list[str], outputs: list[str], wildcards: dict[str, str]) -> dict:
    """A job as the logger plug-in stores it."""
    facts = {"event": "job_info", "rule": rule, "reason": reason, "input": inputs, "output": outputs, "threads": 1}
    return facts | {"wildcards": wildcards, "resources": {"tmpdir": "/tmp", "gpu": "1"}, "shellcmd": None}


# Snakemake 9.27's output in a dry run, shortened.
SEED2 = RUN.replace("seed0", "seed2")
DRY = [
    {"event": "workflow_started", "cwd": "/somewhere/else"},
    {"event": "run_info", "stats": {"train": 2, "calibrate": 1, "all": 1, "total": 4}},
    announced("train", CHANGED, SOURCE, [f"{RUN}/model.safetensors", f"{RUN}/train.json"], CNN),
    announced(
        "train",
        f"Missing output files: {SEED2}/train.json",
        SOURCE,
        [f"{SEED2}/model.safetensors", f"{SEED2}/train.json"],
        CNN | {"seed": "2"},
    ),
    announced(
        "calibrate",
        f"Missing output files: {RUN}/metrics.csv; Input files updated by another job: {RUN}/model.safetensors",
        [f"{RUN}/model.safetensors"],
        [f"{RUN}/metrics.csv"],
        CNN,
    ),
    announced(
        "all",
        f"Input files updated by another job: {RUN}/metrics.csv, {RUN}/train.json",
        [f"{RUN}/train.json", f"{RUN}/metrics.csv"],
        [],
        {},
    ),
]


def read(events: list[dict]) -> dry_run.Events:
    return read_events(map(json.dumps, events))


def write(path: Path, content: object = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def request(folder: Path, spec: object = NOW, code: object = None, path: str = REQUEST) -> None:
    """Write a current request."""
    write(folder / path, {"stage": "train", "spec": spec, "code": code or {"training/loop": OLD}})


def record(folder: Path, path: str = f"{RUN}/train.json", spec: object = BEFORE, code: object = None) -> None:
    """Write the record of an earlier result."""
    write(folder / path, {"stage": "train", "spec": spec, "code": code or {"training/loop": OLD}})


def cell(reason: str, rule: str = "train", folder: str = RUN) -> PlannedJob:
    """A job with two outputs in a cell's folder."""
    wildcards = {"dataset": "clean", "model": "cnn", "loss": "mixup2", "seed": "0"}
    return PlannedJob(rule, reason, (REQUEST,), (f"{folder}/a.csv", f"{folder}/b.csv"), wildcards)


def test_jobs_are_read_from_a_dry_run():
    events = read(DRY)
    jobs = events.jobs
    assert [job.name for job in jobs] == [
        "train clean/cnn/mixup2/seed0",
        "train clean/cnn/mixup2/seed2",
        "calibrate clean/cnn/mixup2/seed0",
    ]
    assert jobs[0].inputs == ("results/sources/digits/meta.json", REQUEST)
    assert jobs[0].outputs == (f"{RUN}/model.safetensors", f"{RUN}/train.json")
    assert jobs[0].reason == CHANGED
    assert str(events.folder) == "/somewhere/else"
    assert events.gathered == (f"{RUN}/train.json", f"{RUN}/metrics.csv")
    assert [dry_run.refuse(read(DRY[:count]), "is silent") for count in (1, 2, len(DRY))] == [0, 2, 0]
    assert read(DRY[:1]).jobs == ()


def test_a_report_tells_groups_and_totals(tmp_path):
    request(tmp_path)
    record(tmp_path)
    assert report(read(DRY).jobs, tmp_path) == [
        "train clean/cnn/mixup2/seed0: loss.alpha was the default and is now 0.5",
        "train clean/cnn/mixup2/seed2: it has never run",
        "calibrate clean/cnn/mixup2/seed0: it has never run",
        "3 jobs would run: 2 train, 1 calibrate",
    ]
    assert report([], tmp_path) == ["nothing would run: everything is up to date"]


def test_thousands_of_jobs_share_a_line_unless_each_is_asked_for(tmp_path):
    jobs = [
        PlannedJob("train", CHANGED, (REQUEST,), (f"{i}/a",), {"dataset": "clean", "loss": "mixup2", "seed": str(i)})
        for i in range(1000)
    ]
    request(tmp_path)
    for i in range(1000):
        record(tmp_path, f"{i}/a")
    lines = report(jobs, tmp_path)
    assert lines[0] == "train, 1,000 jobs (clean/mixup2/seed0, ...): loss.alpha was the default and is now 0.5"
    assert lines[1:] == ["1,000 jobs would run: 1000 train"]
    assert len(report(jobs, tmp_path, each=True)) == 1001


def test_figures_share_a_kind_though_each_has_a_rule(tmp_path):
    reason = "Input files updated by another job: results/tables/tiny/runs.parquet"
    made = PlannedJob(
        "aggregate", "Forced execution", (), ("results/tables/tiny/runs.parquet",), {"experiment": "tiny"}
    )
    figures = [
        PlannedJob(f"figure_{n}", reason, (), (f"results/figures/tiny/{n}.png",), {"experiment": "tiny"}) for n in "ab"
    ]
    for figure in figures:
        write(tmp_path / figure.outputs[0])
    write(tmp_path / made.outputs[0])
    assert report([*figures, made], tmp_path) == [
        "aggregate tiny: it is forced",
        "and 2 jobs downstream (`halobench why --each` lists them)",
        "3 jobs would run: 1 aggregate, 2 figure",
    ]
    assert report([*figures, made], tmp_path, each=True)[1:3] == [
        f"figure tiny/{n}: results/tables/tiny/runs.parquet will be rebuilt by aggregate" for n in "ab"
    ]


def test_reasons_are_told_apart():
    text = f"Missing output files: a, b; Updated input files: c; Code has changed since last execution; {CHANGED}"
    files = {dry_run.MISSING: ["a", "b"], dry_run.NEWER: ["c"], dry_run.CODE: [], dry_run.INPUTS: []}
    assert parse_reason(text) == files


LOSS = {"name": "mixup", "options": {"points": 3}}


@pytest.mark.parametrize(
    ("before", "now", "clauses"),
    [
        ({"train": {"lr": 0.1}}, {"train": {"lr": 0.2}}, ["train.lr was 0.1 and is now 0.2"]),
        ({"loss": LOSS}, {"loss": {"name": "mixup"}}, ["loss.points was 3 and is now the default"]),
        ({"loss": {"name": "mixup"}}, {"loss": LOSS}, ["loss.points was the default and is now 3"]),
        (
            {"loss": LOSS},
            {"loss": {"name": "focal", "options": {"gamma": 2}}},
            [
                "loss.gamma was absent and is now 2",
                'loss.name was "mixup" and is now "focal"',
                "loss.points was 3 and is now absent",
            ],
        ),
        (
            {"probes": {"a": {"kind": "a", "n": 1}, "b": {"kind": "b", "n": 1}}},
            {"probes": {"a": {"kind": "a", "n": 2}, "b": {"kind": "b", "n": 2}}},
            ["probes.a.n and probes.b.n were 1 and are now 2"],
        ),
        (
            {"train": {}},
            {"train": {"bf16": True, "amp": True}},
            ["train.amp and train.bf16 were the default and are now true"],
        ),
        (
            {"x": list(range(40))},
            {"x": []},
            ["x was [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1 ... 36, 37, 38, 39] and is now []"],
        ),
        ({"x": 1}, {"x": 1}, []),
    ],
)
def test_specs_are_compared_by_key(before, now, clauses):
    assert spec_changes(before, now) == clauses


@pytest.mark.parametrize(
    ("before", "now", "clauses"),
    [
        ({"losses/mixup": OLD, "x": OLD}, {"losses/mixup": NEW, "x": OLD}, "losses/mixup.py changed"),
        ({"mine:Loss": OLD}, {"mine:Loss": NEW}, "mine:Loss changed"),
        ({"a": OLD, "c": OLD}, {"b": OLD, "c": OLD}, "b.py is now used; a.py is no longer used"),
    ],
)
def test_code_is_compared_by_module(tmp_path, before, now, clauses):
    request(tmp_path, BEFORE, now)
    record(tmp_path, f"{RUN}/b.csv", BEFORE, before)
    assert explain(cell(CHANGED), {}, tmp_path) == clauses


def test_another_plugin_explains_its_other_code(tmp_path):
    request(tmp_path, {"loss": {"name": "b"}}, {"b": OLD})
    record(tmp_path, f"{RUN}/b.csv", {"loss": {"name": "a"}}, {"a": OLD})
    assert explain(cell(CHANGED), {}, tmp_path) == 'loss.name was "a" and is now "b"'


def test_a_request_newer_than_a_stale_record_is_explained_by_their_difference(tmp_path):
    request(tmp_path)
    record(tmp_path, f"{RUN}/b.csv")
    sentence = "loss.alpha was the default and is now 0.5"
    assert explain(cell(f"Updated input files: {REQUEST}"), {}, tmp_path) == sentence
    both = f"Updated input files: x.csv, {REQUEST}"
    assert explain(cell(both), {}, tmp_path) == f"x.csv changed after the outputs were made; {sentence}"


def test_outputs_are_missing_or_were_never_made(tmp_path):
    job = cell(f"Missing output files: {RUN}/b.csv, {RUN}/a.csv")
    assert explain(job, {}, tmp_path) == "it has never run"
    write(tmp_path / RUN / "b.csv")
    assert explain(job, {}, tmp_path) == "a.csv is missing"


def test_an_incomplete_job_is_not_called_forced(tmp_path):
    """A stage writes its record last, so a job without one is incomplete."""
    request(tmp_path, BEFORE)
    record(tmp_path, f"{RUN}/b.csv")
    assert explain(cell("Forced execution"), {}, tmp_path) == "it is forced"
    (tmp_path / RUN / "b.csv").unlink()
    assert explain(cell("Forced execution"), {}, tmp_path) == "it was left incomplete when it last ran"


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (f"Incomplete output files: {RUN}/a.csv", "it left a.csv incomplete"),
        ("Updated input files: workflow/claims.yaml", "workflow/claims.yaml changed after the outputs were made"),
        ("Code has changed since last execution", "the rule train itself changed"),
        ("Software environment definition has changed since last execution", "its software environment changed"),
        ("Set of input files has changed since last execution", "its list of inputs changed"),
        ("A reason of a later Snakemake", "A reason of a later Snakemake"),
        ("", "Snakemake gives no reason"),
    ],
)
def test_other_reasons_have_a_sentence_too(tmp_path, reason, sentence):
    assert explain(cell(reason), {}, tmp_path) == sentence


def test_earlier_jobs_are_named_or_counted(tmp_path):
    makers = {f"in/{i}": PlannedJob("train", "", (), (f"in/{i}",), {"seed": str(i)}) for i in range(5)}
    job = cell(f"Input files updated by another job: {', '.join(makers)}")
    assert explain(job, makers, tmp_path) == "5 inputs will be rebuilt by train (5 jobs)"
    one = cell("Input files updated by another job: in/3")
    assert explain(one, makers, tmp_path) == "in/3 will be rebuilt by train seed3"
    new = cell(f"Missing output files: {RUN}/a.csv; {one.reason}")
    assert explain(new, makers, tmp_path) == "it has never run"


def test_cells_that_came_and_went_are_named_by_folder(tmp_path):
    def listed(*paths: str) -> dict:
        return {"cells": [{"path": path} for path in paths], "references": []}

    asked = REQUEST.replace("train", "manifest")
    request(tmp_path, listed("a/seed0", "b/seed0"), path=asked)
    write(tmp_path / "out", listed("a/seed0", "a/seed1"))
    job = PlannedJob("manifest", f"{dry_run.INPUTS}; {dry_run.CODE}", (asked,), ("out",), {})
    assert explain(job, {}, tmp_path) == (
        "runs/b/seed0 was added to its inputs; runs/a/seed1 was dropped from its inputs;"
        " the rule manifest itself changed"
    )
