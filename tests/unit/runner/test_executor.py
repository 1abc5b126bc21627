"""The SLURM executor: how it follows its jobs, and what it does when they, or it, can't go on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

pytest.importorskip("snakemake_executor_plugin_slurm")

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from halobench.runner import end_of_run, logs, slurm
from snakemake_executor_plugin_halobench_slurm import executor as plugin
from snakemake_executor_plugin_halobench_slurm.executor import SURE, Executor, note_end


class Job(SimpleNamespace):
    """One of Snakemake's jobs, as far as an executor needs it."""

    def __init__(self, output=()):
        super().__init__(name="train", output=output, log=[], resources={"gpu": 9, "runtime": 240}, is_local=False)

    def is_group(self):
        return False

    def log_error(self, msg=None, **details):
        self.said = msg


@pytest.fixture
def made(monkeypatch, tmp_path):
    """An executor with a scheduler that only lists what it is told; `looks` are squeue's answers."""
    made = Executor.__new__(Executor)
    told: dict[str, list] = {"done": [], "failed": [], "ended": []}
    scheduler = SimpleNamespace(
        finish_callback=told["done"].append,
        error_callback=told["failed"].append,
        exit_gracefully=lambda: told["ended"].append("the run"),
    )
    made.workflow = SimpleNamespace(
        scheduler=scheduler, executor_settings=SimpleNamespace(init_seconds_before_status_checks=600)
    )
    made.logger = SimpleNamespace(error=told.setdefault("said", []).append)
    made.run_uuid, made.over, made.doubts, made.started = "run-a", threading.Event(), Counter(), True
    made.problems, made.last_words, made.ran = set(), Counter(), False
    made.note = slurm.note(tmp_path / "notes", "run-a")
    made.told, made.looks, made.asked = told, [], []
    monkeypatch.setattr(slurm, "states", lambda run: made.looks.pop(0))
    monkeypatch.setattr(slurm, "ask", lambda *command: made.asked.append(command))
    return made


def look(made, jobs) -> list:
    """The jobs still active after a look at the queue."""

    async def once():
        return [job async for job in made.check_active_jobs(jobs)]

    with ThreadPoolExecutor(1) as thread:  # the main one may have a loop, as in browser tests
        return thread.submit(asyncio.run, once()).result()


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        (["PENDING", "RUNNING", "COMPLETING", "COMPLETED"], "done"),
        (["RUNNING", "FAILED"], "failed"),
        (["RUNNING", "PREEMPTED", "PREEMPTED", "PENDING", "PREEMPTED", "RUNNING", "COMPLETED"], "done"),
        (["PREEMPTED"] * SURE, "failed"),
        (["RUNNING", *["NODE_FAIL"] * SURE], "failed"),
        (["RUNNING", *[None] * SURE], "failed"),
    ],
)
@pytest.mark.parametrize("number", ["7", "7_3"])
def test_a_job_is_active_until_its_state_cannot_pass(made, states, outcome, number):
    job = SubmittedJobInfo(Job(["missing"]), external_jobid=number)
    for state in states[:-1]:
        made.looks = [{number: (state, "None")} if state else {"8": ("RUNNING", "None")}]
        assert look(made, [job]) == [job]
    made.looks = [{number: (states[-1], "None")} if states[-1] else {}]
    assert look(made, [job]) == []
    assert made.told == {"done": [], "failed": [], "ended": [], "said": []} | {outcome: [job.job]}


@pytest.mark.parametrize(
    ("state", "resources", "said"),
    [
        ("OUT_OF_MEMORY", {"mem_mb": 4000}, "SLURM job 7: OUT_OF_MEMORY, 4000 MiB requested; raise mem_mb"),
        ("TIMEOUT", {"runtime": 30}, "SLURM job 7: TIMEOUT, 30 min requested; raise runtime"),
        ("TIMEOUT", {}, "SLURM job 7: TIMEOUT; set runtime"),
        ("CANCELLED", {}, "SLURM job 7: CANCELLED"),
        ("FAILED", {}, "slurmstepd: error"),  # the stage's own log says why
    ],
)
def test_how_slurm_ended_a_job_is_the_reason_that_a_reader_sees(tmp_path, state, resources, said):
    job, log, own = Job(["missing"]), tmp_path / "7.log", tmp_path / "own.log"
    job.resources = resources
    log.write_text("slurmstepd: error\n")
    note_end(log, "7", state, job)
    own.write_text("$ halobench stage train\n")
    ended = logs.Job("train", "a/b/c/seed0", own, [], since=0.0)
    ended.end([str(log)])
    assert ended.reason == said
    assert ended.describe() == [f"  train a/b/c/seed0 ({own})", f"    {said}", f"    {log}"]
    own.write_text("loss is nan\n")
    ended.end([str(log)])
    assert ended.describe()[1:] == ["    loss is nan", f"    {log}: {said}"]


