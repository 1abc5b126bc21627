"""The targets that `halobench report` requests from Snakemake, and its output afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from conftest import tiny_config
from halobench.core.errors import SpecError
from halobench.experiment import jobs
from halobench.experiment.config_loader import load_config
from halobench.runner import report
from halobench.storage import files

CLAIMS = "claim,statement,scope,fit,statistic,verdict\na,A,all,exact,level of a.b: c,holds\n"


@pytest.fixture
def asked(tmp_path, monkeypatch) -> list[list[str]]:
    """The calls to Snakemake, in a folder where the last run was `tiny`, `other` is complete and `begun` isn't."""
    config = tiny_config()
    config["experiments"] |= {name: config["experiments"]["tiny"] for name in ("other", "begun")}
    monkeypatch.chdir(tmp_path)
    report.STATE.mkdir(parents=True)
    report.CONFIGURED.write_text(yaml.safe_dump(config))
    files.write_json(report.LAST, {"snakefile": "Snakefile", "results": "results"})
    for name in ("tiny", "other"):
        for path in (path for job in jobs.drawn_jobs(load_config(config), name) for path in job.paths):
            Path("results", path).parent.mkdir(parents=True, exist_ok=True)
            Path("results", path).write_text(CLAIMS if path.endswith("claims.csv") else "")
    Path("results/tables/begun").mkdir()
    Path("results/tables/begun/overview.html").touch()
    calls: list[list[str]] = []
    monkeypatch.setattr(report, "_snakemake", lambda arguments: calls.append(list(arguments)) or 0)
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
    assert given[given.index("--report") + 1] == "results/report.html"
    said = capsys.readouterr().err
    assert [name for name in ("tiny", "other", "begun") if f"{name}: With the optimal temperature" in said] == found
    assert ("not in the report" in said and "tables/begun/overview.html" in said) == (not arguments)


def test_a_name_of_no_experiment_is_refused(asked):
    with pytest.raises(SpecError, match="did you mean 'other'"):
        report.report(["othr"])
    assert asked == []


def test_what_snakemake_is_told_of_a_configuration_is_left_to_it(asked, capsys):
    mine = ["--configfile", "mine.yaml", "--report", "mine.zip"]
    assert report.report(mine) == 0
    assert report.report(["demo", *mine, "--config", "fetch=false"]) == 0
    assert asked == [mine, [*mine, "--config", 'run=["demo"]', "fetch=false"]]
    assert capsys.readouterr().err == ""
