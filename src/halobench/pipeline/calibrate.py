"""Run the calibrate and reference stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.codec import canonical, parse
from halobench.core.specs.data import DatasetSpec
from halobench.data import splits, written_sources
from halobench.pipeline.stage import Code, canonical_parts, parse_parts, require_folders, stage
from halobench.storage import arrays_io, files, tables_io


def run_calibrate(spec: Mapping[str, Any], seed: int, folder: Path, code: Code | None = None) -> None:
    """Calibrate the logits in `folder`; write calibration.json, metrics.csv and reliability.csv there."""
    from halobench.calibration.calibrator import libraries

    parsed = parse(CalibrateSpec, spec)
    require_folders(run=folder)
    options: Any = {"plugins": parsed.plugged, "packages": ["pandas", *libraries(parsed.plugged)]}
    with stage("calibrate", folder / "calibrate.json", canonical(parsed), seed=seed, code=code, **options) as run:
        from halobench.calibration.calibrate_cell import calibrate

        logits = folder / "logits.safetensors"
        arrays = arrays_io.read_arrays(logits)
        run.inputs = {logits.name: files.checksum(logits)}
        result = calibrate(arrays, parsed, seed)
        fits, metrics, reliability = run.outputs
        files.write_json(fits, result.fits)
        tables_io.write_csv(metrics, result.metrics)
        tables_io.write_csv(reliability, result.reliability)


def run_reference(spec: Mapping[str, Any], source: Path, seed: int, out: Path, code: Code | None = None) -> None:
    """Score the untrained reference predictors of a data set; write calibration.json and metrics.csv to `out`."""
    specs = parse_parts(spec, {"dataset": DatasetSpec, "calibrate": CalibrateSpec})
    require_folders(source=source)
    used, packages = [*written_sources.sampler(source), *specs["calibrate"].scored_by], ["pandas"]
    options: Any = {"plugins": used, "packages": packages}
    with stage("reference", out / "reference.json", canonical_parts(specs), seed=seed, code=code, **options) as run:
        from halobench.calibration.reference_predictors import references

        data = splits.load_data(source, specs["dataset"], seed)
        run.inputs = {"meta.json": files.checksum(source / "meta.json")}
        inputs = {name: data.flat(name) for name in data.splits}
        scored = references(inputs, data.targets(), specs["calibrate"], seed)
        fits, metrics = run.outputs
        files.write_json(fits, scored.fits)
        tables_io.write_csv(metrics, scored.metrics)
