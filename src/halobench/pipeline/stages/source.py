"""Load a source's data, which later stages need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.core.specs.codec import canonical, parse
from halobench.core.specs.data import SourceSpec
from halobench.data.sources import write_source
from halobench.pipeline.stage import Code, stage

STAGE = {
    "of": "source",
    "writes": ["meta.json"],
    # Not every source has them: a distribution has no arrays, and stages restore those that are lost.
    "may_write": ["images.npy", "labels.npy", "posterior.npy", "listing.npy"],
    "code": ["data.sources"],
}


def run(*, spec: Mapping[str, Any], out: Path, code: Code | None = None) -> None:
    """Write a source's metadata and, unless it is a distribution, its arrays to `out`."""
    source = parse(SourceSpec, spec)
    used = [("data", source.loader)]
    packages = ["scikit-learn", "mlxtend", "torchvision", "pillow"]
    with stage("source", out, canonical(source), code=code, plugins=used, packages=packages) as job:
        job.outputs = write_source(source, out)
