"""Join the cells of a manifest into tables."""

from __future__ import annotations

from pathlib import Path

from halobench.pipeline.stage import Code, stage
from halobench.results.aggregate import aggregate, write_tables
from halobench.storage.manifest import read_manifest

STAGE = {
    "of": "experiment",
    "reads": {"manifest": []},  # its record
    "writes": [
        "metrics.csv",
        "neighbourhood.csv",
        "radii.csv",
        "reliability.csv",
        "history.csv",
        "runs.csv",
        "metrics.parquet",
        "neighbourhood.parquet",
        "radii.parquet",
        "reliability.parquet",
        "history.parquet",
        "runs.parquet",
        "jobs.parquet",
        "fits.parquet",
    ],
    "code": ["results.aggregate", "storage.manifest"],
    "minutes": 60,
}


def run(*, manifest: Path, results: Path, out: Path, code: Code | None = None) -> None:
    """Write the tables of the experiment in `manifest` to `out`."""
    cells = read_manifest(manifest)
    spec, packages = {"experiment": cells["experiment"]}, ["pandas", "pyarrow"]
    with stage("aggregate", out, spec, code=code, packages=packages, reads={"manifest": manifest}) as job:
        job.outputs = write_tables(aggregate(cells, results), out)
