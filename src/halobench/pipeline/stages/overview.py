"""Write the pages of an experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from halobench.core.errors import require
from halobench.experiment.figure_choice import captions
from halobench.pipeline.stage import Code, stage
from halobench.reporting import labels, rendering
from halobench.reporting.pages.overview import pages
from halobench.results.job_and_fit_tables import RECORD_KEYS, job_row, jobs_table
from halobench.storage import tables_io
from halobench.storage.files import read_json
from halobench.storage.layout import ANSWERS, ORIGINS, TABLES
from halobench.storage.records import check_recorded, read_record

STAGE = {
    "of": "experiment",
    "reads": {"aggregate": ["*.parquet"], "claims": ["claims.parquet", "answers.json"]},
    "writes": ["overview.html", "leaderboard.html", "figures.html", "tables.html"],
    "code": ["reporting.rendering", "reporting.pages.overview", "results.job_and_fit_tables"],
    "minutes": 60,
}

TABLE_STAGES = ("aggregate", "claims")  # stages with records next to the tables


def run(*, spec: Mapping[str, Any], tables: Path, out: Path, code: Code | None = None) -> None:
    """Write an experiment's pages, listed in `halobench.storage.layout.PAGES`, to `out`, from its folder of tables.

    The spec contains ``config``, the part of the configuration that the experiment used; ``note``, a text shown at the
    top of each page (for example, to say that cells are missing); ``experiment``, by default the name of the folder;
    and ``figures`` and ``tables``, the names of the figures and tables to link to.
    """
    require(isinstance(spec, Mapping), "spec", spec, "a mapping with the keys config and note")
    empty = {"note": "", "config": {}, "figures": [], "tables": []}
    shown_spec = {"experiment": tables.resolve().name} | empty | dict(spec)
    reads = dict.fromkeys(TABLE_STAGES, tables)
    with stage("overview", out, shown_spec, code=code, packages=["pandas", "pyyaml"], reads=reads) as job:
        read, name = tables_io.read_tables(tables, (*TABLES, *ORIGINS, "claims")), shown_spec["experiment"]
        rows = [job_row(name, read_record(tables / f"{stage_name}.json", RECORD_KEYS)) for stage_name in TABLE_STAGES]
        read["jobs"] = pd.concat([read["jobs"], jobs_table(rows)], ignore_index=True)
        check_recorded(tables / ANSWERS)
        answers = read_json(tables / ANSWERS, ["answers"])["answers"]
        with labels.naming(read["runs"]):
            shown = pages(read, answers, shown_spec, captions(shown_spec))
        for path in job.outputs:
            rendering.write(path, shown[path.stem])
