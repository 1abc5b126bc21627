"""Make Snakemake's report of the last run, whatever it was, or of what arguments name."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from halobench.runner.run import STATE
from halobench.storage import files

LAST, CONFIGURED = STATE / "last-run.json", STATE / "last-run.yaml"  # where the last run was, and its configuration
STYLE = "workflow/report/style.css"  # next to the Snakefile
# Arguments that say what is reported; without one of them it is the last run.
CHOOSING = ("--configfile", "--configfiles", "--config", "-C", "--snakefile", "-s", "--directory", "-d")


def note_run(workflow: Any, config: Mapping[str, Any], results: Path) -> None:
    """Note a run for its report.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    config : mapping
        The merged configuration.
    results : Path
    """
    with files.replacing(CONFIGURED) as temporary:
        temporary.write_text(yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False), encoding="utf-8")
    files.write_json(LAST, {"snakefile": os.path.abspath(workflow.main_snakefile), "results": str(results)})


def report(arguments: Sequence[str]) -> int:
    """Run Snakemake for a report, and print where it is or what Snakemake said; return its exit code.

    Parameters
    ----------
    arguments : sequence of str
        Of Snakemake. Unless one of `CHOOSING` is there, those of the last run are added.
    """
    whole = command(arguments)
    done = subprocess.run([sys.executable, "-m", "snakemake", *whole], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(done.stderr, end="", file=sys.stderr)
    elif "--report" in whole:
        print(f"Report: {whole[whole.index('--report') + 1]}")
    return done.returncode


def command(arguments: Sequence[str]) -> list[str]:
    """Return Snakemake's arguments for a report."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--snakefile", "-s", type=Path, default=Path("Snakefile"))
    parser.add_argument("--report", nargs="?")
    options = parser.parse_known_args(arguments)[0]
    chosen, results, snakefile = list(arguments), Path("results"), options.snakefile
    if LAST.exists() and not any(argument.partition("=")[0] in CHOOSING for argument in arguments):
        last = files.read_json(LAST, ["snakefile", "results"])
        results, snakefile = Path(last["results"]), Path(last["snakefile"])
        chosen += ["--snakefile", str(snakefile), "--configfile", str(CONFIGURED)]
    if options.report is None:
        chosen += ["--report", str(results / "report.html")]
    style = snakefile.parent / STYLE
    return [*chosen, "--report-stylesheet", str(style)] if style.exists() else chosen
