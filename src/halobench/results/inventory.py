"""The inventory of results: an experiment's finished cells, and what the others are missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from halobench.core.spec_codec import to_json
from halobench.experiment.grid import Cell, Config
from halobench.experiment.jobs import Job, cell_jobs, computed_jobs, drawn_jobs, explorer_job, list_cells, reference_job
from halobench.results.status import Name, State, survey
from halobench.storage.columns import REFERENCE
from halobench.storage.layout import STAGES, stage_records
from halobench.storage.records import read_record

PARTIAL = "partial/"  # the scope of what is drawn from finished cells


@dataclass(frozen=True)
class Inventory:
    """The finished cells of an experiment.

    Attributes
    ----------
    experiment : str
    cells : tuple of Cell
        The cells that are complete and current.
    references : tuple of (data set, seed)
        The calibrator-free predictors that are complete and current.
    size : int
        How many cells the experiment has.
    missing : tuple of mapping
        A row for each missing cell and reference, with its names, the stage and the reason.
    probed : frozenset of Cell
        The cells that should be probed.
    laddered : frozenset of Cell
        The cells that should get a repair ladder.
    """

    experiment: str
    cells: tuple[Cell, ...]
    references: tuple[tuple[str, int], ...]
    size: int
    missing: tuple[Mapping[str, Any], ...]
    probed: frozenset[Cell] = frozenset()
    laddered: frozenset[Cell] = frozenset()

    @property
    def note(self) -> str:
        """A note on what is missing, for the corner of a figure; it is empty if nothing is missing."""
        return f"partial: {len(self.cells)} of {self.size} cells" if self.missing else ""


def take_inventory(config: Config, experiment: str, results: Path) -> Inventory:
    """Read the records of an experiment's cells and references."""
    probed, laddered, missing = config.probed(experiment), config.laddered(experiment), []
    states = survey(computed_jobs(config, experiment), results, thorough=True)
    cells, references = [], []
    for cell in config.cells(experiment):
        if gap := _first_missing(cell_jobs(config, cell, cell in probed, cell in laddered), states):
            missing.append(vars(cell) | gap)
        else:
            cells.append(cell)
    for dataset, seed in config.references(experiment):
        if gap := _first_missing([reference_job(config, dataset, seed)], states):
            missing.append({"dataset": dataset, "model": "", "loss": REFERENCE, "seed": seed} | gap)
        else:
            references.append((dataset, seed))
    size = len(cells) + sum(row["loss"] != REFERENCE for row in missing)
    return Inventory(experiment, tuple(cells), tuple(references), size, tuple(missing), probed, laddered)


def _first_missing(jobs: Iterable[Job], states: Mapping[Name, State]) -> dict[str, str] | None:
    """Return the first job whose result is missing or out of date, and why; None if all are current."""
    for job in jobs:
        made = states[job.name]
        if made.kind != "current":
            return {"stage": job.stage, "why": "; ".join(made.reasons) or "not made yet"}
    return None


def manifest_of_finished(inventory: Inventory, results: Path) -> Job:
    """Return the job that lists the files of an experiment's finished cells."""
    return Job("manifest", inventory.experiment, list_inventory(inventory, results), scope=PARTIAL)


def partial_jobs(config: Config, results: Path) -> list[Job]:
    """Return the jobs of finished cells, and those that make a run's tables, figures and pages from them."""
    begun = {name: taken for name in config.run if (taken := take_inventory(config, name, results)).cells}
    listed: dict[Name, Job] = {}
    for name, taken in begun.items():
        finished = [reference_job(config, dataset, seed) for dataset, seed in taken.references]
        for cell in taken.cells:
            finished += cell_jobs(config, cell, cell in taken.probed, cell in taken.laddered)
        manifest = replace(manifest_of_finished(taken, results), needs=tuple(job.name for job in finished))
        for job in (*finished, manifest, *drawn_jobs(config, name, taken.note, PARTIAL)):
            listed[job.name] = job
    return [*listed.values(), explorer_of_finished(config, begun)] if begun else []


def explorer_of_finished(config: Config, inventories: Mapping[str, Inventory]) -> Job:
    """Return the job that makes the page for looking up the finished cells of experiments."""
    notes = {name: taken.note for name, taken in inventories.items() if taken.note}
    return explorer_job(config, inventories, notes or "", PARTIAL)


def list_inventory(inventory: Inventory, results: Path) -> dict[str, Any]:
    """List what is present and missing as plain data, with a digest of the records that changes whenever they do."""
    optional = inventory.probed, inventory.laddered
    cells = list_cells(inventory.experiment, inventory.cells, inventory.references, *optional)
    records = {cell.path: stage_records(*(cell in chosen for chosen in optional)) for cell in inventory.cells}
    paths = [f"runs/{path}/{name}" for path, names in records.items() for name in names]
    paths += [STAGES["reference"].record_path(f"{dataset}/seed{seed}") for dataset, seed in inventory.references]
    checksums = [read_record(results / path)["self"] for path in paths]
    digest = hashlib.sha256(to_json(checksums).encode()).hexdigest()
    return cells | {"missing": list(map(dict, inventory.missing)), "records": digest}
