"""Draw a figure: PDF, SVG and PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.pipeline.display import displaying
from halobench.pipeline.stage import Code
from halobench.reporting.plotting.saving import add_note, save

STAGE = {
    "of": "figure",
    "reads": {"aggregate": [], "claims": []},  # the tables that its function names
    "writes": ["{}.png", "{}.pdf", "{}.svg"],
    "code": ["reporting.plotting.saving"],
    "target": "figures",
}


def run(*, spec: Mapping[str, Any], tables: Path, out: Path, code: Code | None = None) -> None:
    """Draw the figure named in the spec from its tables, as `out`.pdf, .svg and .png, with the spec's note."""
    packages = ["matplotlib", "pandas", "seaborn"]
    with displaying("figure", spec, tables, out, code, packages) as (job, figure):
        if job.spec["note"]:
            add_note(figure, job.spec["note"])
        job.outputs = list(save(figure, job.record.with_suffix("")))
