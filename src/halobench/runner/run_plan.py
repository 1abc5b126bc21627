"""Load the configuration of a run with all checks that precede any job, freeze it for the jobs, and survey results."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from halobench.core import plugins
from halobench.core.errors import SpecError, describe_error
from halobench.core.specs.calibrator import CALIBRATORS
from halobench.data import data_root
from halobench.experiment import jobs as job_list
from halobench.experiment.code_version import code_digest, code_key, code_map
from halobench.experiment.config_loader import ConfigError
from halobench.experiment.grid import Config
from halobench.results import status
from halobench.results.inventory import partial_jobs
from halobench.runner import run_folder, validation
from halobench.runner.arguments import DEFAULT, Arguments, configuration
from halobench.runner.end_of_run import CLAIMS
from halobench.storage import files

_plans: list[RunPlan] = []  # of this process
FROZEN = "frozen"  # holds jobs' code versions; marks a configuration as complete, so no default file is read


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """A checked configuration, as `load` prepares it once for a run."""

    raw: Mapping[str, Any]  # the configuration as read
    config: Config
    folder: Path  # the runs' working directory
    named: str  # the results folder, as rules name it
    workflow: Path  # the folder of the workflow's files

    @property
    def results(self) -> Path:
        """Return the path of the results folder."""
        return self.folder / self.named

    def survey(self, which: str = "run") -> tuple[list[job_list.Job], dict[status.Name, status.State]]:
        """Return the jobs, with their states, of the experiments to "run", "all" experiments or "partial" results."""
        with contextlib.chdir(self.folder):
            if which == "partial":
                listed = partial_jobs(self.config, Path(self.named))
            else:
                listed = job_list.jobs(self.config, self.config.experiments if which == "all" else None)
            return listed, status.survey(listed, Path(self.named), {job.name: self._read_by(job) for job in listed})

    def _read_by(self, job: job_list.Job) -> dict[str, str]:
        """Return the checksum of the claims file, which no job writes, for a job of the claims stage; {} for others."""
        if job.stage == "claims":
            return {"claims": status.file_digest(claims_file(self.workflow))}
        return {}

    def freeze(self, jobs: Iterable[job_list.Job]) -> Path:
        """Write the configuration and the jobs' code versions to one file for this run's jobs, and return its path."""
        codes = {code_key(*kind): code_digest(code_map(*kind)) for kind in {(job.stage, job.plugins) for job in jobs}}
        path = run_folder.folder_of(self.results).absolute() / run_folder.CONFIGURATION
        with files.replacing(path) as temporary:
            temporary.write_text(yaml.safe_dump({**self.raw, FROZEN: dict(sorted(codes.items()))}, sort_keys=False))
        return path


def load(parsed: Arguments) -> RunPlan | None:
    """Return the plan for Snakemake's arguments; if the configuration has problems, print them and return None.

    A workflow that this process then runs uses the same plan.
    """
    snakefile = parsed.snakefile
    assert snakefile is not None
    folder = snakefile.absolute().parent
    workflow = folder if (folder / "rules").is_dir() else folder / "workflow"
    if str(folder) not in sys.path:  # as in Snakemake, so that ``module:object`` means the same
        sys.path.insert(0, str(folder))
    try:
        raw = configuration(parsed.options)
        with contextlib.chdir(parsed.options.directory):
            config, named = check(raw)
            check_claims(claims_file(workflow), config)
    except ConfigError as error:
        here = parsed.options.directory
        where = "" if (here / DEFAULT).exists() else f" (no {DEFAULT} in {here.absolute()})"
        print("\n".join([f"The configuration{where} has problems:", *error.problems]), file=sys.stderr)
        return None
    plan = RunPlan(raw, config, parsed.options.directory, named, workflow)
    _plans.append(plan)
    return plan


def prepared(raw: Mapping[str, Any]) -> RunPlan | None:
    """Return the plan that this process has prepared for this configuration and working directory, if there is one."""
    return next((plan for plan in _plans if plan.raw == raw and plan.folder.resolve() == Path.cwd()), None)


def set_search_paths(folder: Path | str) -> None:
    """Let jobs find `halobench`, even without an active environment, and ``module:object`` in the Snakefile's folder.

    The paths must be set in the same way by the rules and before the fork server starts, since a job with different
    paths isn't forked.
    """
    _set_path("PATH", str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))
    _set_path("PYTHONPATH", os.environ.get("PYTHONPATH"), str(folder))


def _set_path(variable: str, *paths: str | None) -> None:
    folders = os.pathsep.join(filter(None, paths)).split(os.pathsep)
    os.environ[variable] = os.pathsep.join(dict.fromkeys(folders))


def check(raw: Mapping[str, Any]) -> tuple[Config, str]:
    """Return a configuration and its results folder, after `validation.load_checked` has checked the configuration."""
    data_root.note(raw)
    folder = raw.get("results")
    named = os.path.normpath(folder) if isinstance(folder, str) and folder else "results"
    try:
        kind = os.stat(named).st_mode
    except FileNotFoundError:  # made by the run
        kind = stat.S_IFDIR
    except OSError as error:  # such as a circle of links
        raise ConfigError([f"results: {named} can't be used ({describe_error(error)}); name a folder"]) from None
    if not stat.S_ISDIR(kind):
        raise ConfigError([f"results: {named} is no folder; name another one"])
    return validation.load_checked(raw, files.user_cache() / "halobench", Path(named)), named


def claims_file(workflow: Path) -> Path:
    """Return workflow/claims.yaml in the working directory or, if it doesn't exist, claims.yaml in `workflow`."""
    return Path(CLAIMS) if Path(CLAIMS).exists() else workflow / "claims.yaml"


def check_claims(path: Path | str, config: Config) -> None:
    """Raise ConfigError if the claims file has problems.

    Claims are judged only after everything else has been computed, so problems would otherwise appear late.
    """
    from halobench.analysis.claims import check_computed, load_claims

    calibrators = (*CALIBRATORS, *plugins.names("calibrators"), *config.calibrate.names)
    try:
        claims = load_claims(path)
        check_computed(claims, config.calibrate.scores, calibrators)
    except SpecError as error:
        raise ConfigError([str(error)]) from None


def attempt(what: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a call; if it reports problems, print a line for each and exit before any job runs."""
    try:
        return call(*arguments)
    except (ConfigError, SpecError) as error:
        problems = getattr(error, "problems", [str(error)])
        sys.exit("\n".join([f"{what} problems:", *problems]))
