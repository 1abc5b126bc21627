"""Make the workflow's checks before its first job, and tidy up after its last, in one call each."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from snakemake.utils import update_config

from halobench.core.errors import SpecError, hint, one_of, require
from halobench.data import data_root
from halobench.experiment import validation
from halobench.experiment.config_file import check_file, typed
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.experiment.grid import Config
from halobench.runner import cluster_run, disk_space, fork_server, logs, outcome, preflight
from halobench.runner import run as controller
from halobench.runner.outcome import CLAIMS
from halobench.runner.report import note_run
from halobench.runner.rule_inputs import RuleInputs
from halobench.runner.slurm.checks import ASKED
from halobench.runner.slurm.queue import SlurmError
from halobench.storage import files

# Resources that profiles and rules request from SLURM, Snakemake and the workflow.
RESOURCES = {*ASKED, "mem", "mem_mib", "mem_mb_per_cpu", "disk", "disk_mb", "disk_mib", "tmpdir", "tasks", "clusters"}
RESOURCES |= {"shard", "slots_per_gpu", "submit", "checkpoint_seconds"}


def attempt(what: str, check: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of `check`; if it finds problems, print a line for each and exit before any job runs."""
    try:
        return check(*arguments)
    except (ConfigError, SpecError, SlurmError) as error:
        problems = getattr(error, "problems", [str(error)])
        sys.exit("\n".join([f"{what} problems:", *problems]))


class Startup:
    """The checks around a run of the workflow.

    Snakemake processes that run a single job on a cluster node don't repeat the checks of their main process. They use
    the configuration and code that the run was started with, even if files have been edited since.

    The workflow may be a module of another one, which then provides its configuration and may add a prefix to its
    paths.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    claims : callable
        Returns the workflow's own claims file, as its ``source_path`` provides it.

    Attributes
    ----------
    frozen : mapping or None
        The configuration that the run was started with, if this is a job's Snakemake.
    claims : str
        The claims file next to the configuration, or else the workflow's own.
    results : Path
        The results folder.
    """

    def __init__(self, workflow: Any, claims: Callable[[], str]):
        self.workflow = workflow
        self.began = time.time()
        self.frozen = None if workflow.is_main_process else cluster_run.started_with()
        self.claims = self._place(claims)
        self.results = Path("results")
        self.report: Mapping[str, Any] = {}
        self.is_module = workflow.modifier.skip_configfile  # the surrounding workflow provides the configuration
        if self.frozen is None:
            # Do this before Snakemake reads them, since it would silently take the last value of a repeated key.
            default = [] if self.is_module else ["config.yaml"]
            for path in dict.fromkeys([*default, *workflow.configfiles, *workflow.overwrite_configfiles]):
                if Path(path).exists():
                    attempt("The configuration has", check_file, path)

    def _prefixed(self, path: str) -> str:
        """Return a rule's path as it is on disk."""
        return self.workflow.modifier.path_modifier.replace_prefix(path)

    def _place(self, find: Callable[[], str]) -> str:
        """Return the path by which rules refer to the claims file."""
        try:
            claims = find()
        except FileNotFoundError:
            return CLAIMS  # reported along with any other problems with the claims
        return self.named(CLAIMS if Path(CLAIMS).exists() else claims)

    def named(self, path: str) -> str:
        """Return the path by which rules refer to a file. It is relative, so moving the folder reruns nothing."""
        original = getattr(path, "flags", {}).get("sourcecache_entry", path)
        if not Path(original).exists():
            return path  # a copy of a remote file
        relative = os.path.relpath(original)
        return relative if self._prefixed(relative) == relative else os.path.abspath(relative)

    def load(self, config: dict[str, Any]) -> RuleInputs:
        """Return the input functions for a configuration, after all checks that don't need the list of jobs to run.

        Values set by ``--config`` are read as YAML.
        """
        # Jobs must find `halobench` even if this Python's environment isn't activated, and import
        # ``module:object`` from the Snakefile's folder, as this process does.
        _set_path("PATH", str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))
        _set_path("PYTHONPATH", os.environ.get("PYTHONPATH"), str(self.workflow.basedir))
        update_config(config, typed(self.workflow.config_settings.config))
        data_root.note(config)
        named = results_folder(config)
        self.results = Path(self._prefixed(f"{named}/"))
        outcome.note_place(self.results)
        if self.frozen is not None:
            return RuleInputs(load_config(config), self.results, named)
        where = "" if self.is_module or Path("config.yaml").exists() else f" (no config.yaml in {Path.cwd()})"
        what, cache = f"The configuration{where} has", controller.STATE
        checked, self.report = attempt(what, validation.load_checked, config, cache, self.results)
        inputs = RuleInputs(checked, self.results, named)
        if self.workflow.is_main_process:
            attempt("The working directory has", files.check_writable, controller.STATE)
            if not self.workflow.output_settings.dryrun:  # `workflow.dryrun` isn't known yet
                controller.enrol(Path.cwd())
            outcome.at_end_of_dry_run.append(lambda: self._check_jobs(checked, exclude_finished=False))
            self._check(checked, inputs)
            if controller.is_run():  # even if there is nothing left to do, in which case Snakemake calls no handler
                note_run(self.workflow, config, self.results)
        return inputs

    def _check(self, config: Config, inputs: RuleInputs) -> None:
        """Check the command line, the claims and what earlier runs left behind."""
        attempt("The command line has", check_resources, self.workflow)
        attempt("The claims have", preflight.check_claims, self.claims)
        attempt("The results have", validation.check_folders, map(self._prefixed, inputs.targets()))
        attempt("The results have", files.check_writable, self.results)
        attempt("The results have", preflight.check_results, config, self.results)

        def note_request(path: str) -> None:
            # Snakemake lists a folder only once, perhaps before this file was written, and takes unlisted files for
            # missing.
            self.workflow.iocache.exists_local[path] = True

        inputs.after_request = note_request

    def check_rules(self) -> None:
        """Check, once all rules are known, that the command line refers to no other rules."""
        if self.workflow.is_main_process:
            attempt("The command line has", check_rules, self.workflow)

    def keep_handlers(self, **handlers: Callable[[], Any]) -> None:
        """Register handlers that Snakemake ignores if the workflow is a module; the outer workflow's run first."""
        if not self.workflow.modifier.is_main_snakefile():
            for name, handler in handlers.items():
                vars(self.workflow)[f"_{name}"] = _both(vars(self.workflow)[f"_{name}"], handler)

    def before_jobs(self, config: Mapping[str, Any], checked: Config) -> None:
        """Check the disk and the cluster, and start the server that forks for jobs."""
        attempt("The disk has", disk_space.require_room, checked, self.report, self.results)
        self._check_jobs(checked)
        cluster_run.start(config)
        if not controller.is_run():
            note_run(self.workflow, config, self.results)
        if cluster_run.executor(self.workflow) == "local":
            fork_server.start()

    def _check_jobs(self, checked: Config, **which: bool) -> None:
        """Check that the run's jobs can write, and report which trained cells they replace.

        `which` is passed to Snakemake's list of jobs.
        """
        jobs = list(self.workflow.dag.needrun_jobs(**which))
        attempt("The results have", preflight.check_folders_writable, jobs)
        outputs = {str(path) for job in jobs for path in job.output}
        for line in preflight.replaced_cells(checked, self.results, outputs):
            outcome.say(line)

    def after_jobs(self, report: Callable[[str], Any] | None = None) -> None:
        """Tidy up after the last job; if the run failed, `report` which jobs failed."""
        if report is None:
            return
        for folder in (self.results, self.results / "partial"):
            if failed := logs.failed(folder, self.began, cluster_run.logs(self.workflow)):
                report(logs.table(failed))
        if full := disk_space.full_disk_line(self.results):
            report(full)


