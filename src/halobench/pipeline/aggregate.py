"""The manifest, aggregate and claims stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from halobench.core.errors import require
from halobench.pipeline.stage import Code, stage
from halobench.results.manifest import list_files, read_manifest
from halobench.storage import files, records, tables_io
from halobench.storage.columns import KEYS
from halobench.storage.layout import TABLES


def run_manifest(spec: Mapping[str, Any], results: Path, out: Path, missing: Path | None = None) -> None:
    """Write the manifest of an experiment's cells and a table of what is missing.

    Parameters
    ----------
    spec : mapping
        The ``experiment``, its ``cells`` and ``references``, and what is ``missing``, as returned by
        `halobench.experiment.jobs.list_cells`.
    results : Path
        The results folder.
    out, missing : Path
        Where to write the manifest and the table.
    """
    for key in ("experiment", "cells", "references"):
        require(isinstance(spec, Mapping) and key in spec, f"spec.{key}", None, f"the {key} for the manifest")
    files.write_json(out, records.seal(list_files(spec, results)))
    if missing is not None:
        tables_io.write_csv(missing, pd.DataFrame(spec.get("missing", []), columns=[*KEYS, "stage", "why"]))
    print(f"{len(spec['cells'])} cells of {spec['experiment']}")


def run_aggregate(manifest: Path, results: Path, out: Path, code: Code | None = None) -> None:
    """Write the tables of the experiment in `manifest` to `out`."""
    cells = read_manifest(manifest)
    spec, packages = {"experiment": cells["experiment"]}, ["pandas", "pyarrow"]
    with stage("aggregate", out / "aggregate.json", spec, code=code, packages=packages) as run:
        from halobench.results.aggregate import aggregate, write_tables

        run.outputs = write_tables(aggregate(cells, results), out)
        run.facts["inputs"] = {"manifest": files.checksum(manifest)}


def run_claims(claims: Path, tables: Path, out: Path, code: Code | None = None) -> None:
    """Judge the claims in a file using an experiment's tables; write claims.csv, .parquet and .html to `out`."""
    with stage("claims", out / "claims.json", {}, code=code, packages=["pandas", "scipy"]) as run:
        from halobench.reporting import rendering
        from halobench.reporting.pages.claims_page import claims_html
        from halobench.results.claims import claims_digest, evaluate, load_claims

        rules = load_claims(claims)
        verdicts = evaluate(rules, tables_io.read_tables(tables, TABLES))
        csv, parquet, page = run.outputs
        tables_io.write_csv(csv, verdicts)
        tables_io.write_parquet(parquet, verdicts)
        run.facts["rules"] = claims_digest(rules)
        rendering.write(page, claims_html(verdicts, tables.resolve().name, run.facts["rules"]))
        run.facts["inputs"] = {"claims": files.checksum(claims)} | tables_io.checksums(tables, TABLES)
