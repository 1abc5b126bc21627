"""The stage table: every stage appears wherever stages are listed."""

from __future__ import annotations

import functools
import re
from types import SimpleNamespace

import pytest

from conftest import ROOT, tiny_config
from halobench.core import plugins
from halobench.experiment.config_loader import load_config
from halobench.experiment.grid import Config
from halobench.experiment.jobs import drawn_jobs, job_of, jobs
from halobench.runner import logs
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


def test_every_stage_is_listed_everywhere(stage):
    rules = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert re.search(rf'f"{stage.name}_\{{\w+\}}"' if stage.each else rf"^rule {stage.name}:", rules, re.M)
    assert stage.name in plugins.names("stages") or stage.name == "manifest", "Snakemake itself writes manifests"


def test_stages_come_in_an_order_in_which_each_needs_earlier_ones_and_no_others_are_listed():
    names = list(STAGES)
    assert all(names.index(earlier) < names.index(name) for name, stage in STAGES.items() for earlier in stage.needs)


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
        assert {stage for stage, _ in job.needs} <= set(STAGES[job.stage].needs)
