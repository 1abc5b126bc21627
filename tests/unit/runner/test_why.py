"""Reasons: parsed from what Snakemake really printed, and told in sentences."""

from __future__ import annotations

import json

import pytest

from halobench.runner import dry_run
from halobench.runner.dry_run import Job, Records, parse_params, parse_reason, read_events
from halobench.runner.forecast import explain as why
from halobench.runner.forecast.explain import explain, report, spec_changes

RUN = "results/runs/clean/cnn/mixup2/seed0"
SPECS = (
    '{"dataset":{"source":"digits","test":80,"train":100,"val":60},"loss":{"name":"mixup"},"model":{"name":"mlp"}}',
    '{"dataset":{"source":"digits","test":80,"train":100,"val":60},"loss":{"name":"mixup","options":{"alpha":0.5}},'
    '"model":{"name":"mlp"}}',
)
CHANGED = (
    "Params have changed since last execution: Union of exclusive params before and now across all output:"
    f" before: '{SPECS[0]}' now: '{SPECS[1]}' "
)

SOURCE = [f"results/sources/digits/{name}" for name in ("images.npy", "labels.npy", "meta.json")]
CNN = {"dataset": "clean", "model": "cnn", "loss": "mixup2", "seed": "0"}


def announced(rule: str, reason: str, inputs: list[str], outputs: list[str], wildcards: dict[str, str]) -> dict:
    """A job as the logger plug-in keeps it."""
    facts = {"event": "job_info", "rule": rule, "reason": reason, "input": inputs, "output": outputs, "threads": 1}
    return facts | {"wildcards": wildcards, "resources": {"tmpdir": "/tmp", "gpu": "1"}, "shellcmd": None}


# What Snakemake 9.27 said in a dry run, shortened.
SEED2 = RUN.replace("seed0", "seed2")
DRY = [
    {"event": "workflow_started", "cwd": "/somewhere/else"},
    {"event": "run_info", "stats": {"train": 2, "calibrate": 1, "all": 1, "total": 4}},
    announced("train", f"{CHANGED}", SOURCE, [f"{RUN}/model.safetensors", f"{RUN}/train.json"], CNN),
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


def noted(folder, subject: str, path: str, inputs: tuple[str, ...] = ()) -> None:
    """Note a file as Snakemake does."""
    note = Records(folder)._path(subject, path)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"input": inputs}))


def cell(reason: str, rule: str = "train", folder: str = RUN) -> Job:
    """A job with two outputs in a cell's folder."""
    wildcards = {"dataset": "clean", "model": "cnn", "loss": "mixup2", "seed": "0"}
    return Job(rule, reason, (), (f"{folder}/a.csv", f"{folder}/b.csv"), wildcards)


def test_jobs_are_read_from_a_dry_run():
    events = read(DRY)
    jobs = events.jobs
    assert [job.name for job in jobs] == [
        "train clean/cnn/mixup2/seed0",
        "train clean/cnn/mixup2/seed2",
        "calibrate clean/cnn/mixup2/seed0",
    ]
    assert jobs[0].inputs[2] == "results/sources/digits/meta.json"
    assert jobs[0].outputs == (f"{RUN}/model.safetensors", f"{RUN}/train.json")
    assert jobs[0].reason == CHANGED.rstrip()
    assert str(events.folder) == "/somewhere/else"
    assert events.gathered == (f"{RUN}/train.json", f"{RUN}/metrics.csv")
    assert not events.silenced
    assert read(DRY[:2]).silenced
    assert read(DRY[:1]).jobs == ()
    assert not read(DRY[:1]).silenced


def test_a_report_tells_groups_and_totals(tmp_path):
    noted(tmp_path, "metadata", f"{RUN}/metrics.csv")
    assert report(read(DRY).jobs, Records(tmp_path)) == [
        "train clean/cnn/mixup2/seed0: loss.alpha is 0.5 instead of its default",
        "train clean/cnn/mixup2/seed2: it has never run",
        "calibrate clean/cnn/mixup2/seed0: metrics.csv is missing; model.safetensors will be made anew by train",
        "3 jobs would run: 2 train, 1 calibrate",
    ]
    assert report([], Records(tmp_path)) == ["nothing would run: everything is up to date"]


