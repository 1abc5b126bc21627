"""The job list is what Snakemake runs: the same jobs, files and requests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from conftest import Workspace, tiny_config
from halobench.experiment.config_loader import load_config
from halobench.experiment.jobs import jobs
from halobench.runner.dry_run import request_of
from halobench.storage.layout import STAGES

pytestmark = pytest.mark.workflow


def test_the_job_list_is_that_of_the_workflow(tmp_path):
    config = tiny_config()
    config["experiments"]["tiny"]["figures"] = ["all", "repair"]
    workspace = Workspace(tmp_path, config)
    events = workspace.events("-n")
    assert events.code == 0, events.errors
    assert not (tmp_path / ".snakemake/halobench/runs").exists(), "a dry run doesn't count as a run"
    listed = jobs(load_config(config))
    assert Counter(job.stage for job in listed) == Counter(job.kind for job in events.jobs)
    planned = {job.outputs[-1]: job for job in events.jobs}
    for job in listed:
        ours = planned[f"results/{job.record}"]
        assert sorted(ours.outputs) == sorted(f"results/{path}" for path in job.paths)
        request = Path(request_of(ours))
        assert request.name == job.request.name
        assert (workspace.folder / request).is_file()
    assert {job.stage for job in listed} == set(STAGES) - {"weights"}, "the tiny grid downloads no weights"


def test_jobs_that_differ_in_their_seed_alone_share_a_request():
    trainings = [job for job in jobs(load_config(tiny_config())) if job.stage == "train"]
    assert len({job.request.name for job in trainings}) == len(trainings) // 2
