"""Split a cell's NLL by what could repair it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import require
from halobench.data import written_sources
from halobench.pipeline.stage import Code, check_folder, stage
from halobench.results.trained_cell import further_draws, open_cell
from halobench.storage import arrays_io

STAGE = {
    "of": "cell",
    "reads": {"source": ["meta.json"], "train": ["model.safetensors", "logits.safetensors"]},
    "writes": ["repair.csv"],
    "code": ["calibration.cell_ladder", "results.trained_cell"],
    "cells": "laddered",
    "minutes": 60,
}

PACKAGES = ("pandas", "scipy", "scikit-learn", "torch")


def run(*, spec: Mapping[str, Any], seed: int, folder: Path, code: Code | None = None) -> None:
    """Compute the repair ladder of the cell in `folder`; write repair.csv there."""
    require(spec == {}, "spec", spec, "{}, since this stage has no options")
    check_folder("train", folder)
    cell, arrays = open_cell(folder), arrays_io.read_arrays(folder / "logits.safetensors")
    # Images have known transitions between labels instead of a sampler, and need no source.
    sampler = [] if "transition" in arrays else written_sources.sampler(cell.source)
    plugins = [("models", cell.spec["model"]["name"]), *sampler] if sampler else []
    options: Any = {"seed": seed, "code": code, "plugins": plugins, "packages": PACKAGES}
    with stage("repair", folder, {}, reads={"train": folder}, **options) as job:
        from halobench.calibration.cell_ladder import cell_ladder

        more = further_draws(cell) if sampler else None
        ladder, rows = cell_ladder(arrays, seed, more)
        job.facts = {
            "map": ladder.map,
            "families": ladder.families,
            "further_draws": 0 if more is None else len(more[0]),
        }
        job.write(rows)
