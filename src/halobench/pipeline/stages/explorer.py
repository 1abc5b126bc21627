"""Make the explorer of cells, and the entrance to all pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.pipeline.stage import Code, stage
from halobench.reporting.explorer import experiments_in, write
from halobench.reporting.pages.index import write_index
from halobench.storage.files import checksum
from halobench.storage.layout import STAGES

STAGE = {
    "of": "run",
    "reads": {
        "aggregate": ["*.parquet"],
        "claims": ["claims.parquet", "answers.json"],
        "figure": ["{}.svg"],
    },
    "writes": ["{}.html", "index.html"],
    "code": ["reporting.explorer", "reporting.pages.index"],
    "memory": 4000,
    "minutes": 60,
}


def run(*, spec: Mapping[str, Any], tables: Path, out: Path, code: Code | None = None) -> None:
    """Write explorer.html, the page for exploring cells, and index.html, which leads to all pages, to `out`.

    `tables` has a folder of tables per experiment. The spec contains ``experiments``, which are shown before all other
    experiments that have tables; ``note``, a text shown on the pages, or a mapping from experiments' names to such
    texts; and ``figures``, which maps experiments to the file names of the figures to show on the index page.
    """
    shown, note = list(spec.get("experiments", ())) or experiments_in(tables), spec.get("note", "")
    figures = dict(spec.get("figures", {}))
    shown_spec = {"experiments": shown, "note": note, "figures": figures}
    with stage("explorer", out, shown_spec, code=code, packages=["plotly"]) as job:
        page, index = job.outputs
        written = write(page, shown, tables, note, others=True)
        write_index(index, written, tables, figures, note if isinstance(note, Mapping) else dict.fromkeys(shown, note))
        job.facts["shown"] = written
        read = STAGES["explorer"].reads
        names = [f"{name}/{file}" for name in written for file in (*read["aggregate"], *read["claims"])]
        # Without verdicts, there is no table of claims.
        job.inputs = {name: checksum(tables / name) for name in names if (tables / name).exists()}
