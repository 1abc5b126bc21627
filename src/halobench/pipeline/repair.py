"""Run the repair stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from halobench.core.errors import require
from halobench.pipeline.stage import Code, require_folders, stage
from halobench.storage import arrays_io, files, tables_io

FURTHER = 2  # number of further draws to fit maps to, as a multiple of the number of test samples


def run_repair(spec: Mapping[str, Any], seed: int, folder: Path, code: Code | None = None) -> None:
    """Compute the repair ladder of the cell in `folder`; write repair.csv there."""
    require(spec == {}, "spec", spec, "{}, since this stage has no options")
    require_folders(run=folder)
    packages = ["pandas", "scipy", "scikit-learn", "torch"]
    with stage("repair", folder / "repair.json", {}, seed=seed, code=code, packages=packages) as run:
        from halobench.calibration.cell_ladder import cell_ladder

        arrays = arrays_io.read_arrays(folder / "logits.safetensors")
        more = None if "transition" in arrays else _further_draws(folder, seed, len(arrays["test.logits"]))
        paths = [folder / f"{name}.safetensors" for name in ("model", "logits")]
        run.inputs = {path.name: files.checksum(path) for path in paths if path.exists()}
        ladder, rows = cell_ladder(arrays, seed, more)
        run.facts = {
            "map": ladder.map,
            "families": ladder.families,
            "further_draws": 0 if more is None else len(more[0]),
        }
        tables_io.write_csv(run.outputs[0], rows)


def _further_draws(folder: Path, seed: int, test: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the model's logits and the posterior for further draws from the cell's distribution, if it has one."""
    from halobench.data.distribution import sample_generator
    from halobench.data.mapped_rows import normalise
    from halobench.results.trained_cell import open_cell
    from halobench.training.cell import predict

    cell = open_cell(folder)
    data, distribution = cell.data, cell.data.distribution
    if distribution is None:
        return None
    drawn = distribution.sample(FURTHER * test, sample_generator(distribution, seed, "sample", "repair"))
    logits = predict(cell.model, normalise(drawn.inputs, data.mean, data.std), cell.recipe)
    if distribution.regions is not None and drawn.region is not None:
        posterior = distribution.regions.posterior[drawn.region]
    else:
        posterior = distribution.posterior(drawn.inputs)
    return logits, posterior @ data.transition
