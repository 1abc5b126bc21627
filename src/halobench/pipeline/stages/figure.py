"""Draw a figure: PDF, SVG and PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.pipeline.display import displaying
from halobench.pipeline.stage import Code

CODE = ("reporting.plotting.saving",)


def run(*, spec: Mapping[str, Any], tables: Path, out: Path, code: Code | None = None) -> None:
    """Draw the figure named in the spec from its tables, as `out`.pdf, .svg and .png, with the spec's note."""
    packages = ["matplotlib", "pandas", "seaborn"]
    with displaying("figure", spec, tables, out, code, packages) as (job, figure):
        from halobench.reporting.plotting.saving import add_note, save

        if job.spec["note"]:
            add_note(figure, job.spec["note"])
        job.outputs = list(save(figure, job.record.with_suffix("")))
