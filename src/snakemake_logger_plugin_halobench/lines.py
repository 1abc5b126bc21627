"""Show a run as lines of text: a line for each job that ends, messages as they arrive, and a final summary."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, defaultdict
from logging import ERROR, WARNING
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface

from halobench.core.formatting import count, duration
from halobench.runner import end_of_run
from halobench.runner.logs import Job, stage_of
from halobench.storage.job_logs import SILENT, STOPPED
from halobench.storage.layout import STAGES, TARGETS

IDLE = "Nothing to be done"  # Snakemake's message
GATHERING = {*TARGETS, "all", "partial", "total"}  # rules that only gather files, and Snakemake's total
# Snakemake's messages at the end of a run with failed jobs, which add nothing new.
NO_NEWS = ("At least one job did not complete successfully.", "Exiting because a job execution failed.")


class Lines:
    """Prints a line for each job that ends, and warnings and errors from Snakemake, whose log contains everything."""

    def __init__(self, settings: OutputSettingsLoggerInterface):
        self.settings = settings
        quiet = {str(value).lower() for value in settings.quiet or ()}
        self.quiet = bool(quiet & {"progress", "all"})  # if so, Snakemake doesn't report which jobs succeeded
        self.total, self.done = Counter[str](), Counter[str]()  # jobs by stage
        self.spent = defaultdict[str, float](float)  # seconds that finished jobs took, by stage
        self.running: dict[int, Job] = {}  # by Snakemake's job number
        self.failed: dict[int, Job] = {}  # failed or stopped, and not restarted
        self.outputs: list[str] = []  # of finished jobs
        self.began = time.time()
        self._started = self._idle = self._complained = False
        self._held: list[str] = []  # messages without an event, which matter only if nothing runs, as with --unlock
        self._exceptions: list[str] = []  # raised by jobs; each arrives just before its job is reported as failed
        self._slurm: dict[int, list[str]] = {}  # the logs of a group's jobs

    def say(self, text: str) -> None:
        """Print some lines."""
        print(text, file=sys.stderr, flush=True)

    def take(self, record: Any) -> None:
        """Note what a record says about jobs, and show the record if, e.g., a job has ended."""
        match getattr(record, "event", None):
            case LogEvent.WORKFLOW_STARTED:
                self._started = True
            case LogEvent.RUN_INFO:
                self.began = time.time()
                for rule in record.stats.keys() - GATHERING:
                    self.total[stage_of(rule)] += record.stats[rule]
            case LogEvent.JOB_INFO if record.rule_name not in GATHERING:
                self.failed.pop(record.jobid, None)
                self.running[record.jobid] = Job.started(record)
            case LogEvent.SHELLCMD if self.settings.printshellcmds and record.shellcmd:
                self.say(record.shellcmd)
            case LogEvent.JOB_FINISHED if job := self.running.get(record.job_id):
                self._finish(record.job_id)
                if not self.quiet:
                    self._tell(job, f"{duration(job.age)}{self._left()}")
            case LogEvent.GROUP_ERROR:  # errors of its jobs follow
                self._slurm |= {job["jobid"]: record.aux_logs for job in record.job_error_info}
            case LogEvent.JOB_ERROR:
                self._fail(record)
            case LogEvent.ERROR if record.exception == "RuleException":  # the job's log explains it better
                self._exceptions.append(record.getMessage())
            case event if record.levelno >= WARNING or (self.settings.verbose and event is None):
                self._pass_on(record)
            case None:
                self._held.append(record.getMessage())
                self._idle |= self._held[-1].startswith(IDLE)

    def _finish(self, number: int) -> None:
        job = self.running.pop(number)
        self.done[job.stage] += 1
        self.spent[job.stage] += job.age
        self.outputs += job.outputs

    def _fail(self, record: Any) -> None:
        exception = self._exceptions.pop(0) if self._exceptions else ""
        if job := self.running.pop(record.jobid, None):
            job.end([*record.log[1:], *self._slurm.get(record.jobid, ())])
            self.failed[record.jobid] = job
            self._tell(job, f"{job.state} after {duration(job.age)}: {job.reason}")
        if not job or (job.reason == SILENT and exception):
            self.say(exception or record.getMessage())

    def _pass_on(self, record: Any) -> None:
        """Print a message from Snakemake, unless it only says that jobs failed or were stopped."""
        text = record.getMessage()
        if not any(sentence in text for sentence in NO_NEWS):
            self._complained |= record.levelno >= ERROR
            self.say(text)

    def _tell(self, job: Job, what: str) -> None:
        """Print a line about a job that begins with the number of finished jobs, as in ``[ 12/299]``."""
        total = str(self.total.total())
        self.say(f"[{self.done.total():>{len(total)}}/{total}] {job.name}  {what}")

    def _left(self) -> str:
        """Return the time left, in words; "" until it can be estimated.

        The estimate assumes that a job takes the mean time of its stage's finished jobs, and that as many jobs run at
        once as so far. Of a stage without finished jobs nothing is known, so there is no estimate if one of its jobs
        runs or if it trains or probes; other jobs are quick, and don't count.
        """
        running, done, spent = list(self.running.values()), self.done.copy(), sum(self.spent.values())
        waiting = self.total - done - Counter(job.stage for job in [*running, *self.failed.values()])
        long = [stage.name for stage in STAGES.values() if stage.device and waiting[stage.name]]
        if not spent or any(stage not in done for stage in [*long, *(job.stage for job in running)]):
            return ""
        mean = {stage: self.spent[stage] / jobs for stage, jobs in done.items()}
        work = sum(jobs * mean.get(stage, 0.0) for stage, jobs in waiting.items())
        work += sum(max(mean[job.stage] - job.age, 0.0) for job in running)
        seconds = work * (time.time() - self.began) / (spent + sum(job.age for job in running))
        return f"  about {duration(seconds)} left" if seconds else ""

    def settle(self) -> None:
        """Decide the outcome of jobs whose end Snakemake hasn't reported."""
        for number, job in list(self.running.items()):
            if self.quiet and all(map(os.path.exists, job.outputs)):
                self._finish(number)
            else:  # cancelled with the run
                job.reason, self.failed[number] = STOPPED, self.running.pop(number)

    def close(self) -> None:
        """Show how the run ended."""
        self.settle()
        for text in (*self._exceptions, *(self._ending() if self._started else self._held)):
            self.say(text)

    def _ending(self) -> list[str]:
        done, total = self.done.total(), self.total.total()
        if self._idle:
            return [f"{IDLE}: all results are up to date.", *end_of_run.summary(())]
        took = f"{count(total, 'job')} done in {duration(time.time() - self.began)}"
        if done == total:
            return [f"{took}.", *end_of_run.summary(self.outputs)] if total else []
        if not self.failed and (self._complained or not done):
            return []  # refused or interrupted, with a message of its own
        failed = [job for job in self.failed.values() if job.state == "failed"]
        return end_of_run.unfinished(f"{done:,} of {took}", failed, len(self.failed) - len(failed))
