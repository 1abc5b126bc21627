"""Estimate how long jobs will take, from similar jobs that have run."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Any

from halobench.core.formatting import count, duration
from halobench.core.specs.codec import to_json
from halobench.experiment.jobs import Job
from halobench.storage.layout import QUICK, STAGES

UNCERTAIN = 2.5  # factor by which estimates without a similar job may be off, on either side


def estimate(jobs: Iterable[Job], done: Iterable[tuple[Job, float]]) -> str:
    """Return, in words, the time on one core that jobs will take; "" if nothing is known.

    `done` has jobs that have run, with their seconds. A job is expected to take as long as the most similar jobs did on
    average. Without a similar job, quick stages widen the time to a range, and sources, weights and jobs of slow stages
    are only counted.
    """
    seconds = _by_likeness(done)
    known, guessed, unknown = 0.0, 0.0, 0
    for job in jobs:
        if like := [key for key in _likeness(job) if key in seconds]:
            known += fmean(seconds[like[0]])
        elif STAGES[job.stage].slow or job.stage in ("source", "weights"):
            unknown += 1
        else:
            guessed += QUICK
    if not known + guessed:
        return ""
    ends = dict.fromkeys(duration(known + guessed * factor) for factor in (1 / UNCERTAIN, UNCERTAIN))
    rest = f", and {count(unknown, 'job')} of unknown length until a similar one has run" if unknown else ""
    return f"about {' to '.join(ends)} of computing on one core{rest}"


def _by_likeness(done: Iterable[tuple[Job, float]]) -> dict[tuple[Any, ...], list[float]]:
    """Return the seconds of jobs that have run, by the keys from `_likeness`."""
    seconds: dict[tuple[Any, ...], list[float]] = {}
    for job, took in done:
        for key in _likeness(job):
            seconds.setdefault(key, []).append(took)
    return seconds


def _likeness(job: Job) -> list[tuple[Any, ...]]:
    """Return the keys that a job may share with similar jobs, from the most similar to the least similar."""
    parts = [to_json(job.spec.get(part)) for part in ("model", "dataset")]
    return [(job.stage, *parts), (job.stage, parts[0]), (job.stage,)]
