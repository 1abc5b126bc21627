"""Fit and score calibrators on a cell's logits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.codec import canonical, parse
from halobench.pipeline.stage import Code, require_folders, stage
from halobench.storage import arrays_io, files, tables_io

CODE = ("calibration.calibrate_cell",)


def run(*, spec: Mapping[str, Any], seed: int, folder: Path, code: Code | None = None) -> None:
    """Calibrate the logits in `folder`; write calibration.json, metrics.csv and reliability.csv there."""
    from halobench.calibration.calibrator import libraries

    parsed = parse(CalibrateSpec, spec)
    require_folders(run=folder)
    options: Any = {"plugins": parsed.plugged, "packages": ["pandas", *libraries(parsed.plugged)]}
    with stage("calibrate", folder / "calibrate.json", canonical(parsed), seed=seed, code=code, **options) as job:
        from halobench.calibration.calibrate_cell import calibrate

        logits = folder / "logits.safetensors"
        arrays = arrays_io.read_arrays(logits)
        job.inputs = {logits.name: files.checksum(logits)}
        result = calibrate(arrays, parsed, seed)
        fits, metrics, reliability = job.outputs
        files.write_json(fits, result.fits)
        tables_io.write_csv(metrics, result.metrics)
        tables_io.write_csv(reliability, result.reliability)
