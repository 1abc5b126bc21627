"""Manifests: the cells and references of an experiment, with the checksums of their files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import require
from halobench.core.spec_codec import to_json
from halobench.experiment.grid import Cell, Config
from halobench.storage import files as store
from halobench.storage.columns import KEYS
from halobench.storage.files import write_json
from halobench.storage.layout import stage_records
from halobench.storage.records import check_seal, read_record


def list_cells(
    experiment: str, cells: Iterable[Cell], references: Iterable[tuple[str, int]], probed: Container[Cell]
) -> dict[str, Any]:
    """Cells and references as plain data: names and folders, and whether a cell is probed."""
    return {
        "experiment": experiment,
        "cells": [dataclasses.asdict(cell) | {"path": cell.path, "probe": cell in probed} for cell in cells],
        "references": [{"dataset": d, "seed": s, "path": f"{d}/seed{s}"} for d, s in references],
    }


def listing(config: Config, experiment: str) -> dict[str, Any]:
    """Return the cells and references of an experiment, for `list_files`."""
    probed = config.probed(experiment)
    return list_cells(experiment, config.cells(experiment), config.references(experiment), probed)


def keep_list(listed: Mapping[str, Any], folder: Path) -> Path:
    """Write such a list into `folder` under a name that tells its content; return its path.

    The jobs of a run read it: config.yaml may be edited meanwhile.
    """
    text = to_json(listed)
    path = folder / f"{listed['experiment']}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        write_json(path, listed)
    return path


def list_files(listed: Mapping[str, Any], results: Path) -> dict[str, Any]:
    """The manifest of a list of cells and references: it, with the checksums of their files from the records."""

    def outputs(folder: Path, records: Iterable[str]) -> dict[str, str]:
        found = (read_record(folder / name)["outputs"] for name in records)
        return {name: digest for output in found for name, digest in output.items()}

    cells = [
        cell | {"outputs": outputs(results / "runs" / cell["path"], stage_records(cell["probe"]))}
        for cell in listed["cells"]
    ]
    scored = [
        reference | {"outputs": outputs(results / "references" / reference["path"], ["reference.json"])}
        for reference in listed["references"]
    ]
    return {"experiment": listed["experiment"], "cells": cells, "references": scored}


def read_manifest(path: Path | str) -> dict[str, Any]:
    """Read a manifest, as `halobench.results.manifest.list_files` gives it.

    Raises
    ------
    SpecError
        If the file is missing or is none, or was edited.
    """
    manifest = store.read_json(path, ("cells", "references"))
    with store.reading(path, "lists of cells and references, each with its names, path and checksums"):
        for entries, keys in ((manifest["cells"], [*KEYS, "probe"]), (manifest["references"], ("dataset", "seed"))):
            for entry in entries:
                for key in (*keys, "path", "outputs"):
                    require(key in entry, key, entry, "a key of each entry")
                require(isinstance(entry["outputs"], Mapping), "outputs", entry["outputs"], "checksums by file name")
        require(manifest["cells"], "cells", manifest["cells"], "at least one")
    check_seal(path, manifest)
    return manifest
