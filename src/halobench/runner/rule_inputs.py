"""Provide the workflow's rules with the inputs, specs and resources of jobs, from the job list."""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

from halobench.core import plugins
from halobench.core.errors import SpecError, require
from halobench.core.specs.codec import to_json
from halobench.experiment import jobs
from halobench.experiment.code_version import code_digest, code_key, code_map
from halobench.experiment.config_file import read_file, typed
from halobench.experiment.figure_choice import file_stem, tables_read
from halobench.experiment.grid import Config
from halobench.experiment.jobs import Job
from halobench.results import status
from halobench.results.inventory import (
    PARTIAL,
    explorer_of_finished,
    list_inventory,
    manifest_of_finished,
    take_inventory,
)
from halobench.runner import end_of_run, run_folder, validation
from halobench.runner.arguments import DEFAULT
from halobench.runner.run_plan import (
    FROZEN,
    attempt,
    check,
    check_claims,
    prepared,
    set_search_paths,
)
from halobench.runner.stage_options import RuleJob, flag, options_of
from halobench.storage import files, records, tables_io
from halobench.storage.columns import KEYS
from halobench.storage.layout import STAGES, TARGETS, Stage
from halobench.storage.manifest import list_files


def prepare(workflow: Any, config: Mapping[str, Any], claims: Path | str) -> RuleInputs:
    """Return the rules' functions, after checking the configuration unless this process has already checked it.

    `config` is the configuration as read by Snakemake, which leaves numbers in lists and mappings of ``--config`` as
    text. `config` isn't changed, since it may belong to another workflow, and Snakemake evaluates a module once per
    ``use rule``.
    """
    set_search_paths(workflow.basedir)
    if workflow.is_main_process and not config.get(FROZEN) and Path(DEFAULT).exists():
        # Snakemake would silently take the last value of a repeated key.
        attempt("The configuration has", read_file, DEFAULT)
    for rule, resources in workflow.resource_settings.overwrite_resources.items():
        if (slots := resources.get("slots_per_gpu")) is not None:
            attempt("The resources have", _check_slots, f"set-resources: {rule}:slots_per_gpu", slots.raw)
    raw = copy.deepcopy(dict(config))
    codes = raw.pop(FROZEN, {})
    # Snakemake has no public name for the values of --config alone; in their lists and mappings, numbers are text.
    values = workflow.config_settings.config
    update_config(raw, typed({key: value for key, value in values.items() if _holds(raw.get(key), value)}))
    if plan := prepared(raw):
        return RuleInputs(plan.config, plan.named, codes)
    where = "" if raw else f" (no {DEFAULT} in {Path.cwd()})"
    checked, named = attempt(f"The configuration{where} has", check, raw)
    if workflow.is_main_process:
        attempt("The claims have", check_claims, claims, checked)
    return RuleInputs(checked, named, codes)


def _check_slots(key: str, slots: Any) -> None:
    require(not isinstance(slots, int) or slots >= 1, key, slots, "at least 1")


def _holds(value: Any, part: Any) -> bool:
    """Return whether a value of the configuration equals `part` or, if both are mappings, contains its values."""
    if isinstance(value, Mapping) and isinstance(part, Mapping):
        return all(_holds(value.get(key), each) for key, each in part.items())
    return bool(value == part)


