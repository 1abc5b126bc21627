"""Changes to the SLURM executor plugin (2.8), made in the process that submits jobs.

docs/slurm-plugin.md has a report on each defect; the change made for it will be removed once the plugin fixes it. Next
to each change is the name of the test in ``tests/cluster`` that needs it.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from halobench.runner.slurm.queue import ask

SURE = 3  # number of consecutive looks after which a possibly temporary state is believed


def corrected(
    states: Mapping[str, str], active: Iterable[str], doubted: Counter[str], has_files: Callable[[str], bool]
) -> dict[str, str]:
    """Return the states of jobs that squeue shows, settling those of `active` jobs that were in doubt for `SURE` looks.

    A preempted job that isn't back in the queue was cancelled (`test_preemption_that_cancels`). A job that squeue has
    forgotten has ended, and has succeeded if it `has_files`, since a stage writes its files under other names until it
    is done (`test_jobs_that_the_queue_forgot_are_known_by_their_files`). `doubted` counts the looks at each job.
    """
    settled = dict(states)
    for job in active:
        doubted[job] = doubted[job] + 1 if states.get(job, "PREEMPTED") == "PREEMPTED" else 0
        if doubted[job] >= SURE:
            settled[job] = "COMPLETED" if job not in states and has_files(job) else "CANCELLED"
    return settled


def improve(executor: Any, seconds: int) -> None:
    """Change one of the plugin's executors in place; it then looks at the queue every `seconds` seconds."""
    plugin: Any = sys.modules[type(executor).__module__]
    base: Any = type(executor)
    active: dict[str, Any] = {}
    doubted: Counter[str] = Counter()

    def has_files(job: str) -> bool:
        return all(Path(path).exists() for path in active[job].job.output)

    class Improved(base):
        async def sleep(self) -> None:
            # Look at a steady pace. The plugin slows down to once in three minutes, and the slots of finished jobs stay
            # empty between looks (test_a_master_stopped_while_it_looks_at_the_queue).
            await asyncio.sleep(seconds)

        async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncIterator[Any]:
            active.clear()
            active.update({str(job.external_jobid): job for job in active_jobs})
            async for job in super().check_active_jobs(active_jobs):
                yield job

        def cancel_jobs(self, active_jobs: list[Any]) -> None:
            # Cancel all of the run's jobs, since those being looked at aren't in `active_jobs`
            # (test_a_master_stopped_while_it_looks_at_the_queue).
            ask("scancel", "--me", f"--name={self.run_uuid}")

        def cancel(self) -> None:
            # The polling thread may be asleep until its next look (test_a_stopped_master_cancels_its_jobs_which_save).
            self.wait_thread.join = functools.partial(self.wait_thread.join, 5)
            super().cancel()
            self.cancel_jobs([])  # including those that were being submitted

    executor.__class__ = Improved
    executor._fallback_account_arg = ""  # no guess, and no three warnings about it (test_the_tiny_grid)
    query = plugin.query_job_status

    async def query_job_status(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        states, duration = await query(command, logger)
        if states is not None and command.startswith("squeue"):
            states = corrected(states, list(active), doubted, has_files)
        return states, duration

    plugin.query_job_status = query_job_status
