"""Run the aggregate and claims stages."""

from __future__ import annotations

from pathlib import Path

from halobench.pipeline.stage import Code, stage
from halobench.results.manifest import read_manifest
from halobench.storage import files, tables_io
from halobench.storage.layout import TABLES


def run_aggregate(manifest: Path, results: Path, out: Path, code: Code | None = None) -> None:
    """Write the tables of the experiment in `manifest` to `out`."""
    cells = read_manifest(manifest)
    spec, packages = {"experiment": cells["experiment"]}, ["pandas", "pyarrow"]
    with stage("aggregate", out / "aggregate.json", spec, code=code, packages=packages) as run:
        from halobench.results.aggregate import aggregate, write_tables

        run.outputs = write_tables(aggregate(cells, results), out)
        run.inputs = {"manifest": files.checksum(manifest)}


def run_claims(claims: Path, tables: Path, out: Path, code: Code | None = None) -> None:
    """Judge the claims in a file by an experiment's tables, and answer the four questions from them.

    Writes claims.csv, .parquet and .html, and answers.json, to `out`.
    """
    with stage("claims", out / "claims.json", {}, code=code, packages=["pandas", "scipy"]) as run:
        from halobench.reporting import rendering
        from halobench.reporting.answers.answers import answers, write_answers
        from halobench.reporting.pages.claims_page import claims_html
        from halobench.results.claims import claims_digest, evaluate, load_claims

        rules = load_claims(claims)
        read = tables_io.read_tables(tables, TABLES)
        verdicts = evaluate(rules, read)
        csv, parquet, page, answered = run.outputs
        write_answers(answered, answers(read))
        tables_io.write_csv(csv, verdicts)
        tables_io.write_parquet(parquet, verdicts)
        run.facts["rules"] = claims_digest(rules)
        rendering.write(page, claims_html(verdicts, tables.resolve().name, run.facts["rules"]))
        run.inputs = {"claims": files.checksum(claims)} | tables_io.checksums(tables, TABLES)
