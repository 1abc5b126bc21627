"""Define the executor; README.md explains how it differs from that of snakemake-executor-plugin-slurm (2.8)."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_executor_plugin_slurm import ExecutorSettings, common_settings
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from halobench.runner import slurm
from halobench.storage.job_logs import last_words
from halobench.storage.request_diff import is_or_are, listed

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

SURE = 3  # number of consecutive polls of the queue after which a state that might be temporary is believed
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"}
# Reasons why a job that sbatch has accepted stays pending until somebody changes it.
NEVER = {"PartitionTimeLimit", "PartitionNodeLimit", "BadConstraints", "AccountNotAllowed", "QOSNotAllowed"}
NEVER |= {"AssocMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit"}


def has_ended(state: str, reason: str) -> bool | None:
    """Return whether a job has ended; None if in doubt, as for a preempted job, which may return to the queue."""
    if state in ENDED:
        return True
    return False if state in slurm.ALIVE and reason not in NEVER else None


def note_end(log: Path, number: str, state: str, job: Any) -> None:
    """Note in a job's SLURM log how SLURM ended the job, unless the stage itself failed, as its own log says."""
    if state == "FAILED":
        return
    asked, more = {key: job.resources.get(key) for key in ("mem_mb", "runtime")}, ""
    if state == "OUT_OF_MEMORY":
        more = f", {asked['mem_mb']} MiB requested; raise mem_mb" if asked["mem_mb"] else "; set mem_mb"
    elif state == "TIMEOUT":
        more = f", {asked['runtime']} min requested; raise runtime" if asked["runtime"] else "; set runtime"
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(f"\nSLURM job {number}: {state}{more}\n")


