"""Score the Bayes, uniform and nearest-neighbour predictors of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.calibration.reference_predictors import references
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.codec import canonical
from halobench.core.specs.data import DatasetSpec
from halobench.data import splits, written_sources
from halobench.pipeline.stage import Code, check_folder, parse_parts, stage

STAGE = {
    "of": "dataset",
    "reads": {"source": ["meta.json"]},
    "writes": ["calibration.json", "metrics.csv"],
    "code": ["calibration.reference_predictors", "data.splits"],
    "target": "calibrations",
    "memory": 4000,
    "minutes": 240,
}


def run(*, spec: Mapping[str, Any], source: Path, seed: int, out: Path, code: Code | None = None) -> None:
    """Score the untrained reference predictors of a data set; write calibration.json and metrics.csv to `out`."""
    specs = parse_parts(spec, {"dataset": DatasetSpec, "calibrate": CalibrateSpec})
    check_folder("source", source)
    used, reads = [*written_sources.sampler(source), *specs["calibrate"].scored_by], {"source": source}
    options: Any = {"plugins": used, "packages": ["pandas"]}
    with stage("reference", out, canonical(specs), seed=seed, code=code, reads=reads, **options) as job:
        data = splits.load_data(source, specs["dataset"], seed)
        inputs = {name: data.flat(name) for name in data.splits}
        scored = references(inputs, data.targets(), specs["calibrate"], seed)
        job.write(scored.fits, scored.metrics)
