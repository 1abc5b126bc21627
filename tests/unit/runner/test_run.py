"""What a run has Snakemake force, by its targets, and the values given with `--config`."""

from __future__ import annotations

import pytest

from conftest import tiny_config
from halobench.experiment.config_loader import load_config
from halobench.experiment.jobs import jobs
from halobench.runner.rule_inputs import _holds
from halobench.runner.run import _needed

CELL = "clean/mlp/mixup2/seed0"


@pytest.mark.parametrize(
    ("targets", "stages"),
    [
        (["probes"], {"source", "train", "probe"}),
        (["trainings", "calibrations"], {"source", "train", "calibrate", "reference"}),
        ([f"./results/runs/{CELL}/metrics.csv"], {"source", "train", "calibrate"}),
        (["probes", "partial"], set()),
        (["results/figures/another/summary.png"], set()),
    ],
)
def test_targets_need_no_job_downstream(targets, stages):
    """None at all if a target isn't in the job list; Snakemake then decides."""
    needed = _needed(targets, jobs(load_config(tiny_config())), "results")
    assert {stage for stage, _ in needed} == stages


def test_a_target_needs_only_the_cells_that_it_is_made_from():
    needed = _needed([f"results/runs/{CELL}/metrics.csv"], jobs(load_config(tiny_config())), "results")
    assert {key for stage, key in needed if stage != "source"} == {CELL}
    assert len(_needed(["all"], jobs(load_config(tiny_config())), "results")) == len(jobs(load_config(tiny_config())))


def test_a_configuration_holds_what_was_given_within_a_section():
    config = {"train": {"lr": "0.01", "epochs": 3}, "run": ["demo"]}
    assert _holds(config, {"train": {"lr": "0.01"}})
    assert _holds(config, {"run": ["demo"], "train": {}})
    assert not _holds(config, {"train": {"lr": "0.1"}})
    assert not _holds(config, {"losses": {}})