class Executor(SlurmExecutor):
    """Submits jobs as the SLURM plug-in does, and follows them by their files and one squeue call per poll."""

    def __init__(self, workflow: Any, logger: Any):
        # The base class starts the thread that polls the queue before it calls __post_init__.
        self.over = threading.Event()
        self.doubts: Counter[str] = Counter()  # consecutive polls that left a job in doubt
        self.note: Path | None = None  # describes this run; older files aren't from its jobs
        self.started = False  # True once any job has started
        self.ran = False  # True once any job's stage has written to its log
        self.last_words: Counter[str] = Counter()  # of jobs that failed before their stages started
        self.problems: set[str] = set()  # already reported
        super().__init__(workflow, logger)

    def __post_init__(self) -> None:
        """Refuse arrays with retries, and refuse to start if SLURM is silent or jobs of an earlier run are left."""
        settings = self.workflow.executor_settings
        if settings.array_jobs and self.workflow.execution_settings.retries:
            what = "after a retry, the SLURM plug-in (2.8) waits forever for the rest of an array"
            raise WorkflowError(f"--halobench-slurm-array-jobs: {what}; leave it out, or pass --retries 0")
        settings.status_command = None  # only one command is supported, so the base class must not warn
        settings.pass_command_as_script |= bool(set("$`\\") & set(str(Path.cwd())))  # else shells interpret them
        super().__post_init__()
        others = slurm.noted(self.folder)
        try:
            left = slurm.queued([self.run_uuid, *others])
        except slurm.SlurmError as error:
            raise WorkflowError(
                f"the cluster doesn't respond ({error}); run this where SLURM's commands work"
            ) from None
        if left:
            noun, names = "job" if len(left) == 1 else "jobs", [str(job) for job in left]
            what = f"{noun} {listed(names)} of an earlier run {is_or_are(names)} still queued"
            how = f"`halobench run` waits for the end, or cancel with `scancel {' '.join(job.number for job in left)}`"
            raise WorkflowError(f"{what}; {how}")
        for run in others:
            slurm.forget(self.folder, run)

    @property
    def folder(self) -> Path:
        """Return the folder for notes on runs that submit jobs."""
        from halobench.runner import end_of_run, run_folder

        return run_folder.folder_of(end_of_run.place())

    def get_account_arg(self, job: Any) -> Iterator[str]:
        """Yield the option for the account, if requested; sbatch knows the default account and rejects a wrong one."""
        account = job.resources.get("slurm_account")
        yield f" -A {shlex.quote(str(account))}" if account else ""

    def run_jobs(self, jobs: list[Any]) -> None:
        """Submit jobs, or refuse the run's first jobs if a node doesn't see the working directory or Python."""
        if self.note is None and (problem := self.begin(jobs[0])):
            for job in jobs:
                self.refuse(SubmittedJobInfo(job), problem)
        else:
            super().run_jobs(jobs)

    def begin(self, job: Any) -> str:
        """Prepare for the first submission; return the reason why a node can't run jobs, or ``""``."""
        # Snakemake would let submitted jobs finish, however long they take.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        self.note = slurm.note(self.folder, self.run_uuid)
        return slurm.unseen(job, self.note)

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncIterator[Any]:
        """Report the jobs that have ended, and yield the others."""
        try:
            states = await asyncio.to_thread(slurm.states, self.run_uuid) if active_jobs else {}
        except slurm.SlurmError:  # ask again at the next poll
            for job in active_jobs:
                yield job
            return
        self.started |= any(state not in slurm.WAITING for state, _ in states.values())
        self.ran |= any(self.wrote(job.job) for job in active_jobs)
        for job in active_jobs:
            number = job.external_jobid
            state, reason = states.get(number, ("forgotten by squeue", ""))
            ended = has_ended(state, reason)
            self.doubts[number] = self.doubts[number] + 1 if ended is None else 0
            if ended is False or 0 < self.doubts[number] < SURE:
                yield job
            elif state == "COMPLETED" or (number not in states and self.has_files(job.job)):
                self.report_job_success(job)
            elif state in slurm.WAITING:
                self.cancel_jobs([job])
                self.refuse(job, f"it would wait forever: {reason}")
            else:
                logs = list(filter(None, [(job.aux or {}).get("slurm_logfile")]))
                for log in logs:
                    note_end(Path(log), number, state, job.job)
                if state == "FAILED" and not self.ran:
                    self.end_if_none_can_start([last_words(Path(log)) for log in logs])
                super().report_job_error(job, msg=f"SLURM job {number}: {state}. ", aux_logs=list(map(str, logs)))

    def is_of_this_run(self, path: Path) -> bool:
        """Return whether a file exists and was written in this run, by the clock of its file system."""
        return path.exists() and path.stat().st_mtime >= (self.note.stat().st_mtime if self.note else 0.0)

    def has_files(self, job: Any) -> bool:
        """Return whether all of a job's files were written in this run; a file gets its name once it is complete."""
        return all(self.is_of_this_run(Path(path)) for path in job.output)

    def wrote(self, job: Any) -> bool:
        """Return whether a job's stage has written to its log in this run; jobs in a group have no log of their own."""
        return job.is_group() or any(self.is_of_this_run(Path(path)) for path in job.log)

    def end_if_none_can_start(self, said: list[str]) -> None:
        """End the run if no stage has started yet and jobs have failed with the same last words `SURE` times."""
        for words in filter(None, said):
            self.last_words[words] += 1
            if self.last_words[words] == SURE:
                what = f"{SURE} jobs ended before their stages started, which no retry would change"
                self.logger.error(f"{what}: {words}")
                self.end()

    def end(self) -> None:
        """Cancel all jobs and end the run."""
        self.cancel_jobs([])
        # As Snakemake does on SIGTERM; the interface's executor_error_callback would forget running local jobs.
        self.workflow.scheduler.exit_gracefully()

    def report_job_error(self, job_info: Any, msg: str | None = None, **kwargs: Any) -> None:
        """Report a job that couldn't be submitted, without the text of sbatch's long command."""
        self.refuse(job_info, " ".join((msg or "").partition("\n    sbatch call:")[0].split()))

    def refuse(self, job: Any, why: str) -> None:
        """Report once why jobs with the same request can't run; end the run if none of its jobs has started yet."""
        problem = f"{job.job.name}: {slurm.asked(job.job)}: {why}"
        if problem not in self.problems:
            self.problems.add(problem)
            self.logger.error(problem)
        if not self.started:
            self.end()
        super().report_job_error(job, msg=problem)

    async def sleep(self) -> None:
        """Wait for the initial interval between two polls, or until the run is over, if that is sooner."""
        await asyncio.to_thread(self.over.wait, self.workflow.executor_settings.init_seconds_before_status_checks)

    def cancel_jobs(self, active_jobs: list[Any]) -> None:
        """Cancel `active_jobs` or, if the list is empty, all jobs of the run."""
        which = [job.external_jobid for job in active_jobs] or ["--me", f"--name={self.run_uuid}"]
        try:
            slurm.ask("scancel", *which)
        except slurm.SlurmError as error:
            self.logger.error(f"Jobs could not be cancelled: {error}")

    def cancel(self) -> None:
        """Cancel all of the run's jobs, including those that are being polled or submitted."""
        self.cancel_jobs([])
        self.shutdown()
        self.cancel_jobs([])

    def shutdown(self) -> None:
        """Stop polling, and forget the run unless some of its jobs are left; the next run then has to wait for them."""
        self.over.set()
        super().shutdown()
        try:
            if not slurm.queued([self.run_uuid]):
                slurm.forget(self.folder, self.run_uuid)
        except slurm.SlurmError as error:
            self.logger.warning(f"The next run will look for jobs that this one left: {error}")
