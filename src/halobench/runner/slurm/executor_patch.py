"""What a run needs of the SLURM executor plugin that the plugin (2.8) lacks; it is changed in the master's process.

Asked by squeue, it waits for ever for a job that a more urgent one ended without putting it back into the queue, and
for one that squeue no longer knows. It looks at its jobs the more seldom the longer none has ended, up to every three
minutes, for which the GPU slot of a job that has ended stays empty. Without an account it takes that of the last job.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

SURE = 3  # looks in a row, after which a state that may be passing is believed


class Corrections:
    """States of jobs as squeue tells them, corrected where the plugin would wait for ever.

    Parameters
    ----------
    made : callable
        Whether all files of a job are there, by the job's number.
    """

    def __init__(self, is_made: Callable[[str], bool]):
        self.made = is_made
        self.doubted: Counter[str] = Counter()

    def corrected(self, states: Mapping[str, str], active: Iterable[str]) -> dict[str, str]:
        """Return the states of all jobs, those of `active` ones in doubt for `SURE` looks settled.

        A preempted job that isn't back in the queue was cancelled. One that squeue has forgotten has ended: well, if
        its files are there, which a stage writes under other names until it is done.
        """
        settled = dict(states)
        for job in active:
            self.doubted[job] = self.doubted[job] + 1 if states.get(job, "PREEMPTED") == "PREEMPTED" else 0
            if self.doubted[job] >= SURE:
                settled[job] = "COMPLETED" if job not in states and self.made(job) else "CANCELLED"
        return settled


def improve(executor: Any, seconds: int) -> None:
    """Let an executor of the plugin look at its jobs steadily, hang on none, and take no account that wasn't named.

    Parameters
    ----------
    executor : snakemake_executor_plugin_slurm.Executor
        Changed in place.
    seconds : int
        From one look at the queue to the next.
    """
    plugin: Any = sys.modules[type(executor).__module__]
    base: Any = type(executor)
    active: dict[str, Any] = {}
    corrections = Corrections(lambda job: all(Path(path).exists() for path in active[job].job.output))

    class Improved(base):
        @property
        def next_seconds_between_status_checks(self) -> int:
            return seconds

        @next_seconds_between_status_checks.setter
        def next_seconds_between_status_checks(self, value: int) -> None:
            pass

        async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncIterator[Any]:
            active.clear()
            active.update({str(job.external_jobid): job for job in active_jobs})
            async for job in super().check_active_jobs(active_jobs):
                yield job

    executor.__class__ = Improved
    executor._fallback_account_arg = ""  # sbatch then takes the user's default one
    query = plugin.query_job_status

    async def query_job_status(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        states, duration = await query(command, logger)
        if states is not None and command.lstrip().startswith("squeue"):
            states = corrections.corrected(states, list(active))
        return states, duration

    plugin.query_job_status = query_job_status