def test_thousands_of_jobs_share_a_line_unless_each_is_asked_for(tmp_path):
    jobs = [
        Job("train", CHANGED, (), (f"{i}/a",), {"dataset": "clean", "loss": "mixup2", "seed": str(i)})
        for i in range(1000)
    ]
    lines = report(jobs, Records(tmp_path))
    assert lines[0] == "train, 1000 jobs (clean/mixup2/seed0, ...): loss.alpha is 0.5 instead of its default"
    assert lines[1:] == ["1000 jobs would run: 1000 train"]
    assert len(report(jobs, Records(tmp_path), each=True)) == 1001


def test_figures_share_a_kind_though_each_has_a_rule(tmp_path):
    reason = "Input files updated by another job: results/tables/tiny/runs.parquet"
    made = Job("aggregate", "Forced execution", (), ("results/tables/tiny/runs.parquet",), {"experiment": "tiny"})
    figures = [Job(f"figure_{n}", reason, (), (f"results/figures/tiny/{n}.png",), {"experiment": "tiny"}) for n in "ab"]
    for figure in figures:
        noted(tmp_path, "metadata", figure.outputs[0])
    assert report([*figures, made], Records(tmp_path)) == [
        "aggregate tiny: it is forced",
        "figure, 2 jobs (tiny/a, tiny/b): results/tables/tiny/runs.parquet will be made anew by aggregate",
        "3 jobs would run: 1 aggregate, 2 figure",
    ]


def test_reasons_are_told_apart():
    text = f"Missing output files: a, b; Updated input files: c; Code has changed since last execution; {CHANGED}"
    assert list(parse_reason(text)) == [dry_run.MISSING, dry_run.NEWER, dry_run.CODE, dry_run.PARAMS]
    assert parse_reason(text)[dry_run.MISSING] == "a, b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("before: '{\"a\":1}' now: '{\"a\":2}' ", ([{"a": 1}], [{"a": 2}])),
        (r"""before: "it's; now: 'x'" now: 'a\'b,c' """, (["it's; now: 'x'"], ["a'b,c"])),
        ("before: <nothing exclusive> now: '{\"a\":2}','radii' ", ([], ["radii", {"a": 2}])),
        ("before: <nothing exclusive> now: <nothing exclusive> ", ([], [])),
        ("something else", ([], [])),
    ],
)
def test_params_are_read_as_snakemake_writes_them(text, expected):
    assert parse_params(f"Union of exclusive params before and now across all output: {text}") == expected


LOSS = {"name": "mixup", "options": {"points": 3}}


@pytest.mark.parametrize(
    ("before", "now", "clauses"),
    [
        ({"train": {"lr": 0.1}}, {"train": {"lr": 0.2}}, ["train.lr was 0.1 and is 0.2"]),
        ({"loss": LOSS}, {"loss": {"name": "mixup"}}, ["loss.points was 3 and is its default again"]),
        ({"loss": {"name": "mixup"}}, {"loss": LOSS}, ["loss.points is 3 instead of its default"]),
        (
            {"loss": LOSS},
            {"loss": {"name": "focal", "options": {"gamma": 2}}},
            ["loss.gamma is 2", 'loss.name was "mixup" and is "focal"', "loss.points was 3 and is gone"],
        ),
        (
            {"probes": {"a": {"kind": "a", "n": 1}, "b": {"kind": "b", "n": 1}}},
            {"probes": {"a": {"kind": "a", "n": 2}, "b": {"kind": "b", "n": 2}}},
            ["probes.a.n and probes.b.n were 1 and are 2"],
        ),
        ({"train": {}}, {"train": {"bf16": True, "amp": True}}, ["train.amp and train.bf16 are true instead of their"]),
        (
            {"x": list(range(40))},
            {"x": []},
            ["x was [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1 ... 36, 37, 38, 39] and is []"],
        ),
        ({"x": 1}, {"x": 1}, []),
    ],
)
def test_specs_are_compared_by_key(before, now, clauses):
    found = spec_changes(before, now)
    assert len(found) == len(clauses)
    assert all(line.startswith(clause) for line, clause in zip(found, clauses, strict=True)), found


OLD, NEW = "0" * 16, "f" * 16