def results_folder(config: Mapping[str, Any]) -> str:
    """Return the results folder, as rules refer to it, of a configuration that hasn't been checked yet."""
    folder = config.get("results")
    return os.path.normpath(folder) if isinstance(folder, str) and folder else "results"


def _both(first: Callable[[Any], Any], second: Callable[[], Any]) -> Callable[[Any], None]:
    """Combine two handlers into one for Snakemake."""

    def handle(log: Any) -> None:
        first(log)
        second()

    return handle


def _set_path(variable: str, *paths: str | None) -> None:
    """Set a search path for jobs."""
    os.environ[variable] = os.pathsep.join(filter(None, paths))


def check_rules(workflow: Any) -> None:
    """Refuse resources set for rules that don't exist, and names that resemble those of known resources."""
    names = {rule.name for rule in workflow.rules}
    for name, resources in workflow.resource_settings.overwrite_resources.items():
        require(name in names, "--set-resources, rule", name, one_of(names, name))
        for key in set(resources) - RESOURCES:
            near = hint(RESOURCES, key)
            require(not near, f"--set-resources {name}", key, f"the name of a resource{near}")


def check_resources(workflow: Any) -> None:
    """Refuse numbers that a stage would refuse only after Snakemake has deleted the results of earlier jobs."""
    cores = workflow.resource_settings.cores
    require(cores is None or cores >= 1, "--cores", cores, "at least 1 core")
    settings = workflow.resource_settings.overwrite_resources
    cap = getattr(workflow.global_resources.get("gpu"), "value", None)
    for name in ("train", "probe"):
        gpus = getattr(settings.get(name, {}).get("gpu"), "raw", 0)
        what = f"at most {cap}, the number of slots that all jobs share (--resources gpu={cap})"
        # Snakemake would give the job less than it requests.
        fits = cap is None or not isinstance(gpus, int) or gpus <= cap
        require(fits, f"--set-resources {name}:gpu", gpus, what)
        slots = getattr(settings.get(name, {}).get("slots_per_gpu"), "raw", 1)
        bad = isinstance(slots, int) and slots < 1
        require(not bad, f"--set-resources {name}:slots_per_gpu", slots, "at least 1 job per GPU")
