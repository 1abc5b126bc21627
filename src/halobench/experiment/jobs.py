"""Build the job list: every job of a run's experiments, with its task and its record.

The workflow's rules, the status of results and the inventory of cells all use this list.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Iterable, Mapping
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
        """The job's request, with the current code."""
        return Request(self.stage, self.spec, code_map(self.stage, self.plugins))

    @property
    def record(self) -> Path:
        return Path(self.scope) / STAGES[self.stage].record_path(self.key)

    @property
    def log(self) -> Path:
        return Path(self.scope) / "logs" / self.stage / f"{self.key}.log"

    @property
    def paths(self) -> list[str]:
        """The paths of the job's outputs and record, below the results folder."""
        return [f"{self.scope}{path}" for path in STAGES[self.stage].paths(self.key)]


def source_job(config: Config, source: str) -> Job:
    return Job("source", source, config.source_spec(source), (("data", config.sources[source].loader),))


def weights_job(config: Config, model: str) -> Job:
    """Return the job that downloads or copies the weights of a pretrained model."""
    return Job("weights", model, config.weights_spec(model))


def train_job(config: Config, cell: Cell) -> Job:
    names = (cell.dataset, cell.model, cell.loss)
    plugins = tuple(config.train_plugins(*names))
    needs = (_source(config, cell.dataset), *_weights(config, cell.model))
    return Job("train", cell.path, config.train_spec(*names), plugins, cell.seed, needs=needs)


def probe_job(config: Config, cell: Cell) -> Job:
    names = (cell.dataset, cell.model)
    plugins = tuple(config.probe_plugins(*names))
    needs = (_source(config, cell.dataset), ("train", cell.path))
    return Job("probe", cell.path, config.probe_spec(*names), plugins, cell.seed, needs=needs)


def calibrate_job(config: Config, cell: Cell) -> Job:
    plugins = tuple(config.calibrate.plugged)
    return Job("calibrate", cell.path, config.calibrate_spec(), plugins, cell.seed, needs=(("train", cell.path),))


def repair_job(config: Config, cell: Cell) -> Job:
    """Return the job that computes a cell's repair ladder."""
    plugins = tuple(config.repair_plugins(cell.dataset, cell.model))
    needs = (_source(config, cell.dataset), ("train", cell.path))
    return Job("repair", cell.path, {}, plugins, cell.seed, needs=needs)


def reference_job(config: Config, dataset: str, seed: int) -> Job:
    """Return the job that scores the untrained reference predictors of a data set."""
    plugins = (*config.sampler(dataset), *config.calibrate.scored_by)
    needs = (_source(config, dataset),)
    return Job("reference", f"{dataset}/seed{seed}", config.reference_spec(dataset), plugins, seed, needs=needs)


def _source(config: Config, dataset: str) -> tuple[str, str]:
    return "source", config.datasets[dataset].source


def _weights(config: Config, model: str) -> list[tuple[str, str]]:
    """Return the job that provides a model's weights, if there is one: a download, or the training of another cell."""
    spec = config.models[model]
    if spec.pretrained:
        return [("weights", model)]
    path, place = os.path.normpath(spec.weights or ""), f"{os.path.normpath(config.results)}/runs/"
    trained_here = path.startswith(place) and path.endswith("/model.safetensors")
    return [("train", path.removeprefix(place).removesuffix("/model.safetensors"))] if trained_here else []


def cell_jobs(config: Config, cell: Cell, probed: bool, laddered: bool = False) -> list[Job]:
    """Return the jobs of a cell, in the order in which they run."""
    probe = [probe_job(config, cell)] if probed else []
    repair = [repair_job(config, cell)] if laddered else []
    return [train_job(config, cell), *probe, calibrate_job(config, cell), *repair]


def manifest_job(config: Config, experiment: str) -> Job:
    """Return the job that lists the files of an experiment's cells."""
    optional = config.probed(experiment), config.laddered(experiment)
    cells = list_cells(experiment, config.cells(experiment), config.references(experiment), *optional)
    needs = tuple(job.name for job in computed_jobs(config, experiment) if job.stage not in ("source", "weights"))
    return Job("manifest", experiment, cells, needs=needs)


