"""Split a cell's NLL by what could repair it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import require
from halobench.data import written_sources
from halobench.pipeline.stage import Code, require_folders, stage
from halobench.results.trained_cell import open_cell
from halobench.storage import arrays_io, files, tables_io

CODE = ("calibration.cell_ladder", "results.trained_cell")

PACKAGES = ("pandas", "scipy", "scikit-learn", "torch")


def run(*, spec: Mapping[str, Any], seed: int, folder: Path, code: Code | None = None) -> None:
    """Compute the repair ladder of the cell in `folder`; write repair.csv there."""
    require(spec == {}, "spec", spec, "{}, since this stage has no options")
    require_folders(run=folder)
    cell, arrays = open_cell(folder), arrays_io.read_arrays(folder / "logits.safetensors")
    # Images have known transitions between labels instead of a sampler, and need no source.
    sampler = [] if "transition" in arrays else written_sources.sampler(cell.source)
    plugins = [("models", cell.spec["model"]["name"]), *sampler] if sampler else []
    options: Any = {"seed": seed, "code": code, "plugins": plugins, "packages": PACKAGES}
    with stage("repair", folder / "repair.json", {}, **options) as job:
        from halobench.calibration.cell_ladder import cell_ladder
        from halobench.results.trained_cell import further_draws

        more = further_draws(cell) if sampler else None
        paths = [folder / f"{name}.safetensors" for name in ("model", "logits")]
        job.inputs = {path.name: files.checksum(path) for path in paths if path.exists()}
        ladder, rows = cell_ladder(arrays, seed, more)
        job.facts = {
            "map": ladder.map,
            "families": ladder.families,
            "further_draws": 0 if more is None else len(more[0]),
        }
        tables_io.write_csv(job.outputs[0], rows)
