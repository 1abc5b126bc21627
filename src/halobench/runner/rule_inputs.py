"""Input functions for the workflow's rules; they look up each rule's inputs and outputs in the job list."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from halobench.core import plugins
from halobench.experiment import jobs
from halobench.experiment.displays import file_stem
from halobench.experiment.grid import Config
from halobench.experiment.jobs import Job
from halobench.results.inventory import list_inventory, take_inventory
from halobench.storage.layout import CELL_STAGES, EXPLORED, STAGES
from halobench.storage.requests import write_request

DRAWN = ("aggregate", "claims", "table", "figure", "overview")  # stages that run on an experiment as a whole


class RuleInputs:
    """The input functions of the rules, which Snakemake calls with the wildcards of a job.

    Parameters
    ----------
    config : Config
        The configuration.
    results : Path
        The results folder.
    named : str
        The same folder as rules refer to it. If the workflow is a module, Snakemake may prefix the paths in rules.
    """

    def __init__(self, config: Config, results: Path, named: str):
        self.config, self.results, self.named = config, results, named
        self.after_request: Callable[[str], None] = lambda path: None  # called while Snakemake builds its graph of jobs
        # Take each inventory only once, so tables and figures show the same finished cells.
        self.inventory = functools.cache(lambda experiment: take_inventory(config, experiment, results))
        self._drawn = functools.cache(self._drawn_jobs)
        self._computed = functools.cache(self._computed_paths)
        self._request = functools.cache(self._write_request)

    def job(self, stage: str, wildcards: Mapping[str, Any], name: str = "") -> Job:
        """Return a stage's job for the wildcards of its rule; `name` is the name of a figure's or table's files."""
        scope, experiment = wildcards.get("scope", ""), wildcards.get("experiment", "")
        if stage == "explorer":
            shown = self.experiments(scope)
            notes = {name: note for name in shown if scope and (note := self.inventory(name).note)}
            return jobs.explorer_job(shown, notes or "", scope)
        if stage == "manifest" and scope:
            listed = list_inventory(self.inventory(experiment), self.results)
            return Job("manifest", experiment, listed, scope=scope)
        if stage == "manifest":
            return jobs.manifest_job(self.config, experiment)
        if stage in DRAWN:
            return self._drawn(experiment, scope)[stage, f"{experiment}/{name}" if name else experiment]
        return jobs.job_of(self.config, stage, {"seed": "0", **wildcards})

    def request(self, stage: str, name: str = "") -> Callable[[Any], str]:
        """Return the input function that writes the request of a stage's job and returns its path."""

        def path(wildcards: Any) -> str:
            # Jobs that differ only in their seed share a request.
            names = tuple(sorted((key, value) for key, value in wildcards.items() if key != "seed"))
            return self._request(stage, names, name)

        return path

    def _write_request(self, stage: str, wildcards: tuple[tuple[str, str], ...], name: str) -> str:
        path = write_request(self.results, self.job(stage, dict(wildcards), name).request)
        self.after_request(str(path))
        return f"{self.named}/{path.relative_to(self.results)}"

    def _drawn_jobs(self, experiment: str, scope: str) -> dict[tuple[str, str], Job]:
        """Return the jobs that process an experiment as a whole, by stage and key."""
        note = self.inventory(experiment).note if scope else ""
        listed = jobs.drawn_jobs(self.config, experiment, note, scope)
        return {(job.stage, job.key): job for job in listed}

    def source(self, wildcards: Any) -> str:
        """Return the file that describes a data set's source and holds the checksums of its arrays."""
        source = self.config.datasets[wildcards.dataset].source
        return f"{self.named}/{STAGES['source'].paths(source)[0]}"

    def weights(self, wildcards: Any) -> str | list[str]:
        """Return the file with a model's weights, if they come from elsewhere."""
        model = self.config.models[wildcards.model]
        if model.pretrained:
            return f"{self.named}/{STAGES['weights'].paths(wildcards.model)[0]}"
        if not model.weights:
            return []
        path, place = os.path.normpath(model.weights), f"{self.results}/"
        if path in self._made_weights:
            return f"{self.named}/{path.removeprefix(place)}"
        # A file in the results was left by an earlier configuration, so no rule should take it for its output and look
        # for a cell that is gone. A file elsewhere must not get a prefix.
        return os.path.abspath(path) if path.startswith(place) or place != f"{self.named}/" else model.weights

    @functools.cached_property
    def _made_weights(self) -> set[str]:
        """The weight files that rules make for this configuration."""
        cells = {cell.path for name in self.config.experiments for cell in self.config.cells(name)}
        fetched = [name for name, model in self.config.models.items() if model.pretrained]
        paths = [STAGES["train"].paths(cell)[0] for cell in cells] + [STAGES["weights"].paths(m)[0] for m in fetched]
        return {f"{self.results}/{path}" for path in paths}

    def computed(self, wildcards: Any) -> list[str]:
        """Return all files that an experiment's tables are read from."""
        return self._computed(wildcards.experiment)

    def _computed_paths(self, experiment: str) -> list[str]:
        wanted = {*(stage.name for stage in CELL_STAGES), "reference"}
        listed = [job for job in jobs.computed_jobs(self.config, experiment) if job.stage in wanted]
        # Weights and logits are read only by later stages of the same cell.
        paths = [path for job in listed for path in job.paths if not path.endswith(".safetensors")]
        return [f"{self.named}/{path}" for path in paths]

    def targets(self) -> list[str]:
        """Return all results of the experiments to run, file by file, so deleted files are recreated."""
        paths = [path for experiment in self.config.run for path in self._computed(experiment)]
        return paths + self._shown(self.config.run)

    def partial_targets(self, wildcards: Any) -> list[str]:
        """Return the files made from the finished cells of each experiment that has any."""
        if not (begun := self.experiments("partial/")):
            sys.exit(f"partial: no cell of {', '.join(self.config.run)} has finished yet")
        return self._shown(begun, "partial/")

    def _shown(self, experiments: Any, scope: str = "") -> list[str]:
        """Return the experiments' tables, figures and pages."""
        listed = [job for experiment in experiments for job in self._drawn(experiment, scope).values()]
        paths = [path for job in [*listed, jobs.explorer_job(experiments, scope=scope)] for path in job.paths]
        return [f"{self.named}/{path}" for path in paths]

    def experiments(self, scope: str = "") -> list[str]:
        """Return the experiments that are shown (in a partial run, those that have a finished cell)."""
        return [name for name in self.config.run if not scope or self.inventory(name).cells]

    def explored(self, wildcards: Any) -> list[str]:
        """Return the tables of all experiments that the explorer reads."""
        folders = [f"{self.named}/{wildcards.scope}tables/{name}" for name in self.experiments(wildcards.scope)]
        return [f"{folder}/{table}.parquet" for folder in folders for table in EXPLORED]

    def displays(self, kind: str) -> dict[str, str]:
        """Return the figures or tables that have a rule, by file name: the package's own and any others specified."""
        named = [name for experiment in self.config.experiments for name in getattr(self.config, kind)(experiment)]
        return {file_stem(name): name for name in (*plugins.names(kind), *named)}

    def front_figure(self, wildcards: Any) -> str:
        """Return the figure that sums up an experiment: its summary if it has one, or else its first figure."""
        figures = self.config.figures(wildcards.experiment)
        name = "summary" if "summary" in figures else figures[0]
        return f"{self.named}/{wildcards.scope}figures/{wildcards.experiment}/{file_stem(name)}.png"

    def recipe(self, wildcards: Any) -> Any:
        """Return a cell's recipe."""
        return self.config.recipe(wildcards.dataset, wildcards.model)
