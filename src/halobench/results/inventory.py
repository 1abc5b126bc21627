"""Take an inventory of results: an experiment's finished cells, and what is missing for all other cells."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halobench.core.specs.codec import to_json
from halobench.experiment.grid import Config
from halobench.experiment.jobs import (
    Job,
    cell_jobs,
    computed_jobs,
    drawn_jobs,
    explorer_job,
    list_cells,
    reference_jobs,
)
from halobench.experiment.sections import Cell
from halobench.results.status import Name, State, survey
from halobench.storage.columns import REFERENCE
from halobench.storage.records import read_record

PARTIAL = "partial/"  # the scope of outputs from finished cells only


@dataclass(frozen=True)
class Inventory:
    """The finished cells of an experiment."""

    experiment: str
    cells: tuple[Cell, ...]  # complete and current cells
    missing: tuple[Mapping[str, Any], ...]  # for each other cell and reference, the stage and the reason
    jobs: tuple[Job, ...]  # the jobs of finished cells and references
    listed: Mapping[str, Any]  # the finished cells and references, as in manifests

    @property
    def note(self) -> str:
        """Return a note on what is missing, for the corner of a figure; "" if nothing is missing."""
        size = len(self.cells) + sum(row["loss"] != REFERENCE for row in self.missing)
        return f"partial: {len(self.cells)} of {size} cells" if self.missing else ""


def take_inventory(config: Config, experiment: str, results: Path) -> Inventory:
    """Return the inventory of an experiment, from the records of its cells and references."""
    states = survey(computed_jobs(config, experiment), results, thorough=True)
    cells, references, finished, missing = dict[Cell, Any](), [], list[Job](), list[Mapping[str, Any]]()
    for cell, stages in config.stages(experiment).items():
        jobs = cell_jobs(config, cell, stages)
        if gap := _first_missing(jobs, states):
            missing.append(vars(cell) | gap)
        else:
            cells[cell] = stages
            finished += jobs
    for dataset, seed in config.references(experiment):
        jobs = reference_jobs(config, dataset, seed)
        if gap := _first_missing(jobs, states):
            missing.append({"dataset": dataset, "model": "", "loss": REFERENCE, "seed": seed} | gap)
        else:
            references.append((dataset, seed))
            finished += jobs
    listed = list_cells(experiment, cells, references)
    return Inventory(experiment, tuple(cells), tuple(missing), tuple(finished), listed)


def _first_missing(jobs: Iterable[Job], states: Mapping[Name, State]) -> dict[str, str] | None:
    """Return the stage of the first job whose result is missing or out of date, and why; None if all are current."""
    for job in jobs:
        if (state := states[job.name]).kind != "current":
            return {"stage": job.stage, "why": "; ".join(state.every_reason) or "not made yet"}
    return None


def manifest_of_finished(inventory: Inventory, results: Path) -> Job:
    """Return the job that lists the files of an experiment's finished cells."""
    needs = tuple(job.name for job in inventory.jobs)
    return Job("manifest", inventory.experiment, list_inventory(inventory, results), scope=PARTIAL, needs=needs)


def partial_jobs(config: Config, results: Path) -> list[Job]:
    """Return the jobs of finished cells, and the jobs that make a run's tables, figures and pages from these cells."""
    begun = {name: taken for name in config.run if (taken := take_inventory(config, name, results)).cells}
    listed: dict[Name, Job] = {}
    for name, taken in begun.items():
        drawn = drawn_jobs(config, name, taken.note, PARTIAL)
        listed |= {job.name: job for job in (*taken.jobs, manifest_of_finished(taken, results), *drawn)}
    return [*listed.values(), explorer_of_finished(config, begun)] if begun else []


def explorer_of_finished(config: Config, inventories: Mapping[str, Inventory]) -> Job:
    """Return the job that writes the explorer of the experiments' finished cells."""
    notes = {name: taken.note for name, taken in inventories.items() if taken.note}
    return explorer_job(config, inventories, notes or "", PARTIAL)


def list_inventory(inventory: Inventory, results: Path) -> dict[str, Any]:
    """List present and missing results as plain data, with a digest that changes whenever the records change."""
    checksums = [read_record(results / job.record)["self"] for job in inventory.jobs]
    digest = hashlib.sha256(to_json(checksums).encode()).hexdigest()
    return {**inventory.listed, "missing": list(map(dict, inventory.missing)), "records": digest}
