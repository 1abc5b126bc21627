"""The stage table: every stage appears wherever stages are listed."""

from __future__ import annotations

import dataclasses
import functools
import re
from types import SimpleNamespace

import pytest

from conftest import tiny_config
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.plugins.kinds import kinds
from halobench.experiment.config_loader import load_config
from halobench.experiment.grid import Config
from halobench.experiment.jobs import drawn_jobs, job_of, jobs
from halobench.runner import logs
from halobench.runner.stage_options import options_of
from halobench.storage import layout
from halobench.storage.layout import STAGES, Stage

WILDCARDS = {"dataset": "d", "model": "m", "loss": "l", "seed": 0, "source": "s", "experiment": "e", "name": "n"}


def key_of(stage: Stage) -> str:
    return stage.key.format(**WILDCARDS)


@pytest.fixture(params=STAGES)
def stage(request) -> Stage:
    return STAGES[request.param]


@pytest.mark.parametrize("scope", ["", "partial/"])
def test_a_job_of_any_stage_is_known_by_its_rule_and_its_log(stage, scope, tmp_path):
    log = tmp_path / scope / stage.log.format(**WILDCARDS)
    log.parent.mkdir(parents=True)
    log.write_text(f"$ halobench {stage.name}\nhalobench: error: no network\n")
    rule = f"hb_{stage.name}" + ("_summary" if stage.each else "")
    job = logs.Job.started(SimpleNamespace(rule_name=rule, log=[str(log)], wildcards={}, output=[], local=True))
    job.end([])
    assert (job.stage, job.key, job.reason) == (stage.name, key_of(stage), "no network")


def test_stages_come_in_an_order_in_which_each_reads_what_earlier_ones_write():
    names = list(STAGES)
    assert all(names.index(earlier) < names.index(name) for name, stage in STAGES.items() for earlier in stage.reads)