@pytest.mark.parametrize(
    ("before", "now", "clauses"),
    [
        (
            [{"losses/mixup": OLD, "training/loop": OLD}],
            [{"losses/mixup": NEW, "training/loop": OLD}],
            ["losses/mixup.py changed"],
        ),
        ([{"mine:Loss": OLD}], [{"mine:Loss": NEW}], ["mine:Loss changed"]),
        ([{"a": OLD, "c": OLD}], [{"b": OLD, "c": OLD}], ["b.py is used now", "a.py is no longer used"]),
        (
            [{"a": OLD}, {"loss": {"name": "a"}}],
            [{"b": OLD}, {"loss": {"name": "b"}}],
            ['loss.name was "a" and is "b"'],
        ),
        (["0123456789abcdef"], ["fedcba9876543210"], ["its list of cells changed"]),
        ([], [], ["its parameters changed"]),
    ],
)
def test_params_are_told_as_keys_and_modules(before, now, clauses):
    assert why.param_changes(before, now) == clauses


def test_outputs_are_missing_or_were_never_made(tmp_path):
    job = cell(f"Missing output files: {RUN}/b.csv, {RUN}/a.csv")
    assert explain(job, {}, Records(tmp_path)) == "it has never run"
    noted(tmp_path, "metadata", f"{RUN}/b.csv")
    assert explain(job, {}, Records(tmp_path)) == "b.csv is missing; a.csv is not made yet"
    noted(tmp_path, "metadata", f"{RUN}/a.csv")
    assert explain(job, {}, Records(tmp_path)) == "a.csv and b.csv are missing"


def test_a_file_counts_as_made_where_the_notes_are_gone(tmp_path):
    (tmp_path / RUN).mkdir(parents=True)
    (tmp_path / RUN / "a.csv").touch()
    job = cell(f"Missing output files: {RUN}/b.csv")
    assert explain(job, {}, Records(tmp_path)) == "b.csv is not made yet"


def test_an_incomplete_job_is_not_called_forced(tmp_path):
    assert explain(cell("Forced execution"), {}, Records(tmp_path)) == "it is forced"
    noted(tmp_path, "incomplete", f"{RUN}/b.csv")
    assert explain(cell("Forced execution"), {}, Records(tmp_path)) == "it was left incomplete when it last ran"


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (f"Incomplete output files: {RUN}/a.csv", "a.csv was left incomplete"),
        ("Updated input files: workflow/claims.yaml", "workflow/claims.yaml changed after the outputs were made"),
        ("Code has changed since last execution", "the rule train itself changed"),
        ("Software environment definition has changed since last execution", "its software environment changed"),
        ("Set of input files has changed since last execution", "its list of inputs changed"),
        ("A reason of a later Snakemake", "A reason of a later Snakemake"),
        ("", "Snakemake gives no reason"),
    ],
)
def test_other_reasons_have_a_sentence_too(tmp_path, reason, sentence):
    assert explain(cell(reason), {}, Records(tmp_path)) == sentence


def test_earlier_jobs_are_named_or_counted(tmp_path):
    makers = {f"in/{i}": Job("train", "", (), (f"in/{i}",), {"seed": str(i)}) for i in range(5)}
    job = cell(f"Input files updated by another job: {', '.join(makers)}")
    assert explain(job, makers, Records(tmp_path)) == "5 inputs will be made anew by train (5 jobs)"
    one = cell("Input files updated by another job: in/3")
    assert explain(one, makers, Records(tmp_path)) == "in/3 will be made anew by train seed3"
    new = cell(f"Missing output files: {RUN}/a.csv; {one.reason}")
    assert explain(new, makers, Records(tmp_path)) == "it has never run"


def test_inputs_that_came_and_went_are_told_by_folder(tmp_path):
    noted(tmp_path, "metadata", "out", ("results/runs/a/seed0/x", "results/runs/a/seed1/x", "results/runs/a/seed1/y"))
    job = Job(
        "manifest",
        f"{dry_run.INPUTS}; {dry_run.CODE}",
        ("results/runs/a/seed0/x", "results/runs/b/seed0/x"),
        ("out",),
        {},
    )
    assert explain(job, {}, Records(tmp_path)) == (
        "runs/b/seed0 was added to its inputs; runs/a/seed1 was dropped from its inputs;"
        " the rule manifest itself changed"
    )


def test_long_paths_are_noted_in_folders(tmp_path):
    """Base64 of 600 characters is cut in three, as Snakemake does."""
    path = Records(tmp_path)._path("metadata", "a" * 450)
    parts = path.relative_to(tmp_path / ".snakemake/metadata").parts
    assert [len(part) for part in parts] == [255, 255, 92]
    assert [part[0] == "@" for part in parts] == [True, True, False]
