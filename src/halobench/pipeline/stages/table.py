"""Make a table for print: CSV, LaTeX and HTML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.pipeline.display import displaying
from halobench.pipeline.stage import Code
from halobench.reporting.print_tables.layout import save

STAGE = {
    "of": "table",
    "reads": {"aggregate": [], "claims": []},  # the tables that its function names
    "writes": ["{}.csv", "{}.tex", "{}.html"],
    "code": ["reporting.print_tables.layout"],
}


def run(*, spec: Mapping[str, Any], tables: Path, out: Path, code: Code | None = None) -> None:
    """Make the print table named in the spec from its tables, as `out`.csv, .tex and .html, with the spec's note."""
    with displaying("table", spec, tables, out, code, ["pandas"]) as (job, table):
        job.outputs = save(table, job.record.with_suffix(""), job.spec["note"], tables.resolve().name)
