"""Show a run as lines: one for each job that ends, messages as they arrive, and a summary at the end."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface

from halobench.core.formatting import count, duration
from halobench.runner import outcome
from halobench.runner.run import other_runs
from halobench.storage import job_logs

from .progress import Run, Started

# Snakemake's messages after the table of failed jobs, which add nothing new.
NO_NEWS = ("At least one job did not complete successfully.", "Exiting because a job execution failed.")
LOCKED = "That run writes some of the same files. Start this one again once it has ended."  # Snakemake says to unlock


class Lines:
    """Prints a line for each job that ends, as well as warnings and errors.

    Snakemake's messages without an event only matter if nothing is run, as with ``--unlock``, so they are held back
    until that is known. Snakemake's own log under ``.snakemake/log`` has all of them.
    """

    def __init__(self, settings: OutputSettingsLoggerInterface):
        quiet = {str(value).lower() for value in settings.quiet or ()}
        self.settings = settings
        self.quiet = bool(quiet & {"progress", "all"})  # Snakemake then doesn't report which jobs succeeded
        self.run = Run()
        self._started = self._complained = False
        self._held: list[str] = []  # messages before the start
        self._exceptions: list[str] = []  # of jobs, each received just before its job is reported as failed
        self._events: dict[Any, Callable[[Any], None]] = {
            LogEvent.WORKFLOW_STARTED: self._start,
            LogEvent.RUN_INFO: lambda record: self.run.plan(record.stats),
            LogEvent.JOB_INFO: self._begin,
            LogEvent.SHELLCMD: self._command,
            LogEvent.JOB_FINISHED: self._finish,
            LogEvent.JOB_ERROR: self._fail,
            LogEvent.GROUP_ERROR: lambda record: None,  # errors of its jobs follow
            LogEvent.ERROR: self._raise,
        }

    def say(self, text: str) -> None:
        """Print some lines."""
        print(text, file=sys.stderr, flush=True)

    def take(self, record: logging.LogRecord) -> None:
        """Show a record if it is worth showing."""
        event = getattr(record, "event", None)
        if event in self._events:
            self._events[event](record)
        elif record.levelno >= logging.WARNING or (self.settings.verbose and event is None):
            self._complained |= record.levelno >= logging.ERROR
            self._say_news(record.getMessage())
        elif event is None and not self._started:
            self._held.append(record.getMessage())

    def close(self) -> None:
        """Print the summary of the run."""
        for text in (*self._exceptions, *([] if self._started else self._held)):
            self.say(text)
        if not self._started:
            return
        if self.quiet:
            if self._complained:
                return  # the number of finished jobs isn't known, and failures have been shown
            for number in list(self.run.running):
                self.run.finish(number)
        done, total = self.run.done.total(), self.run.total.total()
        took = duration(time.time() - self.run.began)
        if not total:
            if not self._complained:
                self.say("Nothing to be done: all results are up to date.")
        elif not self.run.started:
            return  # refused before the first job, with its own message
        elif done == total:
            self.say(f"{count(done, 'job')} done in {took}.")
        else:
            lost = {"failed": len(self.run.failed), "stopped": len(self.run.stopped)}
            ends = "".join(f", {jobs:,} {how}" for how, jobs in lost.items() if jobs)
            self.say(f"{done:,} of {count(total, 'job')} done in {took}{ends}.")
        if done == total and (total or not self._complained):
            for line in outcome.summary(self.run.outputs):
                self.say(line)

    def _start(self, record: Any) -> None:
        self._started = True

    def _begin(self, record: Any) -> None:
        self.run.start(record)

    def _command(self, record: Any) -> None:
        if self.settings.printshellcmds and getattr(record, "shellcmd", None):
            self.say(record.shellcmd)

    def _finish(self, record: Any) -> None:
        if (finished := self.run.finish(record.job_id)) and not self.quiet:
            self.show_finished(*finished)

    def show_finished(self, started: Started, seconds: float) -> None:
        """Show that a job succeeded."""
        left = self.run.seconds_left()
        end = f"  about {duration(left)} left" if left else ""
        self.say(f"{self._count()} {started.job.name}  {duration(seconds)}{end}")

    def _fail(self, record: Any) -> None:
        lost = self.run.fail(record.jobid)
        exception = self._exceptions.pop(0) if self._exceptions else ""
        if lost is None:
            self.say(exception or record.getMessage())
            return
        started, reason = lost
        how = "failed" if record.jobid in self.run.failed else "stopped"
        took = duration(time.time() - started.since)
        self.say(f"{self._count()} {started.job.name}  {how} after {took}: {reason}")
        if reason == job_logs.SILENT and exception:
            self.say(exception)

    def _raise(self, record: Any) -> None:
        if record.exception == "RuleException":  # the job's log explains it better, and a retry may fix it
            self._exceptions.append(record.getMessage())
        else:
            self._complained = True
            locked = record.exception == "LockException" and other_runs(Path())[0]
            self._say_news(LOCKED if locked else record.getMessage())

    def _say_news(self, text: str) -> None:
        """Print a message from Snakemake, unless the table of failed jobs has already covered it."""
        if not any(sentence in text for sentence in NO_NEWS):
            self.say(text)

    def _count(self) -> str:
        """Format how many jobs are done, as in ``[ 12/299]``."""
        total = str(self.run.total.total())
        return f"[{self.run.done.total():>{len(total)}}/{total}]"
