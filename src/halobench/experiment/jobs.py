"""Build the job list: every job of a run's experiments, with its task and its record.

The workflow's rules, the status of results and the inventory of cells all use this list.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.core.specs.codec import to_json
from halobench.experiment.code_version import code_map
from halobench.experiment.figure_choice import QUESTIONS, captions, file_stem, tables_read
from halobench.experiment.grid import Config
from halobench.experiment.sections import Cell
from halobench.storage.layout import STAGES
from halobench.storage.request_diff import Request


@dataclass(frozen=True)
class Job:
    """A job: one run of a stage."""

    stage: str
    key: str  # identifies it among the jobs of its stage, e.g. clean/mlp/mixup2/seed0
    spec: Mapping[str, Any]  # its task
    plugins: tuple[tuple[str, str], ...] = ()  # (kind, name) of the plug-ins that it runs
    seed: int | None = None
    scope: str = ""  # partial/ for outputs from finished cells only
    needs: tuple[tuple[str, str], ...] = ()  # (stage, key) of the jobs whose outputs it reads

    @property
    def name(self) -> tuple[str, str]:
        return self.stage, self.key

    @property
    def request(self) -> Request:
        """Return the job's request, with the current code."""
        return Request(self.stage, self.spec, code_map(self.stage, self.plugins))

    @property
    def record(self) -> Path:
        return Path(self.scope) / STAGES[self.stage].record_path(self.key)

    @property
    def log(self) -> Path:
        return Path(self.scope) / "logs" / self.stage / f"{self.key}.log"

    @property
    def paths(self) -> list[str]:
        """Return the paths of the job's outputs and record, below the results folder."""
        return [f"{self.scope}{path}" for path in STAGES[self.stage].paths(self.key)]


def job_of(config: Config, stage: str, names: Mapping[str, Any]) -> Job:
    """Return the job of a stage that works on a source, model, cell or data set, given the wildcards of its rule."""
    declared, plain = STAGES[stage], {name: str(value) for name, value in names.items()}
    spec, plugins = config.task(stage, plain)
    needs = (need for source in declared.reads for need in _needs(config, source, plain))
    seed = int(names["seed"]) if "seed" in declared.names else None
    return Job(stage, declared.key.format_map(plain), spec, plugins, seed, needs=tuple(needs))


