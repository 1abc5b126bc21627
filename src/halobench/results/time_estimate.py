"""Estimate how long jobs will take, from similar jobs that have run or from a trial step of each model."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from halobench.core.formatting import count, duration
from halobench.core.specs.codec import parse, to_json
from halobench.core.specs.probe import ProbeSpec
from halobench.core.specs.training import TrainSpec
from halobench.experiment.jobs import Job
from halobench.storage.layout import QUICK, STAGES

Paces = Mapping[str, Sequence[float]]  # by `pace_key`: seconds per sample of a training step and of an evaluation
UNCERTAIN = 2.5  # factor by which estimates without a similar job may be off, on either side
PACED = ("train", "probe")  # stages whose time depends on the model's pace
GRADIENT = 3  # a step of an attack takes as long as so many evaluations


def pace_key(model: Any, source: str) -> str:
    """Return the key of a model's pace on a source's samples, from its canonical spec."""
    return f"{to_json(model)} {source}"


def estimate(jobs: Iterable[Job], done: Iterable[tuple[Job, float]], paces: Paces) -> str:
    """Return, in words, the time on one core that jobs will take; "" if nothing is known.

    `done` are jobs that have run, with their seconds. A job takes as long as the most similar of them, on average. If
    none has its model, the paces are used. Without a similar job, the time is a range.
    """
    seconds = _by_likeness(done)
    known, guessed, unknown, tried = 0.0, 0.0, 0, False
    for job in jobs:
        like = [key for key in _likeness(job) if key in seconds]
        trial = _by_pace(job, paces) if not any(len(key) > 1 for key in like) else None
        if trial is not None:
            guessed, tried = guessed + trial, True
        elif like:
            known += fmean(seconds[like[0]])
        elif STAGES[job.stage].slow or job.stage in ("source", "weights"):
            unknown += 1
        else:
            guessed += QUICK
    if not known + guessed:
        return ""
    ends = dict.fromkeys(duration(known + guessed * factor) for factor in (1 / UNCERTAIN, UNCERTAIN))
    rest = f", and {count(unknown, 'job')} of unknown length" if unknown else ""
    source = " by a trial of each model" if tried else ""
    return f"about {' to '.join(ends)} of computing on one core{source}{rest}"


def untried(jobs: Iterable[Job], done: Iterable[tuple[Job, float]]) -> list[str]:
    """Return the keys of the paces that `estimate` would use, those of different models first."""
    seconds = _by_likeness(done)
    models: dict[str, list[str]] = {}
    for job in jobs:
        if job.stage in PACED and not any(key in seconds for key in _likeness(job)[:2]):
            keys = models.setdefault(to_json(job.spec.get("model")), [])
            keys.append(_pace_key(job))
    rounds = itertools.zip_longest(*(dict.fromkeys(keys) for keys in models.values()))
    return [key for each in rounds for key in each if key]


def _by_likeness(done: Iterable[tuple[Job, float]]) -> dict[tuple[Any, ...], list[float]]:
    """Return the seconds of jobs that have run, by what they have in common with others."""
    seconds: dict[tuple[Any, ...], list[float]] = {}
    for job, took in done:
        for key in _likeness(job):
            seconds.setdefault(key, []).append(took)
    return seconds


def _likeness(job: Job) -> list[tuple[Any, ...]]:
    """Return what a job may have in common with others, from most to least similar."""
    parts = [to_json(job.spec.get(part)) for part in ("model", "dataset")]
    return [(job.stage, *parts), (job.stage, parts[0]), (job.stage,)]


def _pace_key(job: Job) -> str:
    return pace_key(job.spec.get("model"), job.spec.get("dataset", {}).get("source", ""))


def _by_pace(job: Job, paces: Paces) -> float | None:
    """Return the seconds of a job that trains or probes, by its model's pace; None for other jobs or without a pace.

    A model that wasn't tried on the job's source has its pace on another one.
    """
    if job.stage not in PACED:
        return None
    of_model = pace_key(job.spec.get("model"), "")
    like = [pace for key, pace in paces.items() if key.startswith(of_model)]
    if not like:
        return None
    step, evaluation = paces.get(_pace_key(job), like[0])
    dataset = job.spec.get("dataset", {})
    if job.stage == "train":
        splits = dataset["train"] + dataset["val"] + dataset["test"]
        return TrainSpec(**job.spec["train"]).epochs * dataset["train"] * step + splits * evaluation
    return evaluation * sum(_evaluations(parse(ProbeSpec, each)) for each in job.spec["probes"].values())


def _evaluations(probe: ProbeSpec) -> int:
    """Return about how many samples a probe evaluates."""
    visited = probe.points + probe.control
    if probe.searches:
        return visited * probe.restarts * probe.steps * GRADIENT
    return visited * probe.directions * (len(probe.radii) + len(probe.relative_radii) + 4 * probe.bisections)
