"""What of an experiment is there: the cells that are complete and current, and what the others lack."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from halobench.core.errors import SpecError
from halobench.core.spec_codec import to_json
from halobench.experiment.code_version import code_map
from halobench.experiment.grid import Cell, Config
from halobench.experiment.jobs import asked_of_cell
from halobench.results.manifest import list_cells
from halobench.storage.files import checksum
from halobench.storage.job_logs import last_line
from halobench.storage.layout import stage_records
from halobench.storage.records import read_record
from halobench.storage.tables_io import write_csv


@dataclass(frozen=True)
class Survey:
    """The cells and references of an experiment that are there, how many it has, and a row for each that is missing.

    `probed` are the cells that are to be probed.
    """

    experiment: str
    cells: tuple[Cell, ...]
    references: tuple[tuple[str, int], ...]
    size: int
    missing: tuple[Mapping[str, Any], ...]
    probed: frozenset[Cell] = frozenset()

    @property
    def note(self) -> str:
        """In words, for the corner of a figure; empty where nothing is missing."""
        return f"partial: {len(self.cells)} of {self.size} cells" if self.missing else ""


def survey(config: Config, experiment: str, results: Path) -> Survey:
    """Look at the records of an experiment's cells and references."""
    wanted, probed, missing = config.cells(experiment), config.probed(experiment), []
    for cell in wanted:
        if lack := _lack(asked_of_cell(config, cell, cell in probed), results, f"runs/{cell.path}"):
            missing.append(vars(cell) | lack)
    references = config.references(experiment)
    for dataset, seed in references:
        asked = {"reference": (config.reference_spec(dataset), code_map("reference", config.sampler(dataset)))}
        if lack := _lack(asked, results, f"references/{dataset}/seed{seed}"):
            missing.append({"dataset": dataset, "model": "", "loss": "reference", "seed": seed} | lack)
    absent = {(row["dataset"], row["model"], row["loss"], row["seed"]) for row in missing}
    there = tuple(cell for cell in wanted if (cell.dataset, cell.model, cell.loss, cell.seed) not in absent)
    scored = tuple((d, s) for d, s in references if (d, "", "reference", s) not in absent)
    return Survey(experiment, there, scored, len(wanted), tuple(missing), probed)


def _lack(asked: Mapping[str, tuple[Any, dict[str, str]]], results: Path, path: str) -> dict[str, str] | None:
    """The first stage in which a cell isn't there as the configuration now wants it, and why; None if it is."""
    for stage, (spec, code) in asked.items():
        place = results / path / f"{stage}.json"
        if not place.exists():
            log = results / "logs" / stage / f"{path.partition('/')[2]}.log"
            told = f"not made; its log ends: {last_line(log)}" if log.exists() else "not made yet"
            return {"stage": stage, "why": told}
        try:
            record = read_record(place, ["spec", "code"])
        except SpecError:
            return {"stage": stage, "why": "its record can't be read"}
        if to_json(record["spec"]) != to_json(spec):
            return {"stage": stage, "why": "made with another spec"}
        if record["code"] != code:
            changed = sorted(name for name in {**record["code"], **code} if record["code"].get(name) != code.get(name))
            return {"stage": stage, "why": f"made with other code: {', '.join(changed)}"}
        gone = [name for name in record["outputs"] if not (results / path / name).exists()]
        if gone:
            return {"stage": stage, "why": f"{', '.join(gone)} is missing"}
        if harmed := [name for name, digest in record["outputs"].items() if _harmed(results / path / name, digest)]:
            return {"stage": stage, "why": f"{', '.join(harmed)} is not as the stage wrote it"}
    return None


def _harmed(path: Path, digest: str) -> bool:
    """Whether aggregation would refuse a file; it reads no weights and no logits."""
    return path.suffix != ".safetensors" and checksum(path) != digest


def listed(found: Survey, results: Path) -> dict[str, Any]:
    """What is there and what is missing as plain data, with the checksums of the records: it changes as they do."""
    cells = list_cells(found.experiment, found.cells, found.references, found.probed)
    paths = [f"runs/{cell.path}/{name}" for cell in found.cells for name in stage_records(cell in found.probed)]
    paths += [f"references/{dataset}/seed{seed}/reference.json" for dataset, seed in found.references]
    seals = [read_record(results / path)["self"] for path in paths]
    made = hashlib.sha256(to_json(seals).encode()).hexdigest()
    return cells | {"missing": list(map(dict, found.missing)), "records": made}


def write_missing(path: Path, missing: Sequence[Mapping[str, Any]]) -> None:
    """Write a table of what is missing (dataset, model, loss, seed, stage, why)."""
    columns = ["dataset", "model", "loss", "seed", "stage", "why"]
    write_csv(path, pd.DataFrame(list(missing), columns=columns))
