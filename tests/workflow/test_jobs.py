"""The job list, by which results are judged as current, is what Snakemake would run."""

from __future__ import annotations

from conftest import Workspace, tiny_config
from halobench.experiment.config_loader import load_config
from halobench.experiment.jobs import jobs
from halobench.runner.logs import stage_of
from halobench.storage.layout import STAGES


def test_the_job_list_is_that_of_the_workflow(tmp_path):
    config = tiny_config()
    config["experiments"]["tiny"]["figures"] = ["all", "repair"]
    config["train"]["threads"] = 2
    workspace = Workspace(tmp_path, config)
    shown = workspace.jobs("-n", "--cores", "2")
    found = {frozenset(job.outputs) for job in shown}
    assert not (tmp_path / ".snakemake/halobench").exists(), "a dry run doesn't count as a run"
    listed = jobs(load_config(config))
    assert found == {frozenset(f"results/{path}" for path in job.paths) for job in listed}
    assert len(found) == len(listed)
    assert {job.stage for job in listed} == set(STAGES) - {"weights"}, "the tiny grid downloads no weights"
    for job in shown:  # rules are made in a loop, in which a function could take the stage of another
        stage = STAGES[stage_of(job.rule)]
        assert job.threads == (2 if stage.device else 1)
        assert ("gpu=" in job.resources) == stage.device
        if stage.name != "manifest":
            assert f"runtime={stage.minutes}, " in job.resources
            assert f"mem_mb={stage.memory}, " in job.resources
