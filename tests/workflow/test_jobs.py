"""The job list is what Snakemake runs: the same jobs and files, written out in the rules."""

from __future__ import annotations

import pytest

from conftest import Workspace, tiny_config
from halobench.experiment.config_loader import load_config
from halobench.experiment.jobs import jobs
from halobench.storage.layout import STAGES

pytestmark = pytest.mark.workflow


def test_the_job_list_is_that_of_the_workflow(tmp_path):
    config = tiny_config()
    config["experiments"]["tiny"]["figures"] = ["all", "repair"]
    workspace = Workspace(tmp_path, config)
    found = {frozenset(job.outputs) for job in workspace.jobs("-n")}
    assert {path.name for path in tmp_path.iterdir()} == {
        "Snakefile",
        "config.yaml",
        "workflow",
        "profiles",
        ".snakemake",
    }
    assert not (tmp_path / ".snakemake/halobench").exists(), "a dry run doesn't count as a run"
    listed = jobs(load_config(config))
    assert found == {frozenset(f"results/{path}" for path in job.paths) for job in listed}
    assert len(found) == len(listed)
    assert {job.stage for job in listed} == set(STAGES) - {"weights"}, "the tiny grid downloads no weights"


def test_jobs_need_jobs_of_the_list_that_write_what_their_stage_reads():
    listed = jobs(load_config(tiny_config()))
    names = {job.name for job in listed}
    for job in listed:
        assert set(job.needs) <= names
        assert {stage for stage, _ in job.needs} <= set(STAGES[job.stage].needs)