def _needs(config: Config, source: str, names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the names of the jobs of the stage `source` whose outputs a job with these wildcards reads."""
    if source == "source":
        return [(source, config.datasets[names["dataset"]].source)]
    if source == "weights":
        return _weights(config, names["model"])
    return [(source, STAGES[source].key.format_map(names))]


def _weights(config: Config, model: str) -> list[tuple[str, str]]:
    """Return a list with the name of the job that downloads or trains a model's given weights; [] if none does."""
    spec = config.models[model]
    if spec.pretrained:
        return [("weights", model)]
    path, place = os.path.normpath(spec.weights or ""), f"{os.path.normpath(config.results)}/runs/"
    trained_here = path.startswith(place) and path.endswith("/model.safetensors")
    return [("train", path.removeprefix(place).removesuffix("/model.safetensors"))] if trained_here else []


def cell_jobs(config: Config, cell: Cell, stages: Iterable[str]) -> list[Job]:
    """Return the jobs of a cell in its stages."""
    return [job_of(config, stage, vars(cell)) for stage in stages]


def manifest_job(config: Config, experiment: str) -> Job:
    """Return the job that lists the files of an experiment's cells."""
    cells = list_cells(experiment, config.stages(experiment), config.references(experiment))
    listed = STAGES["manifest"].reads
    needs = tuple(job.name for job in computed_jobs(config, experiment) if job.stage in listed)
    return Job("manifest", experiment, cells, needs=needs)


def drawn_jobs(config: Config, experiment: str, note: str = "", scope: str = "") -> list[Job]:
    """Return the jobs that produce an experiment's tables, figures and pages; `note` is a remark on missing cells."""
    shown = {"table": config.tables(experiment), "figure": config.figures(experiment)}
    overview = {"experiment": experiment, "note": note, "config": config.used(experiment)}
    overview |= {f"{stage}s": [file_stem(name) for name in names] for stage, names in shown.items()}
    overview["captions"] = hashlib.sha256(to_json(captions(overview)).encode()).hexdigest()[:16]
    specs: dict[str, Mapping[str, Any]] = {"aggregate": {"experiment": experiment}, "overview": overview}
    displays = [
        Job(
            stage,
            f"{experiment}/{file_stem(name)}",
            {stage: name, "note": note},
            ((f"{stage}s", name),),
            scope=scope,
            needs=tuple((source, experiment) for source in sources_of(f"{stage}s", name)),
        )
        for stage, names in shown.items()
        for name in names
    ]
    of_experiments = [
        Job(
            stage.name,
            experiment,
            specs.get(stage.name, {}),
            scope=scope,
            needs=tuple((s, experiment) for s in stage.reads),
        )
        for stage in STAGES.values()
        if stage.of == "experiment" and stage.name != "manifest"
    ]
    return [*of_experiments, *displays]


def sources_of(kind: str, name: str) -> list[str]:
    """Return the stages that write the tables which a figure or print table reads."""
    return ["aggregate", *(["claims"] if "claims" in tables_read(kind, name) else [])]


def front_figures(config: Config, experiment: str) -> list[str]:
    """Return the stems of an experiment's figures for the index page: those in `QUESTIONS` or else the first figure."""
    stems = [file_stem(name) for name in config.figures(experiment)]
    return [name for name in QUESTIONS if name in stems] or stems[:1]


def explorer_job(
    config: Config, experiments: Iterable[str], note: str | Mapping[str, str] = "", scope: str = ""
) -> Job:
    """Return the job that writes the pages about all experiments of a run; `note` may differ by experiment."""
    figures = {name: front_figures(config, name) for name in experiments}
    needs = tuple(
        job
        for name, shown in figures.items()
        for job in (("aggregate", name), ("claims", name), *(("figure", f"{name}/{figure}") for figure in shown))
    )
    spec = {"experiments": [*figures], "note": note, "figures": figures}
    return Job("explorer", "explorer", spec, scope=scope, needs=needs)


def computed_jobs(config: Config, experiment: str) -> list[Job]:
    """Return the jobs of an experiment's sources, published weights, cells and untrained references."""
    cells = config.stages(experiment)
    pretrained = sorted({cell.model for cell in cells if config.models[cell.model].pretrained})
    sources = sorted({config.datasets[cell.dataset].source for cell in cells})
    return [
        *(job_of(config, "source", {"source": source}) for source in sources),
        *(job_of(config, "weights", {"model": model}) for model in pretrained),
        *(job for cell, stages in cells.items() for job in cell_jobs(config, cell, stages)),
        *(job for dataset, seed in config.references(experiment) for job in reference_jobs(config, dataset, seed)),
    ]


def reference_jobs(config: Config, dataset: str, seed: int) -> list[Job]:
    """Return the jobs that work on a data set with a seed, without a model."""
    names = {"dataset": dataset, "seed": seed}
    return [job_of(config, stage.name, names) for stage in STAGES.values() if stage.of == "dataset"]


def jobs(config: Config, experiments: Iterable[str] | None = None) -> list[Job]:
    """Return all jobs of `experiments` (by default, the run's), once each, with the jobs that provide their weights."""
    listed: dict[tuple[str, str], Job] = {}
    for name in config.run if experiments is None else experiments:
        for job in (*computed_jobs(config, name), manifest_job(config, name), *drawn_jobs(config, name)):
            listed[job.name] = job
    cells = {cell.path: cell for name in config.experiments for cell in config.cells(name)}
    left = list(listed.values())
    while left:
        for stage, key in left.pop().needs:
            if (stage, key) not in listed and (stage == "source" or (stage == "train" and key in cells)):
                more = job_of(config, stage, vars(cells[key]) if stage == "train" else {"source": key})
                listed[more.name] = more
                left.append(more)
    return [*listed.values(), explorer_job(config, config.run)]


def list_cells(
    experiment: str, cells: Mapping[Cell, Iterable[str]], references: Iterable[tuple[str, int]]
) -> dict[str, Any]:
    """Return an experiment's cells, each with its stages, and its references, as plain data."""
    listed = [vars(cell) | {"path": cell.path, "stages": [*stages]} for cell, stages in cells.items()]
    scored = [{"dataset": dataset, "seed": seed, "path": f"{dataset}/seed{seed}"} for dataset, seed in references]
    return {"experiment": experiment, "cells": listed, "references": scored}