class RuleInputs:
    """The functions of the rules, which Snakemake calls with the wildcards of a job.

    Rules refer to the results folder as `named`. If the workflow is a module, Snakemake may prefix the paths in rules;
    the method `place` then notes the location of the results folder. `codes` maps each `code_key` to the code version
    at the start of the run.
    """

    def __init__(self, config: Config, named: str, codes: Mapping[str, str]):
        self.config, self.named, self.results, self.codes = config, named, Path(named), codes
        # Take each inventory only once, so that tables and figures show the same finished cells.
        self.inventory = functools.cache(lambda experiment: take_inventory(config, experiment, self.results))
        self._drawn = functools.cache(self._drawn_jobs)
        self._computed = functools.cache(self._computed_paths)
        self._job = functools.cache(lambda stage, names, name: self.job(stage, dict(names), name))
        self._code = functools.cache(
            lambda stage, plugins: codes.get(code_key(stage, plugins)) or code_digest(code_map(stage, plugins))
        )

    def place(self, manifest: str) -> None:
        """Note the location of the results folder, from the path of its manifests, and check the folders below it."""
        self.results = Path(manifest).parents[1]
        end_of_run.note_place(self.results)
        paths = attempt("The figures and tables have", self._paths)
        attempt("The results have", validation.check_folders, [f"{self.results}/{path}" for path in paths])

    def lock(self) -> None:
        """Lock the results folder until this process ends, unless `halobench run` has already done so here."""
        try:
            run_folder.take(self.results)
        except SpecError as error:
            raise WorkflowError(str(error)) from None

    def job(self, stage: str, wildcards: Mapping[str, Any], name: str = "") -> Job:
        """Return a stage's job for its rule's wildcards; `name` is the stem of a figure's or table's files."""
        scope, experiment = wildcards.get("scope", ""), wildcards.get("experiment", "")
        if stage == "explorer" and scope:
            return explorer_of_finished(self.config, {name: self.inventory(name) for name in self.experiments(scope)})
        if stage == "explorer":
            return jobs.explorer_job(self.config, self.config.run)
        if stage == "manifest" and scope:
            return manifest_of_finished(self.inventory(experiment), self.results)
        if stage == "manifest":
            return jobs.manifest_job(self.config, experiment)
        if experiment:
            return self._drawn(experiment, scope)[stage, f"{experiment}/{name}" if name else experiment]
        return jobs.job_of(self.config, stage, {"seed": "0", **wildcards})

    def spec(self, stage: str, name: str = "") -> Callable[[Any], str]:
        """Return a function that returns the spec of a stage's job as JSON."""
        return lambda wildcards: to_json(self.shared_job(stage, wildcards, name).spec)

    def code(self, stage: str, name: str = "") -> Callable[[Any], str]:
        """Return a function that returns the digest of the code of a stage's job, as it was at the start of the run."""
        return lambda wildcards: self._code(stage, self.shared_job(stage, wildcards, name).plugins)

    def digest(self, stage: str) -> Callable[[Any], str]:
        """Return a function that returns a digest of the spec of a stage's job, for specs too long for a command."""
        return lambda wildcards: hashlib.sha256(to_json(self.shared_job(stage, wildcards).spec).encode()).hexdigest()

    def shared_job(self, stage: str, wildcards: Any, name: str = "") -> Job:
        """Return a stage's job without its seed, since many jobs differ only in their seeds."""
        names = tuple(sorted((key, value) for key, value in wildcards.items() if key != "seed"))
        return self._job(stage, names, name)

    def _drawn_jobs(self, experiment: str, scope: str) -> dict[tuple[str, str], Job]:
        """Return the jobs that make an experiment's tables, figures and pages, by stage and key."""
        note = self.inventory(experiment).note if scope else ""
        listed = jobs.drawn_jobs(self.config, experiment, note, scope)
        return {job.name: job for job in listed}

    # --- What differs between the rules of stages ------------------------------------------------------------------
    # Functions of rules come from methods, since a lambda in a rule's body would see the last stage of the loop.

    def inputs(self, stage: Stage) -> dict[str, Any]:
        """Return the input files of a stage's rule, or functions that return them, by the stage that writes them."""
        return {source: self._files(stage, source) for source in stage.reads}

    def _files(self, stage: Stage, source: str) -> Any:
        """Return the paths of files that a stage reads from `source`, or a function of wildcards that returns these."""
        if source in ("source", "weights"):
            return getattr(self, source)
        written, names = STAGES[source], stage.reads[source] or ("{}.json",)
        if set(written.names) <= set(stage.names):
            return [self.path(written, path) for path in written.files(names, written.key)]
        return lambda wildcards: [
            f"{self.named}/{wildcards.scope if written.scoped else ''}{path}"
            for need, key in self.job(stage.name, wildcards).needs
            if need == source
            for path in written.files(names, key)
        ]

    def tables(self, kind: str, name: str) -> dict[str, list[str]]:
        """Return the paths of the tables that a "figure" or "table" reads, and of ``runs``, by the writing stage."""
        names = dict.fromkeys([*attempt(f"The {kind}s have", tables_read, f"{kind}s", name), "runs"])
        place = self.path(STAGES["aggregate"], "tables/{experiment}")
        read = {
            source: [f"{place}/{name}.parquet" for name in names if (name == "claims") == (source == "claims")]
            for source in STAGES[kind].reads
        }
        return {source: paths for source, paths in read.items() if paths}

    def outputs(self, stage: Stage, name: str = "") -> dict[str, Any]:
        """Return a stage's output files by their stems or, if files share a stem, by names such as ``metrics_csv``.

        The outputs of the figure or table `name` are named after their suffixes. The record is also an output.
        """
        key = stage.key.replace("{name}", name)
        files = [file.replace("{}.", "" if stage.each else f"{stage.name}.") for file in stage.writes]
        stems = Counter(file.partition(".")[0] for file in files)
        names = (stem if stems[stem := file.partition(".")[0]] == 1 else file.replace(".", "_") for file in files)
        paths = [*stage.files(stage.writes, key), stage.record_path(key)]
        return dict(zip([*names, "record"], (self.path(stage, path) for path in paths), strict=True))

    def path(self, stage: Stage, path: str) -> str:
        """Return the path of a stage's file, as rules name it."""
        return f"{self.named}/{'{scope}' if stage.scoped else ''}{path}"

    def command(self, stage: str, name: str = "") -> Callable[..., str]:
        """Return a function that returns a job's command, whose options are the parameters of the stage's function."""
        options = options_of(stage)

        def command(wildcards: Any, input: Any, output: Any, resources: Any) -> str:
            job = RuleJob(self, STAGES[stage], name, wildcards, input, output, resources)
            given = ([flag(each), str(option.value(job))] for each, option in options.items())
            return shlex.join(["halobench", "stage", stage, *itertools.chain(*given)])

        return command

    def source(self, wildcards: Any) -> str:
        """Return the file that describes a data set's source and contains the checksums of its arrays."""
        source = self.config.datasets[wildcards.dataset].source
        return f"{self.named}/{STAGES['source'].paths(source)[0]}"

    def weights(self, wildcards: Any) -> str | list[str]:
        """Return the file with the weights that a model is given, or [] if it is given none."""
        model = self.config.models[wildcards.model]
        if model.pretrained:
            return f"{self.named}/{STAGES['weights'].paths(wildcards.model)[0]}"
        if not model.weights:
            return []
        path, place = os.path.normpath(model.weights), f"{self.results}/"
        if path in self._made_weights:
            return f"{self.named}/{path.removeprefix(place)}"
        # A file in the results was left by an earlier configuration, and no rule should treat it as its output and look
        # for a cell that is gone. A file elsewhere must not get a prefix.
        return os.path.abspath(path) if path.startswith(place) or place != f"{self.named}/" else model.weights

    @functools.cached_property
    def _made_weights(self) -> set[str]:
        """Return the paths of the weights files that rules write for this configuration."""
        cells = {cell.path for name in self.config.experiments for cell in self.config.cells(name)}
        fetched = [name for name, model in self.config.models.items() if model.pretrained]
        paths = [STAGES["train"].paths(cell)[0] for cell in cells] + [STAGES["weights"].paths(m)[0] for m in fetched]
        return {f"{self.results}/{path}" for path in paths}

    def computed(self, wildcards: Any) -> list[str]:
        """Return the paths of the files from which an experiment's tables are made."""
        return [f"{self.named}/{path}" for path in self._computed(wildcards.experiment)]

    def _computed_paths(self, experiment: str) -> list[str]:
        listed = [job for job in jobs.computed_jobs(self.config, experiment) if job.stage in STAGES["manifest"].reads]
        # Only later stages of the same cell read weights and logits.
        return [path for job in listed for path in job.paths if not path.endswith(".safetensors")]

    def write_manifest(self, experiment: str, out: str, missing: str = "") -> None:
        """Write an experiment's manifest unless a result is outdated; with `missing`, list unfinished cells there.

        Snakemake alone can take an outdated result for a current one, for example after ``.snakemake`` was removed.
        """
        listed: Mapping[str, Any]
        if missing:
            listed = list_inventory(self.inventory(experiment), self.results)
            tables_io.write_csv(missing, pd.DataFrame(listed["missing"], columns=[*KEYS, "stage", "why"]))
        else:
            computed = jobs.computed_jobs(self.config, experiment)
            try:
                status.require_current(computed, self.results, self.codes)
            except SpecError as error:
                raise WorkflowError(str(error)) from None  # an exit would leave Snakemake waiting for the job
            listed = jobs.manifest_job(self.config, experiment).spec
        files.write_json(out, records.seal(list_files(listed, self.results)))

    def targets(self, stages: tuple[str, ...] = ()) -> list[str]:
        """Return the paths of the experiments' tables, figures and pages, and of the files that tables are made from.

        If `stages` are given, the files of these stages are returned instead. Each file is listed, so that deleted
        files are recreated.
        """
        return [f"{self.named}/{path}" for path in self._paths(stages)]

    def target(self, name: str) -> Callable[[Any], list[str]]:
        """Return a function that returns the files of a target."""
        return lambda wildcards: self.targets(TARGETS[name])

    def _paths(self, stages: tuple[str, ...] = ()) -> list[str]:
        listed = jobs.jobs(self.config)
        if stages:
            return [path for job in listed if job.stage in stages for path in job.paths]
        return [path for name in self.config.run for path in self._computed(name)] + self._shown(self.config.run)

    def partial_targets(self, wildcards: Any) -> list[str]:
        """Return the files made from finished cells, for each experiment that has finished cells."""
        if not (begun := self.experiments(PARTIAL)):
            sys.exit(f"partial: no cell of {', '.join(self.config.run)} has finished yet")
        return [f"{self.named}/{path}" for path in self._shown(begun, PARTIAL)]

    def _shown(self, experiments: Any, scope: str = "") -> list[str]:
        """Return the paths of the experiments' tables, figures and pages."""
        listed = [job for experiment in experiments for job in self._drawn(experiment, scope).values()]
        return [
            path for job in [*listed, jobs.explorer_job(self.config, experiments, scope=scope)] for path in job.paths
        ]

    def experiments(self, scope: str = "") -> list[str]:
        """Return the experiments to show; in a partial run, experiments without a finished cell are left out."""
        return [name for name in self.config.run if not scope or self.inventory(name).cells]

    def displays(self, kind: str) -> dict[str, str]:
        """Return the names of figures or tables of the package and the configuration, by the stems of their files."""
        named = [name for experiment in self.config.experiments for name in getattr(self.config, kind)(experiment)]
        return {file_stem(name): name for name in (*plugins.names(kind), *named)}

    def recipe(self, wildcards: Any) -> Any:
        """Return a cell's recipe."""
        return self.config.recipe(wildcards.dataset, wildcards.model)

    def runs_here(self, stage: Stage) -> bool:
        """Return whether a stage is never sent to a cluster: it uses no device, and ``submit`` doesn't list it."""
        return not stage.device and stage.name not in self.config.submit
