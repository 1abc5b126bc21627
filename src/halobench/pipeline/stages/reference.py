"""Score the Bayes, uniform and nearest-neighbour predictors of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.codec import canonical
from halobench.core.specs.data import DatasetSpec
from halobench.data import written_sources
from halobench.pipeline.stage import Code, parse_parts, require_folders, stage
from halobench.storage import files, tables_io

CODE = ("calibration.reference_predictors", "data.splits")


def run(*, spec: Mapping[str, Any], source: Path, seed: int, out: Path, code: Code | None = None) -> None:
    """Score the untrained reference predictors of a data set; write calibration.json and metrics.csv to `out`."""
    specs = parse_parts(spec, {"dataset": DatasetSpec, "calibrate": CalibrateSpec})
    require_folders(source=source)
    used, packages = [*written_sources.sampler(source), *specs["calibrate"].scored_by], ["pandas"]
    options: Any = {"plugins": used, "packages": packages}
    with stage("reference", out / "reference.json", canonical(specs), seed=seed, code=code, **options) as job:
        from halobench.calibration.reference_predictors import references
        from halobench.data import splits

        data = splits.load_data(source, specs["dataset"], seed)
        job.inputs = {"meta.json": files.checksum(source / "meta.json")}
        inputs = {name: data.flat(name) for name in data.splits}
        scored = references(inputs, data.targets(), specs["calibrate"], seed)
        fits, metrics = job.outputs
        files.write_json(fits, scored.fits)
        tables_io.write_csv(metrics, scored.metrics)
