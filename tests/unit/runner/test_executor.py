"""The changes to the SLURM executor plugin."""

from __future__ import annotations

import asyncio
import sys
import types
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from halobench.runner.slurm import executor_patch
from halobench.runner.slurm.executor_patch import SURE, corrected


def seen(*looks: dict[str, str], made: bool = True) -> list[str | None]:
    """The reported state of job 1 at each check."""
    doubted: Counter[str] = Counter()
    return [corrected(look, ["1"], doubted, lambda job: made).get("1") for look in looks]


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "COMPLETED", "FAILED", "NODE_FAIL", "COMPLETING"])
def test_other_states_are_told_as_they_are(state):
    assert seen(*[{"1": state}] * 5) == [state] * 5


def test_a_preempted_job_that_is_not_put_back_counts_as_cancelled():
    assert seen(*[{"1": "PREEMPTED"}] * (SURE + 1)) == ["PREEMPTED"] * (SURE - 1) + ["CANCELLED"] * 2
    looks = [{"1": "PREEMPTED"}] * (SURE - 1) + [{"1": "PENDING"}] + [{"1": "PREEMPTED"}] * (SURE - 1)
    assert "CANCELLED" not in seen(*looks)


@pytest.mark.parametrize(("made", "state"), [(True, "COMPLETED"), (False, "CANCELLED")])
def test_a_forgotten_job_has_ended_as_its_files_tell(made, state):
    told = seen({"1": "RUNNING"}, *[{"2": "RUNNING"}] * SURE, made=made)
    assert told == ["RUNNING", *[None] * (SURE - 1), state]


def test_jobs_that_are_not_active_are_left_alone():
    assert corrected({"7": "PREEMPTED"}, [], Counter(), lambda job: False) == {"7": "PREEMPTED"}


@pytest.fixture
def plugin(monkeypatch):
    """A module with an executor like the plugin's, which guesses an account."""
    module = types.ModuleType("stand_in_plugin")
    answers = []

    async def query_job_status(command, logger):
        return answers.pop(0), 0.01

    class Executor:
        _fallback_account_arg = None

        run_uuid = "run-a"

        def cancel(self):
            self.cancel_jobs([])  # as if all were being checked
            self.wait_thread.join()

        async def check_active_jobs(self, active_jobs):
            states, _ = await module.query_job_status(self.command, None)
            for job in active_jobs:
                if (states or {}).get(job.external_jobid) not in ("COMPLETED", "CANCELLED"):
                    yield job

    Executor.__module__ = module.__name__
    module.query_job_status, module.Executor, module.answers = query_job_status, Executor, answers
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def looks(made, jobs) -> list[str]:
    """The numbers of the jobs still active after a check."""

    async def look():
        return [job.external_jobid async for job in made.check_active_jobs(jobs)]

    with ThreadPoolExecutor(1) as thread:  # the main one may have a loop, as in browser tests
        return thread.submit(asyncio.run, look()).result()


@pytest.mark.parametrize("command", ["squeue --states=all", "sacct -X"])
def test_an_executor_is_improved(plugin, tmp_path, command):
    made = plugin.Executor()
    made.command = command
    executor_patch.improve(made, 20)
    assert made._fallback_account_arg == ""
    assert isinstance(made, plugin.Executor)
    (tmp_path / "there").touch()
    jobs = [
        SimpleNamespace(external_jobid=number, job=SimpleNamespace(output=[tmp_path / name]))
        for number, name in (("1", "there"), ("2", "missing"), ("3", "missing"))
    ]
    plugin.answers.extend([{"3": "RUNNING"}] * (SURE + 1) + [None])
    for _ in range(SURE - 1):
        assert looks(made, jobs) == ["1", "2", "3"]
    assert looks(made, jobs) == (["3"] if command.startswith("squeue") else ["1", "2", "3"])
    assert looks(made, jobs[2:]) == ["3"]
    assert looks(made, jobs[2:]) == ["3"], "no answer"


def test_all_jobs_of_the_run_are_cancelled_before_and_after_the_last_submissions(plugin, monkeypatch):
    made, asked, waited = plugin.Executor(), [], []
    made.wait_thread = SimpleNamespace(join=waited.append)
    executor_patch.improve(made, 20)
    monkeypatch.setattr(executor_patch, "ask", lambda *command: asked.append(command))
    made.cancel()
    assert asked == [("scancel", "--me", "--name=run-a")] * 2
    assert waited == [5], "no longer for the thread that looks"