def drawn_jobs(config: Config, experiment: str, note: str = "", scope: str = "") -> list[Job]:
    """Return the jobs that produce an experiment's tables, figures and pages; `note` is a remark on missing cells."""
    shown = {"table": config.tables(experiment), "figure": config.figures(experiment)}
    aggregate, claims = ("aggregate", experiment), ("claims", experiment)
    overview = {"experiment": experiment, "note": note, "config": config.used(experiment)}
    overview |= {f"{stage}s": [file_stem(name) for name in names] for stage, names in shown.items()}
    overview["captions"] = hashlib.sha256(to_json(captions(overview)).encode()).hexdigest()[:16]
    displays = [
        Job(
            stage,
            f"{experiment}/{file_stem(name)}",
            {stage: name, "note": note},
            ((f"{stage}s", name),),
            scope=scope,
            needs=(aggregate, claims) if "claims" in tables_read(f"{stage}s", name) else (aggregate,),
        )
        for stage, names in shown.items()
        for name in names
    ]
    return [
        Job("aggregate", experiment, {"experiment": experiment}, scope=scope, needs=(("manifest", experiment),)),
        Job("claims", experiment, {}, scope=scope, needs=(aggregate,)),
        *displays,
        Job("overview", experiment, overview, scope=scope, needs=(aggregate, claims)),
    ]


def front_figures(config: Config, experiment: str) -> list[str]:
    """Return the file names of an experiment's figures on the index page: the four questions' or else the first."""
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
    """Return the jobs from whose outputs an experiment's tables are aggregated."""
    cells, probed, laddered = config.cells(experiment), config.probed(experiment), config.laddered(experiment)
    pretrained = sorted({cell.model for cell in cells if config.models[cell.model].pretrained})
    return [
        *(source_job(config, source) for source in sorted({config.datasets[cell.dataset].source for cell in cells})),
        *(weights_job(config, model) for model in pretrained),
        *(job for cell in cells for job in cell_jobs(config, cell, cell in probed, cell in laddered)),
        *(reference_job(config, dataset, seed) for dataset, seed in config.references(experiment)),
    ]


def jobs(config: Config, experiments: Iterable[str] | None = None) -> list[Job]:
    """Return all jobs of a run's experiments, or of the given ones, once each, including those that provide weights."""
    listed: dict[tuple[str, str], Job] = {}
    for name in config.run if experiments is None else experiments:
        for job in (*computed_jobs(config, name), manifest_job(config, name), *drawn_jobs(config, name)):
            listed[job.name] = job
    cells = {cell.path: cell for name in config.experiments for cell in config.cells(name)}
    left = list(listed.values())
    while left:
        for stage, key in left.pop().needs:
            if (stage, key) not in listed and (stage == "source" or (stage == "train" and key in cells)):
                more = train_job(config, cells[key]) if stage == "train" else source_job(config, key)
                listed[more.name] = more
                left.append(more)
    return [*listed.values(), explorer_job(config, config.run)]


def job_of(config: Config, stage: str, wildcards: Mapping[str, str]) -> Job:
    """Return the job of a computing stage, given the wildcards of its rule."""
    if stage == "source":
        return source_job(config, wildcards["source"])
    if stage == "weights":
        return weights_job(config, wildcards["model"])
    if stage == "reference":
        return reference_job(config, wildcards["dataset"], int(wildcards["seed"]))
    cell = Cell(wildcards["dataset"], wildcards["model"], wildcards["loss"], int(wildcards["seed"]))
    of_cell = {"train": train_job, "probe": probe_job, "calibrate": calibrate_job, "repair": repair_job}
    return of_cell[stage](config, cell)


def list_cells(
    experiment: str,
    cells: Iterable[Cell],
    references: Iterable[tuple[str, int]],
    probed: Container[Cell],
    laddered: Container[Cell] = (),
) -> dict[str, Any]:
    """List cells and references as plain data: names, folders, and whether cells are probed or have ladders."""
    listed = [
        vars(cell) | {"path": cell.path, "probe": cell in probed} | ({"repair": True} if cell in laddered else {})
        for cell in cells
    ]
    scored = [{"dataset": dataset, "seed": seed, "path": f"{dataset}/seed{seed}"} for dataset, seed in references]
    return {"experiment": experiment, "cells": listed, "references": scored}
