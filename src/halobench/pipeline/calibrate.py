"""The calibrate and reference stages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halobench.core.errors import SpecError, require
from halobench.core.spec_codec import canonical, parse
from halobench.core.specs import CalibrateSpec, DatasetSpec
from halobench.data import sources, splits
from halobench.experiment.code_version import code_in_force
from halobench.pipeline.stage import _canonical_parts, parse_parts
from halobench.storage import arrays_io, files, layout, records, tables_io
from halobench.storage.provenance import record

if TYPE_CHECKING:
    from halobench.calibration.evaluate import Calibrated


def run_calibrate(spec: Mapping[str, Any], seed: int, folder: Path) -> None:
    """Calibrate the logits in `folder`; write calibration.json, metrics.csv, reliability.csv and the record there."""
    began = time.perf_counter()
    calibrators = parse(CalibrateSpec, spec)
    code = code_in_force("calibrate", calibrators.plugged)
    files.sweep(folder)
    from halobench.calibration.evaluate import calibrate

    found = calibrate(arrays_io.read_arrays(folder / "logits.safetensors"), calibrators, seed)
    _write_calibrated(found, folder, canonical(calibrators), seed, code, began)


def _write_calibrated(
    found: Calibrated, folder: Path, asked: Mapping[str, Any], seed: int, code: Mapping[str, str], began: float
) -> None:
    """Write calibration.json, metrics.csv, reliability.csv and the record of what was asked for to `folder`."""
    from halobench.calibration.calibrator import libraries

    paths = [folder / name for name in ("calibration.json", "metrics.csv", "reliability.csv")]
    files.write_json(paths[0], found.fits)
    tables_io.write_csv(paths[1], found.metrics)
    tables_io.write_csv(paths[2], found.reliability)
    packages = ["pandas", *libraries(asked.get("calibrators", ()))]
    made = record("calibrate", asked, seed, code, paths, time.perf_counter() - began, packages)
    files.write_json(folder / "calibrate.json", made)


def _check_vacant(out: Path) -> None:
    """Raise SpecError unless what `calibrate --logits` found can be written to `out` without harm to other results."""
    what = "a folder of its own for what is found"
    if out.exists() and not out.is_dir():
        raise SpecError("--out", str(out), f"{what}: this is a file")
    there = [name for name in layout.RECORDS if (out / name).exists()]
    if there == ["calibrate.json"]:
        there = [] if "logits" in records.read_record(out / "calibrate.json", ["spec"])["spec"] else there
    require(not there, "--out", str(out), f"{what}: this holds results, of which {' and '.join(there)} tells")


def run_calibrate_file(spec: Mapping[str, Any], seed: int, logits: Path, out: Path | None = None) -> None:
    """Calibrate the logits of another project in an .npz file, and print what was found.

    Parameters
    ----------
    out : Path, optional
        Where calibration.json, metrics.csv, reliability.csv and the record are written to.
    """
    began = time.perf_counter()
    calibrators = parse(CalibrateSpec, spec)
    code = code_in_force("calibrate", calibrators.plugged)
    if out is not None:
        _check_vacant(out)
    from halobench.calibration.external_logits import calibrate_and_describe
    from halobench.core import console
    from halobench.reporting import terminal

    found, said = calibrate_and_describe(logits, calibrators, seed)
    console.console().print(terminal.calibrated(str(logits), said, found))
    if out is not None:
        files.sweep(out)
        asked = canonical(calibrators) | {"logits": files.checksum(logits), "file": logits.name}
        _write_calibrated(found, out, asked, seed, code, began)


def run_reference(spec: Mapping[str, Any], source: Path, seed: int, out: Path) -> None:
    """Score the calibrator-free predictors of a data set; write calibration.json, metrics.csv and reference.json."""
    began = time.perf_counter()
    specs = parse_parts(spec, {"dataset": DatasetSpec, "calibrate": CalibrateSpec})
    code = code_in_force("reference", sources.sampler(source))
    files.sweep(out)
    from halobench.calibration.reference_predictors import references

    loaded = splits.load_data(source, specs["dataset"], seed)
    inputs = {name: loaded.flat(name) for name in loaded.splits}
    found = references(inputs, loaded.targets(), specs["calibrate"], seed)
    paths = [out / "calibration.json", out / "metrics.csv"]
    files.write_json(paths[0], found.fits)
    tables_io.write_csv(paths[1], found.metrics)
    seconds = time.perf_counter() - began
    facts = record("reference", _canonical_parts(specs), seed, code, paths, seconds, ["pandas"])
    files.write_json(out / "reference.json", facts)