@pytest.mark.parametrize("works", [False, True])
def test_a_run_of_which_no_stage_can_start_ends_with_the_line_that_its_jobs_end_in(made, tmp_path, works):
    """Three times the same; if a stage of another job has started, the others may be a matter of these jobs alone."""
    log, own = tmp_path / "7.log", tmp_path / "own.log"
    log.write_text("Building DAG of jobs...\nThe configuration has problems:\ntrain.lr = 'fast': expected a number\n")
    jobs = [SubmittedJobInfo(Job(["missing"]), str(number), {"slurm_logfile": log}) for number in range(3)]
    other = SubmittedJobInfo(Job(["missing"]), "9")
    other.job.log = [own]
    if works:
        own.touch()
    for job in jobs:
        assert made.told["ended"] == []
        made.looks = [{job.external_jobid: ("FAILED", "None"), "9": ("RUNNING", "None")}]
        assert look(made, [job, other]) == [other]
    assert made.told["ended"] == ([] if works else ["the run"])
    assert [line.partition("change: ")[2] for line in made.told["said"]] == (
        [] if works else ["train.lr = 'fast': expected a number"]
    )
    assert made.asked == ([] if works else [("scancel", "--me", "--name=run-a")])


def test_a_forgotten_job_has_succeeded_if_it_made_its_files_in_this_run(made, tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    for path in (new, old):
        path.touch()
    os.utime(old, (1, 1))
    jobs = [SubmittedJobInfo(Job([new]), "1"), SubmittedJobInfo(Job([new, old]), "2")]
    made.looks = [{}] * SURE
    assert [look(made, jobs) for _ in range(SURE)] == [jobs] * (SURE - 1) + [[]]
    assert (made.told["done"], made.told["failed"]) == ([jobs[0].job], [jobs[1].job])


def test_without_an_answer_all_jobs_stay_active(made, monkeypatch):
    def silent(run):
        raise slurm.SlurmError("squeue: no response within 20 s")

    monkeypatch.setattr(slurm, "states", silent)
    jobs = [SubmittedJobInfo(Job(["missing"]), "1")]
    assert [look(made, jobs) for _ in range(2 * SURE)] == [jobs] * 2 * SURE


def test_arrays_that_would_hang_after_a_retry_are_refused(made):
    made.workflow.executor_settings.array_jobs = "train"
    made.workflow.execution_settings = SimpleNamespace(retries=2)
    with pytest.raises(WorkflowError, match=r"^--halobench-slurm-array-jobs: after a retry, .* --retries 0"):
        made.__post_init__()


REFUSAL = "SLURM sbatch failed. The error message was 'no such partition'.\n    sbatch call:\n        sbatch --wrap ..."
LINE = "train: gpu = 9, runtime = 240: SLURM sbatch failed. The error message was"


@pytest.mark.parametrize("started", [True, False])
def test_a_refused_job_ends_a_run_that_has_not_started(made, started):
    made.started = started
    job = SubmittedJobInfo(Job())
    made.report_job_error(job, REFUSAL)
    made.report_job_error(SubmittedJobInfo(other := Job()), REFUSAL)
    assert made.told["said"] == [f"{LINE} 'no such partition'."], "once"
    assert made.told["failed"] == [job.job, other]
    assert made.told["ended"] == ([] if started else ["the run"] * 2)
    assert made.asked == ([] if started else [("scancel", "--me", "--name=run-a")] * 2)


def test_a_job_that_would_wait_forever_is_cancelled(made):
    job = SubmittedJobInfo(Job(), "5")
    made.looks = [{"5": ("PENDING", "PartitionTimeLimit")}] * SURE
    assert [look(made, [job]) for _ in range(SURE)] == [[job]] * (SURE - 1) + [[]]
    assert made.asked == [("scancel", "5")]
    assert ": it would wait forever: PartitionTimeLimit" in made.told["said"][0]


def test_all_jobs_of_the_run_are_cancelled_before_and_after_the_last_submissions(made, monkeypatch):
    monkeypatch.setattr(Executor, "shutdown", lambda self: made.asked.append("shutdown"))
    made.cancel()
    assert made.asked == [("scancel", "--me", "--name=run-a"), "shutdown", ("scancel", "--me", "--name=run-a")]


def test_the_wait_between_two_looks_ends_with_the_run(made):
    made.over.set()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, made.sleep()).result(timeout=60)


def test_a_run_is_forgotten_once_none_of_its_jobs_is_left(made, monkeypatch, tmp_path):
    monkeypatch.setattr(plugin.SlurmExecutor, "shutdown", lambda self: None)
    monkeypatch.setattr(end_of_run, "_place", [tmp_path])
    folder = tmp_path / ".run"
    slurm.note(folder, "run-a")
    for left in ([slurm.QueuedJob("5", "COMPLETING", "train a", "node1")], []):
        monkeypatch.setattr(slurm, "queued", lambda runs, left=left: left)
        made.shutdown()
        assert slurm.noted(folder) == ["run-a"] * len(left)


def test_the_account_is_left_to_sbatch(made):
    job = Job()
    assert list(made.get_account_arg(job)) == [""]
    job.resources["slurm_account"] = "some one"
    assert list(made.get_account_arg(job)) == [" -A 'some one'"]


@pytest.mark.process
def test_snakemake_finds_the_plug_in_also_without_the_one_that_it_is_derived_from():
    code = (
        "import sys; sys.modules['snakemake_executor_plugin_slurm'] = None\n"
        "from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry\n"
        "import snakemake_executor_plugin_halobench_slurm as plugin\n"
        "ExecutorPluginRegistry.validate_plugin(object.__new__(ExecutorPluginRegistry), 'it', plugin)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
