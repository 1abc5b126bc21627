"""Judge claims on an experiment's tables, and answer the four questions."""

from __future__ import annotations

from pathlib import Path

from halobench.analysis.claims import claims_digest, evaluate, load_claims
from halobench.pipeline.stage import Code, stage
from halobench.reporting import finding, labels, rendering
from halobench.reporting.answers.answers import answers, write_answers
from halobench.reporting.pages.claims_page import claims_html
from halobench.storage import tables_io
from halobench.storage.layout import TABLES

STAGE = {
    "of": "experiment",
    "reads": {
        "aggregate": [
            "metrics.parquet",
            "neighbourhood.parquet",
            "radii.parquet",
            "reliability.parquet",
            "history.parquet",
            "runs.parquet",
        ]
    },
    "writes": ["claims.csv", "claims.parquet", "claims.html", "answers.json"],
    "code": [
        "reporting.finding",
        "reporting.rendering",
        "reporting.answers.answers",
        "reporting.pages.claims_page",
        "analysis.claims",
    ],
}


def run(*, claims: Path, tables: Path, out: Path, code: Code | None = None) -> None:
    """Judge the claims in a file by an experiment's tables, and answer the four questions from these tables.

    The files claims.csv, .parquet and .html, and answers.json, are written to `out`.
    """
    reads = {"aggregate": tables, "claims": claims}
    with stage("claims", out, {}, code=code, packages=["pandas", "scipy"], reads=reads) as job:
        rules = load_claims(claims)
        read = tables_io.read_tables(tables, TABLES)
        verdicts = evaluate(rules, read)
        csv, parquet, page, answered = job.outputs
        job.facts["rules"] = claims_digest(rules)
        with labels.naming(read["runs"]):
            write_answers(answered, answers(read), finding.own_claims(verdicts.to_dict("records")))
            rendering.write(page, claims_html(verdicts, tables.resolve().name, job.facts["rules"]))
        tables_io.write_csv(csv, verdicts)
        tables_io.write_parquet(parquet, verdicts)
