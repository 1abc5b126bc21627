"""Finding logs, and which parts of them are shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from halobench.cli.main import main
from halobench.runner import logs
from halobench.storage import job_logs

OWN = "$ halobench stage train\nepoch 1/3\nepoch 2/3\nepoch 3/3\nhalobench: error: d/m/l/seed0: loss is nan\n\n"


def write(path: Path, text: str, time: float = 1000.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time, time))
    return path


@pytest.mark.parametrize(
    ("text", "last", "before"),
    [
        (OWN, "d/m/l/seed0: loss is nan", ["epoch 2/3", "epoch 3/3"]),
        ("$ halobench stage probe\n", job_logs.SILENT, []),
        ("", job_logs.SILENT, []),
        ("$ halobench stage train\nepoch 1/3\n", "epoch 1/3", []),
        ("Traceback:\nKeyboardInterrupt\n", "stopped by SIGINT", ["Traceback:"]),
        ("halobench: error: killed by SIGINT\n", "stopped by SIGINT", []),
    ],
)
def test_last_lines(tmp_path, text, last, before):
    log = write(tmp_path / "x.log", text)
    assert (job_logs.last_line(log), job_logs.before_last(log)) == (last, before)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "Building DAG of jobs...\nslurmstepd-node1: error: *** JOB 5 ON node1 CANCELLED AT 2026-01-01T00:00:00"
            " DUE TO TIME LIMIT ***\nRuleException:\nWorkflowError: Failed\n",
            "slurmstepd-node1: error: *** JOB 5 ON node1 CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***",
        ),
        ("a\n/bin/sh: 3: /opt/python: not found\nb\n", "/bin/sh: 3: /opt/python: not found"),
        ("x\nModuleNotFoundError: No module named 'halobench'\n", "ModuleNotFoundError: No module named 'halobench'"),
        ("Finished jobid: 1\n1 of 1 steps (100%) done\n", ""),
        ("RuleException:\nCalledProcessError in file x, line 5:\nWorkflowError:\nAt least one job failed\n", ""),
    ],
)
def test_why_a_job_of_slurm_ended(tmp_path, text, why):
    assert job_logs.why_ended(write(tmp_path / "5.log", text)) == why


@pytest.fixture
def results(tmp_path) -> Path:
    """Logs of two cells, one of which SLURM ran twice; the first attempt has the higher job number."""
    results = tmp_path / "results"
    write(results / "logs/train/d/m/l/seed0.log", OWN)
    write(results / "logs/train/d/m/l/seed01.log", "$ halobench stage train\n")
    write(results / "logs/probe/d/m/l/seed0.log", "$ halobench stage probe\nwritten\n")
    write(results / "logs/slurm/rule_train/d_m_l_0/9.log", "slurmstepd: error: killed\n", 1.0)
    write(results / "logs/slurm/rule_train/d_m_l_0/10.log", "well\n", 2.0)
    write(results / "logs/slurm/rule_train/d_m_l_01/11.log", "another\n", 2.0)
    return results


def test_show_prints_the_logs_of_a_cell_that_failed_with_those_of_slurm(results, capsys):
    write(results.parent / ".snakemake/slurm_logs/rule_probe/d_m_l_0/12.log", "well\n")
    assert main(["show", "results/runs/d/m/l/seed0/", "--results", str(results)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"train: {results}/logs/train/d/m/l/seed0.log",
        *(f"    {line}" for line in ("epoch 2/3", "epoch 3/3", "d/m/l/seed0: loss is nan")),
        f"    {results}/logs/slurm/rule_train/d_m_l_0/9.log",
        "        slurmstepd: error: killed",
        f"    {results}/logs/slurm/rule_train/d_m_l_0/10.log",
        f"probe: {results}/logs/probe/d/m/l/seed0.log",
        "    written",
        f"    {results}/../.snakemake/slurm_logs/rule_probe/d_m_l_0/12.log",
    ]
    assert main(["show", "elsewhere", "--results", str(results)]) == 2
    assert "no `runs` folder" in capsys.readouterr().err


def test_jobs_of_a_group_and_jobs_that_ended_without_a_word(results):
    write(results / "logs/calibrate/d/m/l/seed0.log", "$ halobench stage calibrate\n")
    group = write(results / "logs/slurm/group_small_calibrate/30.log", "log: results/logs/calibrate/d/m/l/seed0.log\n")
    write(results / "logs/slurm/group_small_calibrate/31.log", "log: results/logs/calibrate/d/m/l/seed01.log\n")
    log = f"calibrate: {results}/logs/calibrate/d/m/l/seed0.log"
    assert logs.describe_logs(results, "d/m/l/seed0")[-3:] == [log, f"    {job_logs.SILENT}", f"    {group}"]
    write(results / "runs/d/m/l/seed0/calibrate.json", "{}")
    assert logs.describe_logs(results, "d/m/l/seed0")[-3:] == [log, f"    {job_logs.DONE}", f"    {group}"]
