"""Make the explorer of cells, and the entrance to all pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halobench.pipeline.stage import Code, stage
from halobench.storage import tables_io
from halobench.storage.files import checksum
from halobench.storage.layout import ANSWERS, EXPLORED

CODE = ("reporting.explorer", "reporting.pages.index")


def run(*, spec: Mapping[str, Any], tables: Path, out: Path, code: Code | None = None) -> None:
    """Write the page for exploring cells to `out`, and index.html, which leads to all pages, next to it.

    `tables` has a folder of tables per experiment. The spec contains ``experiments``, by default all that have tables
    (all others are shown as well); ``note``, a text shown on the pages, or a mapping from experiments' names to such
    texts; and ``figures``, which maps experiments to the file names of the figures to show on the index page.
    """
    from halobench.reporting.explorer import experiments_in, write
    from halobench.reporting.pages.index import write_index

    shown, note = list(spec.get("experiments", ())) or experiments_in(tables), spec.get("note", "")
    figures = dict(spec.get("figures", {}))
    shown_spec = {"experiments": shown, "note": note, "figures": figures}
    with stage("explorer", out.with_suffix(".json"), shown_spec, code=code, packages=["plotly"]) as job:
        written, index = write(out, shown, tables, note, others=True), out.with_name("index.html")
        write_index(index, written, tables, figures, note if isinstance(note, Mapping) else dict.fromkeys(shown, note))
        job.outputs = [out, index]
        job.facts["shown"] = written
        job.inputs = {
            f"{name}/{table}": digest
            for name in written
            for table, digest in tables_io.checksums(tables / name, _explored(tables / name)).items()
        }
        answers = {f"{name}/{ANSWERS}": tables / name / ANSWERS for name in written}
        job.inputs |= {name: checksum(path) for name, path in answers.items() if path.exists()}


def _explored(tables: Path) -> list[str]:
    """Return the tables of an experiment that the shared pages read; without verdicts, there is no table of claims."""
    return [name for name in (*EXPLORED, "claims") if (tables / f"{name}.parquet").exists()]