BAD = {
    "an unknown key": ({"wries": ["a.csv"]}, r"train\.py: STAGE\.wries = .*did you mean 'writes'"),
    "a record of its own": ({"record": "runs/{foo}/e.json"}, r"train\.py: STAGE\.record: follows from the file's name"),
    "a name of its own": ({"name": "other"}, r"train\.py: STAGE\.name: follows from the file's name"),
    "a text in place of a list": ({"writes": "a.csv"}, r"train\.py: STAGE\.writes = 'a\.csv': expected a list"),
    "a number in a list": ({"writes": ["a.csv", 3]}, r"train\.py: STAGE\.writes\[1\] = 3: expected a string"),
    "a text in place of files": (
        {"reads": {"source": "a.csv"}},
        r"train\.py: STAGE\.reads\.source = 'a\.csv': expected a list",
    ),
    "no memory": ({"memory": -5}, r"train\.py: STAGE\.memory = -5: expected at least 1"),
    "a wrong unit": ({"of": "cel"}, r"train\.py: STAGE\.of = 'cel': expected one of cell, .*did you mean 'cell'"),
    "no unit": ({"of": ""}, r"train\.py: STAGE: has no `of`; add it"),
    "files of nobody": ({"reads": {"sauce": ["a"]}}, r"stages\.train: reads files of 'sauce', which isn't a stage"),
    "a file that nobody writes": (
        {"reads": {"source": ["a.csv"]}},
        r"stages\.train: reads a\.csv, but source writes meta",
    ),
    "files of some cells only": (
        {"reads": {"probe": ["radii.parquet"]}},
        r"stages\.train: reads files of probe, which runs on some cells only; set its `cells` to 'probed', too",
    ),
    "a circle": (
        {"reads": {"calibrate": ["metrics.csv"]}},
        r"stages: what (train, calibrate|calibrate, train) reads is made from what it writes",
    ),
    "itself": ({"reads": {"train": ["history.csv"]}}, r"stages: what train reads is made from what it writes"),
    "no code": ({"code": []}, r"train\.py: STAGE: has no `code`; add it"),
    "code that isn't there": (
        {"code": ["training.cel"]},
        r"train\.py: STAGE\.code: names training\.cel, which isn't a module",
    ),
    "no output": ({"writes": []}, r"train\.py: STAGE: has no `writes`; add it"),
    **{
        f"the file {bad!r}": (
            {"writes": ["a.csv", bad]},
            rf"train\.py: STAGE\.writes = {re.escape(repr(bad))}: expected the name of a file",
        )
        for bad in ("train.json", "../a.csv", "a_{x}.csv", "{}.csv", "a", "", "a.csv")
    },
    "a file of another stage that it may write": (
        {"may_write": ["metrics.csv"]},
        r"stages\.(train|calibrate): (calibrate|train) writes metrics\.csv there, too",
    ),
    "files of cells, for a data set": (
        {"of": "dataset", "reads": {"calibrate": ["metrics.csv"]}},
        r"stages\.train: reads files of calibrate, one per dataset and loss and model and seed, which don't identify",
    ),
    "a path as a module": ({"code": ["training/train_cell"]}, r"STAGE\.code: names training/train_cell, which isn't a"),
    "a target of two words": ({"target": "all cells"}, r"STAGE\.target = 'all cells': expected lower-case letters"),
    "a file of another stage": (
        {"writes": ["model.safetensors", "logits.safetensors", "metrics.csv"]},
        r"stages\.train: calibrate writes metrics\.csv there, too; rename it|stages\.calibrate: train writes",
    ),
    "a target like a stage": (
        {"target": "calibrate"},
        r"stages\.train: target: a rule is named calibrate; choose another",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_declaration_is_named_when_it_is_read(case, monkeypatch):
    changes, told = BAD[case]
    found = plugins.find

    def find(kind: str, name: str) -> plugins.Plugin:
        plugin = found(kind, name)
        constants = {"STAGE": plugin.constants["STAGE"] | changes}
        return dataclasses.replace(plugin, constants=constants) if name == "train" else plugin

    monkeypatch.setattr(plugins, "find", find)
    with pytest.raises(SpecError, match=told):
        layout.in_order([*map(layout.declared, plugins.names("stages")), layout.MANIFEST])


@functools.cache
def grid() -> Config:
    """The tiny configuration with a model whose weights are downloaded."""
    raw = tiny_config()
    raw["models"]["resnet"] = {"name": "timm/resnet18", "pretrained": True}
    return load_config(raw)


def test_every_stage_has_its_job(stage):
    """`job_of` and the lists give it; tests/workflow/test_jobs.py compares them with what Snakemake would run."""
    names = {"dataset": "clean", "model": "mlp", "loss": "mixup2", "seed": "0", "source": "digits"}
    if stage.name in {job.stage for job in drawn_jobs(grid(), "tiny")} | {"manifest", "explorer"}:
        return
    names |= {"model": "resnet"} if stage.name == "weights" else {}
    job = job_of(grid(), stage.name, names)
    assert (job.stage, job.key) == (stage.name, stage.key.format(**names))


def test_jobs_need_jobs_of_the_list_that_write_what_their_stage_reads():
    listed = jobs(grid())
    names = {job.name for job in listed}
    for job in listed:
        assert set(job.needs) <= names
        assert {stage for stage, _ in job.needs} <= {
            *STAGES[job.stage].reads,
            *(["train"] if job.stage == "train" else []),
        }


def test_a_parameter_of_a_stage_that_is_no_option_is_named(monkeypatch):
    odd = dataclasses.replace(plugins.find("stages", "train"), options={"spec": ..., "bins": 3})
    monkeypatch.setattr(plugins, "find", lambda kind, name: odd)
    told = r"run in train\.py: has the parameters bins, which no rule knows; use some of spec"
    with pytest.raises(SpecError, match=told):
        options_of("train")


def test_a_file_of_a_stage_without_its_function_is_refused(tmp_path, monkeypatch):
    (tmp_path / "lost.py").write_text('STAGE = {"of": "cell"}\ndef rum():\n    pass\n')
    kind = dataclasses.replace(kinds()["stages"], file=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(plugins, "kinds", lambda: {"stages": kind})
    with pytest.raises(SpecError, match=r"lost\.py defines no function 'run', which makes it one of the stages"):
        layout.declared("lost")
