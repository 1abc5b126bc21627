"""The manifest, aggregate and claims stages."""

from __future__ import annotations

import time
from pathlib import Path

from halobench.experiment.code_version import code_in_force
from halobench.pipeline.stage import _checksums
from halobench.results.manifest import list_files
from halobench.storage import files, records, tables_io
from halobench.storage.layout import TABLES
from halobench.storage.provenance import record


def run_manifest(cells: Path, results: Path, out: Path, missing: Path | None = None) -> None:
    """Write the manifest of a list of cells, as `grid.keep_list` wrote it, and a table of what is missing."""
    listed = files.read_json(cells, ["experiment", "cells", "references"])
    files.write_json(out, records.seal(list_files(listed, results)))
    if missing is not None:
        from halobench.results.inventory import write_missing

        write_missing(missing, listed.get("missing", []))
    print(f"{len(listed['cells'])} cells of {listed['experiment']}")


def run_aggregate(manifest: Path, results: Path, out: Path) -> None:
    """Write the tables of the experiment in `manifest`, and aggregate.json, to `out`."""
    began = time.perf_counter()
    code = code_in_force("aggregate")
    files.sweep(out)
    from halobench.results.aggregate import aggregate, write_tables
    from halobench.results.manifest import read_manifest

    listed = read_manifest(manifest)
    paths = write_tables(aggregate(listed, results), out)
    asked = {"experiment": listed["experiment"], "manifest": files.checksum(manifest)}
    seconds = time.perf_counter() - began
    made = record("aggregate", asked, None, code, paths, seconds, ["pandas", "pyarrow"])
    files.write_json(out / "aggregate.json", made)


def run_claims(claims: Path, tables: Path, out: Path) -> None:
    """Judge the claims in a file by an experiment's tables; write claims.csv, .parquet, .html and .json to `out`."""
    began = time.perf_counter()
    code = code_in_force("claims")
    files.sweep(out)
    from halobench.reporting.pages.claims_page import claims_html
    from halobench.results.claims import evaluate, load_claims
    from halobench.storage.tables_io import read_tables

    found = evaluate(load_claims(claims), read_tables(tables, TABLES))
    paths = [out / f"claims.{suffix}" for suffix in ("csv", "parquet", "html")]
    tables_io.write_csv(paths[0], found)
    tables_io.write_parquet(paths[1], found)
    with files.replacing(paths[2]) as temporary:
        temporary.write_text(claims_html(found))
    asked = {"claims": files.checksum(claims), "tables": _checksums(tables, TABLES)}
    seconds = time.perf_counter() - began
    made = record("claims", asked, None, code, paths, seconds, ["pandas", "scipy"])
    files.write_json(out / "claims.json", made)
