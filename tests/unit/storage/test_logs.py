"""Finding logs, and which parts of them are shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from halobench.cli.main import main
from halobench.runner import logs
from halobench.storage import job_logs

OWN = "$ halobench train --spec '{}'\nepoch 1/3\nepoch 2/3\nepoch 3/3\nhalobench: error: d/m/l/seed0: loss is nan\n\n"


def write(path: Path, text: str, time: float = 1000.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time, time))
    return path


@pytest.mark.parametrize(
    ("text", "last", "before"),
    [
        (OWN, "d/m/l/seed0: loss is nan", ["epoch 2/3", "epoch 3/3"]),
        ("$ halobench probe\n", job_logs.SILENT, []),
        ("", job_logs.SILENT, []),
        ("$ halobench train\nepoch 1/3\n", "epoch 1/3", []),
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
    write(results / "logs/train/d/m/l/seed01.log", "$ halobench train\n")
    write(results / "logs/probe/d/m/l/seed0.log", "$ halobench probe\nwritten\n")
    write(results / "logs/slurm/rule_train/d_m_l_0/9.log", "slurmstepd: error: killed\n", 1.0)
    write(results / "logs/slurm/rule_train/d_m_l_0/10.log", "well\n", 2.0)
    write(results / "logs/slurm/rule_train/d_m_l_01/11.log", "another\n", 2.0)
    return results


def test_a_cells_logs_are_found_with_those_of_slurm(results):
    found = list(logs.find(results, "d/m/l/seed0/"))
    assert [(job.stage, job.name) for job in found] == [("train", "d/m/l/seed0"), ("probe", "d/m/l/seed0")]
    assert [path.name for path in found[0].slurm] == ["9.log", "10.log"]
    assert found[1].slurm == ()
    for name in ("d_m_l_0", "results/runs/d/m/l/seed0/", "9", "./results/runs/d/m/l/seed0/"):
        assert {job.name for job in logs.find(results, name)} == {"d/m/l/seed0"}, name
    assert [job.name for job in logs.find(results, "l/seed0")] == ["d/m/l/seed0", "d/m/l/seed01", "d/m/l/seed0"]
    text = logs.describe_logs(found[0])
    assert text.splitlines() == [
        "train d/m/l/seed0",
        f"  {results}/logs/train/d/m/l/seed0.log",
        *(f"    {line}" for line in ("epoch 2/3", "epoch 3/3", "d/m/l/seed0: loss is nan")),
        f"  {results}/logs/slurm/rule_train/d_m_l_0/9.log",
        "    slurmstepd: error: killed",
        f"  {results}/logs/slurm/rule_train/d_m_l_0/10.log",
    ]


def test_jobs_of_a_group_and_jobs_that_ended_without_a_word(results):
    write(results / "logs/calibrate/d/m/l/seed0.log", "$ halobench calibrate\n")
    group = write(results / "logs/slurm/group_small_calibrate/30.log", "log: results/logs/calibrate/d/m/l/seed0.log\n")
    write(results / "logs/slurm/group_small_calibrate/31.log", "log: results/logs/calibrate/d/m/l/seed01.log\n")
    (job,) = [job for job in logs.find(results, "d/m/l/seed0/") if job.stage == "calibrate"]
    assert job.slurm == (group,)
    assert job_logs.SILENT in logs.describe_logs(job)
    write(results / "runs/d/m/l/seed0/calibrate.json", "{}")
    (job,) = [job for job in logs.find(results, "d/m/l/seed0/") if job.stage == "calibrate"]
    assert job.ended
    assert job_logs.DONE in logs.describe_logs(job)
    assert job_logs.SILENT not in logs.describe_logs(job)


def test_the_command_shows_them(results, monkeypatch, capsys):
    monkeypatch.chdir(results.parent)
    write(results.parent / ".snakemake/slurm_logs/rule_probe/d_m_l_0/12.log", "well\n")
    assert main(["logs", "d/m/l/seed0/"]) == 0
    said = capsys.readouterr().out
    assert "rule_probe/d_m_l_0/12.log" in said
    assert said.index("train d/m/l/seed0") < said.index("d_m_l_0/9.log") < said.index("probe d/m/l/seed0")
    assert main(["logs", "elsewhere"]) == 1
    assert "no logs of jobs named elsewhere in results/logs" in capsys.readouterr().out
    assert main(["logs", "seed0", "--results", str(results / "nowhere")]) == 1
