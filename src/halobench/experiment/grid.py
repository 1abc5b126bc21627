"""Expand a checked configuration into grids of cells and the specs of stages."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from halobench.core import plugins
from halobench.core.errors import SpecError, refuse
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.core.specs.codec import canonical, parse, spec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import PROBE_KEYS, TrainSpec
from halobench.data.sources import is_distribution
from halobench.experiment.figure_choice import ALL, IMAGES, LADDER_DISPLAY, has_content
from halobench.experiment.sections import Cell, ProbeEntry, Sections
from halobench.storage.columns import NO_LOSS
from halobench.storage.layout import CELL_STAGES

Method = TypeVar("Method", bound=Callable[..., Any])


def _once(method: Method) -> Method:
    """Cache the results of a method of `Config` that thousands of cells call with the same arguments."""

    @functools.wraps(method)
    def cached(self: Any, *arguments: str) -> Any:
        key = (method.__name__, *arguments)
        if key not in self._results:
            self._results[key] = method(self, *arguments)
        return self._results[key]

    return cached  # type: ignore[return-value]


@functools.cache
def _parameters(method: str) -> tuple[str, ...]:
    return tuple(inspect.signature(getattr(Config, method)).parameters)[1:]


@spec
class Config(Sections):
    """A configuration, whose names are checked for consistency by `halobench.experiment.config_loader`."""

    @functools.cached_property
    def _results(self) -> dict[tuple[str, ...], Any]:
        return {}

    # --- Cells ---------------------------------------------------------------------------------------------------

    def cells(self, experiment: str) -> list[Cell]:
        return self.experiments[experiment].cells()

    def is_sound(self, cell: Cell) -> bool:
        """Return whether the configuration has everything that a cell refers to, and a consistent recipe for it."""
        named = cell.dataset in self.datasets and cell.model in self.models and cell.loss in self.losses
        if not named or self.datasets[cell.dataset].source not in self.sources:
            return False
        try:
            self.recipe(cell.dataset, cell.model)
        except SpecError:
            return False
        return True

    def probed(self, experiment: str) -> frozenset[Cell]:
        """Return an experiment's probed cells, i.e. the cells in blocks with `probe`."""
        blocks = self.experiments[experiment].grid
        return frozenset(cell for block in blocks if block.probe for cell in block.cells())

    def laddered(self, experiment: str) -> frozenset[Cell]:
        """Return the cells with a repair ladder: all cells if the experiment shows `repair`, and otherwise none."""
        shown = (*self.figures(experiment), *self.tables(experiment))
        return frozenset(self.cells(experiment) if LADDER_DISPLAY in shown else ())

    @_once
    def stages(self, experiment: str) -> dict[Cell, tuple[str, ...]]:
        """Return the stages of each cell of an experiment, in the order in which the stages run."""
        for stage in CELL_STAGES:
            known = hasattr(self, stage.cells or "cells")
            refuse(
                not known, f"stages.{stage.name}: cells", f"Config has no method {stage.cells!r}; define it in grid.py"
            )
        chosen = {s.name: frozenset(getattr(self, s.cells or "cells")(experiment)) for s in CELL_STAGES}
        return {cell: tuple(name for name in chosen if cell in chosen[name]) for cell in self.cells(experiment)}

    def references(self, experiment: str) -> list[tuple[str, int]]:
        """Return the pairs of data set and seed for which an experiment scores untrained references."""
        return sorted({(cell.dataset, cell.seed) for cell in self.cells(experiment)})

    # --- Figures and tables --------------------------------------------------------------------------------------

    def figures(self, experiment: str) -> tuple[str, ...]:
        return self._chosen("figures", experiment)

    def tables(self, experiment: str) -> tuple[str, ...]:
        return self._chosen("tables", experiment)

    @_once
    def _chosen(self, kind: str, experiment: str) -> tuple[str, ...]:
        named = getattr(self.experiments[experiment], kind)
        named = (ALL,) if named is None else named
        names = (self._with_content(kind, experiment) if name == ALL else [name] for name in named)
        return tuple(dict.fromkeys(itertools.chain.from_iterable(names)))

    def _with_content(self, kind: str, experiment: str) -> list[str]:
        """Return the plug-ins of a kind that have something to show for an experiment."""
        datasets = {name for block in self.experiments[experiment].grid for name in block.datasets}
        loaders = {self.sources[self.datasets[name].source].loader for name in datasets}
        images = {IMAGES} if loaders - self.distributions else set()
        models = {cell.model for cell in self.probed(experiment)}
        probes = {probe.kind for probe in self.probes.values() if any(map(probe.visits, models))}
        losses = {name for block in self.experiments[experiment].grid for name in block.losses} - {NO_LOSS}
        shown, calibrators = loaders | images | probes, self.calibrate.names
        return [name for name in plugins.names(kind) if has_content(kind, name, shown, calibrators, len(losses))]

    # --- Tasks of stages -----------------------------------------------------------------------------------------
    # The methods NAME_spec and NAME_plugins give the task of the stage NAME; their parameters are wildcards of its
    # rule. Specs are canonical plain data, without default values. Cells that differ only in their seeds share them.

    def task(self, stage: str, names: Mapping[str, str]) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
        """Return the spec of a stage's job and the plug-ins that it runs, as kind and name; both may be empty."""
        methods = (getattr(self, f"{stage}_{part}", None) for part in ("spec", "plugins"))
        spec, plugged = (method and method(*map(names.__getitem__, _parameters(method.__name__))) for method in methods)
        return spec or {}, tuple(plugged or ())

    def layers(self, dataset: str, model: str) -> dict[str, Mapping[str, Any]]:
        """Return the layers of a recipe by their places in the configuration; each layer overrides previous ones."""
        return {
            "train": self.train,
            f"models.{model}.recipe": self.models[model].recipe,
            f"datasets.{dataset}.recipe": self.datasets[dataset].recipe,
        }

    def layer_that_sets(self, dataset: str, model: str, key: str) -> str:
        """Return the place of the last layer of a recipe that sets a key; ``train`` if none does."""
        layers = self.layers(dataset, model)
        return next((place for place in reversed(layers) if key in layers[place]), "train")

    @_once
    def recipe(self, dataset: str, model: str) -> TrainSpec:
        """Return the recipe of a data set and model, merged from its layers."""
        merged = {key: value for layer in self.layers(dataset, model).values() for key, value in layer.items()}
        try:
            return parse(TrainSpec, merged)
        except SpecError as error:
            raise error.within(self.layer_that_sets(dataset, model, error.key)) from None

    @functools.cached_property
    def calibrate(self) -> CalibrateSpec:
        shared = {each.name: getattr(self.metrics, each.name) for each in dataclasses.fields(self.metrics)}
        return CalibrateSpec(self.calibrators, **shared)

    @_once
    def source_spec(self, source: str) -> dict[str, Any]:
        return canonical(self.sources[source])

    def weights_spec(self, model: str) -> dict[str, Any]:
        """Return the spec of a weights stage, which downloads the published weights of a model."""
        spec = self.models[model]
        return canonical(ModelSpec(spec.name, pretrained=spec.pretrained))

    @_once
    def train_spec(self, dataset: str, model: str, loss: str) -> dict[str, Any]:
        parts = {"dataset": self.datasets[dataset], "model": self.models[model], "loss": self.losses[loss]}
        return canonical({**parts, "train": self.recipe(dataset, model)})

    @_once
    def probe_spec(self, dataset: str, model: str) -> dict[str, Any]:
        """Return the spec of a probe stage, with only the recipe keys that control how a model is evaluated."""
        recipe = self.recipe(dataset, model)
        train = TrainSpec(**{key: getattr(recipe, key) for key in PROBE_KEYS})
        parts = {"dataset": self.datasets[dataset], "model": self.models[model], "train": train}
        return canonical({**parts, "probes": self.probes_of(model)})

    @_once
    def calibrate_spec(self) -> dict[str, Any]:
        return canonical(self.calibrate)

    @_once
    def reference_spec(self, dataset: str) -> dict[str, Any]:
        return canonical({"dataset": self.datasets[dataset], "calibrate": self.calibrate})

    def used(self, experiment: str) -> dict[str, Any]:
        """Return the part of the configuration that an experiment uses, as plain data without default values.

        The layers of recipes are merged into one recipe for each pair of data set and model in its grid.
        """
        cells = self.cells(experiment)
        datasets, models, losses = (sorted({getattr(cell, k) for cell in cells}) for k in ("dataset", "model", "loss"))
        sources = sorted({self.datasets[name].source for name in datasets})
        pairs = sorted({(cell.dataset, cell.model) for cell in cells})
        used = {
            "experiments": {experiment: self.experiments[experiment]},
            "sources": {name: self.sources[name] for name in sources},
            "datasets": {name: self.datasets[name] for name in datasets},
            "models": {name: self.models[name] for name in models},
            "losses": {name: self.losses[name] for name in losses},
            "recipes": {f"{d}/{m}": self.recipe(d, m) for d, m in pairs},
            "probes": {name: probe for name, probe in self.probes.items() if any(map(probe.visits, models))},
            "calibrate": self.calibrate,
        }
        return canonical(used)

    # --- Plug-ins ------------------------------------------------------------------------------------------------

    @functools.cached_property
    def distributions(self) -> frozenset[str]:
        """Return the loaders that are distributions; their files are read once, as there may be thousands of cells."""
        return frozenset(filter(is_distribution, {source.loader for source in self.sources.values()}))

    def sampler(self, dataset: str) -> list[tuple[str, str]]:
        """Return a list with the plug-in that draws a data set's samples, or an empty list if no plug-in does."""
        loader = self.sources[self.datasets[dataset].source].loader
        return [("data", loader)] if loader in self.distributions else []

    def source_plugins(self, source: str) -> list[tuple[str, str]]:
        return [("data", self.sources[source].loader)]

    def calibrate_plugins(self) -> list[tuple[str, str]]:
        return self.calibrate.plugged

    def reference_plugins(self, dataset: str) -> list[tuple[str, str]]:
        return [*self.sampler(dataset), *self.calibrate.scored_by]

    def repair_plugins(self, dataset: str, model: str) -> list[tuple[str, str]]:
        """Return the plug-ins that a repair stage runs, as kind and name; none if no plug-in draws its samples."""
        drawn = self.sampler(dataset)
        return [("models", self.models[model].name), *drawn] if drawn else []

    def train_plugins(self, dataset: str, model: str, loss: str) -> list[tuple[str, str]]:
        return [("models", self.models[model].name), ("losses", self.losses[loss].name), *self.sampler(dataset)]

    @_once
    def probe_plugins(self, dataset: str, model: str) -> list[tuple[str, str]]:
        """Return the plug-ins that a probe stage runs, as kind and name."""
        directions = [plugin for probe in self.probes_of(model).values() for plugin in probe.plugged]
        return [("models", self.models[model].name), *self.sampler(dataset), *directions]

    def probes_of(self, model: str) -> dict[str, ProbeEntry]:
        return {name: probe for name, probe in self.probes.items() if probe.visits(model)}
