"""Fit and score calibrators on a cell's logits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.calibration.calibrate_cell import calibrate
from halobench.calibration.calibrator import libraries
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.codec import canonical, parse
from halobench.pipeline.stage import Code, stage
from halobench.storage import arrays_io

STAGE = {
    "of": "cell",
    "reads": {"train": ["logits.safetensors"]},
    "writes": ["calibration.json", "metrics.csv", "reliability.csv"],
    "code": ["calibration.calibrate_cell"],
    "target": "calibrations",
}


def run(*, spec: Mapping[str, Any], seed: int, folder: Path, code: Code | None = None) -> None:
    """Calibrate the logits in `folder`; write calibration.json, metrics.csv and reliability.csv there."""
    parsed = parse(CalibrateSpec, spec)
    options: Any = {"plugins": parsed.plugged, "packages": ["pandas", *libraries(parsed.plugged)]}
    reads = {"train": folder}
    with stage("calibrate", folder, canonical(parsed), seed=seed, code=code, reads=reads, **options) as job:
        result = calibrate(arrays_io.read_arrays(folder / "logits.safetensors"), parsed, seed)
        job.write(result.fits, result.metrics, result.reliability)
