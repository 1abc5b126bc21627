"""Join the cells of a manifest into tables."""

from __future__ import annotations

from pathlib import Path

from halobench.pipeline.stage import Code, stage
from halobench.storage import files
from halobench.storage.manifest import read_manifest

CODE = ("results.aggregate",)


def run(*, manifest: Path, results: Path, out: Path, code: Code | None = None) -> None:
    """Write the tables of the experiment in `manifest` to `out`."""
    cells = read_manifest(manifest)
    spec, packages = {"experiment": cells["experiment"]}, ["pandas", "pyarrow"]
    with stage("aggregate", out / "aggregate.json", spec, code=code, packages=packages) as job:
        from halobench.results.aggregate import aggregate, write_tables

        job.outputs = write_tables(aggregate(cells, results), out)
        job.inputs = {"manifest": files.checksum(manifest)}
