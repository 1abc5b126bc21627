"""The repair stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.errors import require
from halobench.pipeline.stage import Code, require_folders, stage
from halobench.storage import arrays_io, tables_io


def run_repair(spec: Mapping[str, Any], seed: int, folder: Path, code: Code | None = None) -> None:
    """Split the NLL of the cell in `folder` by what could repair it; write repair.csv there.

    The spec is empty because there is nothing to choose.
    """
    require(spec == {}, "spec", spec, "{}, since this stage has no options")
    require_folders(run=folder)
    with stage("repair", folder / "repair.json", {}, seed=seed, code=code, packages=["pandas", "scipy"]) as run:
        from halobench.calibration.cell_ladder import cell_ladder

        ladder, rows = cell_ladder(arrays_io.read_arrays(folder / "logits.safetensors"), seed)
        run.facts = {"map": ladder.map}
        tables_io.write_csv(run.outputs[0], rows)
