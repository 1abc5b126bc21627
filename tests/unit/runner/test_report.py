"""The targets that `halobench report` requests from Snakemake, and its output afterwards."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import ROOT, tiny_config
from halobench.core.errors import SpecError
from halobench.experiment import jobs
from halobench.experiment.config_loader import load_config
from halobench.results.claims import claims_digest, load_claims
from halobench.runner import report
from halobench.storage import files, records
from synthetic import CLAIM_ROW

CLAIMS = pd.DataFrame([CLAIM_ROW]).to_csv(index=False)


@pytest.fixture
def asked(tmp_path, monkeypatch) -> list[list[str]]:
    """The calls to Snakemake, in a folder where the last run was `tiny`, `other` is complete and `begun` isn't."""
    config = tiny_config()
    config["experiments"] |= {name: config["experiments"]["tiny"] for name in ("other", "begun")}
    monkeypatch.chdir(tmp_path)
    Path("frozen.yaml").write_text(yaml.safe_dump(config | {"frozen": True}))
    files.write_json(report.LAST, {"snakefile": "Snakefile", "configuration": "frozen.yaml", "results": "results"})
    for name in ("tiny", "other"):
        for path in (path for job in jobs.drawn_jobs(load_config(config), name) for path in job.paths):
            Path("results", path).parent.mkdir(parents=True, exist_ok=True)
            Path("results", path).write_text(CLAIMS if path.endswith("claims.csv") else "")
    Path("results/tables/begun").mkdir()
    Path("results/tables/begun/overview.html").touch()
    calls: list[list[str]] = []
    monkeypatch.setattr(report, "_snakemake", lambda arguments, target: calls.append(list(arguments)) or 0)
    return calls


@pytest.mark.parametrize(
    ("arguments", "run", "found"),
    [
        ([], 'run=["tiny", "other"]', ["tiny", "other"]),
        (["tiny"], None, ["tiny"]),
        (["other", "--cores", "1"], 'run=["other"]', ["other"]),
    ],
)
def test_a_report_holds_what_is_complete_or_named(asked, capsys, arguments, run, found):
    assert report.report(arguments) == 0
    (given,) = asked
    assert (given[given.index("--config") + 1] if "--config" in given else None) == run
    assert "--report=results/report.html" in given
    said = capsys.readouterr().err
    assert [name for name in ("tiny", "other", "begun") if f"{name}: With the optimal temperature" in said] == found
    assert ("not in the report" in said and "tables/begun/overview.html" in said) == (not arguments)


def test_verdicts_by_other_claims_than_the_current_ones_are_marked(asked, capsys):
    rules = Path("workflow/claims.yaml")
    rules.parent.mkdir()
    rules.write_text((ROOT / rules).read_text())
    record = Path("results/tables/tiny/claims.json")
    for change, marked in (("", False), ("# a comment\n", False), ("margin: 0.05", True)):
        digest = claims_digest(load_claims(rules))
        files.write_json(record, records.seal({"outputs": {}, "rules": digest}))
        text = rules.read_text()
        rules.write_text(text.replace("margin: 0.05", "margin: 0.06") if marked else change + text)
        assert report.report(["tiny"]) == 0
        assert ("by other claims than those in workflow/claims.yaml" in capsys.readouterr().err) == marked


def test_a_name_of_no_experiment_is_refused(asked):
    with pytest.raises(SpecError, match="did you mean 'other'"):
        report.report(["othr"])
    assert asked == []


def test_what_snakemake_is_told_of_a_configuration_is_left_to_it(asked, capsys):
    Path("mine.yaml").write_text("fetch: true\n")
    Path("Snakefile").touch()
    mine = ["--configfile", "mine.yaml", "--report", "mine.zip"]
    assert report.report(mine) == 0
    assert report.report(["demo", *mine, "--config", "fetch=false"]) == 0
    rest, config = ["--report", "mine.zip"], ["--configfile", "mine.yaml"]
    assert asked == [[*rest, *config], [*rest, *config, "--config", "fetch=false", 'run=["demo"]']]
    assert capsys.readouterr().err == ""
