"""A checked configuration: cells, what each stage is given for them, and what an experiment consists of."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from halobench.core import plugins
from halobench.core.errors import one_of, require
from halobench.core.spec_codec import canonical
from halobench.core.specs import (
    PROBE_KEYS,
    CalibrateSpec,
    DatasetSpec,
    LossSpec,
    ModelSpec,
    ProbeSpec,
    SourceSpec,
    TrainSpec,
)
from halobench.storage.layout import PAGES, TABLES

IMAGES = "any images"  # in a plug-in's SHOWS: all loaders that are no distribution


def tables_read(kind: str, name: str) -> list[str]:
    """The tables that a figure draws from, or that a table for print is made of, as its signature names them.

    Parameters
    ----------
    kind : {"figures", "tables"}
    name : str

    Raises
    ------
    SpecError
        If it isn't Python, names something else, or is a table that would take the place of one that it reads.
    """
    found, known = plugins.parameters(kind, name), (*TABLES, "claims")
    for table in found:
        what = f"parameters of {plugins.entry(kind, name)} that name tables: {one_of(known, table)}"
        require(table in known, f"{kind}.{name}", table, what)
    taken = kind == "tables" and name in (*known, "aggregate", *PAGES)
    require(not taken, kind, name, "another name: the aggregate, claims and overview stages write files of this one")
    return found


@dataclass(frozen=True, order=True)
class Cell:
    """One trained model: names of its data set, model and loss, and its seed."""

    dataset: str
    model: str
    loss: str
    seed: int

    @property
    def path(self) -> str:
        """Its folder under ``results/runs``."""
        return f"{self.dataset}/{self.model}/{self.loss}/seed{self.seed}"


@dataclass(frozen=True)
class Block:
    """A full grid: every data set x model x loss x seed; `probe` tells whether neighbourhoods are probed."""

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    losses: tuple[str, ...]
    seeds: tuple[int, ...]
    probe: bool = True

    def cells(self) -> Iterator[Cell]:
        """Its cells."""
        return itertools.starmap(Cell, itertools.product(self.datasets, self.models, self.losses, self.seeds))


@dataclass(frozen=True)
class ExperimentSpec:
    """Blocks of cells, and the figures and tables made from them (all that have something to show, unless named)."""

    grid: tuple[Block, ...]
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """A checked configuration."""

    run: tuple[str, ...]
    sources: Mapping[str, SourceSpec]
    datasets: Mapping[str, DatasetSpec]
    models: Mapping[str, ModelSpec]
    losses: Mapping[str, LossSpec]
    recipes: Mapping[tuple[str, str], TrainSpec]
    probes: Mapping[str, ProbeSpec]
    calibrate: CalibrateSpec
    experiments: Mapping[str, ExperimentSpec]

    def cells(self, experiment: str) -> list[Cell]:
        """The distinct cells of an experiment, sorted."""
        return sorted({cell for block in self.experiments[experiment].grid for cell in block.cells()})

    def probed(self, experiment: str) -> frozenset[Cell]:
        """The cells of an experiment whose neighbourhoods are probed: those that are in a block which says so."""
        blocks = self.experiments[experiment].grid
        return frozenset(cell for block in blocks if block.probe for cell in block.cells())

    def figures(self, experiment: str) -> tuple[str, ...]:
        """The figures of an experiment: those that it names, else all that have something to show for its sources."""
        return self.experiments[experiment].figures or self._shown("figures", experiment)

    def tables(self, experiment: str) -> tuple[str, ...]:
        """The tables for print of an experiment: those that it names, else all that have something to show."""
        return self.experiments[experiment].tables or self._shown("tables", experiment)

    def _shown(self, kind: str, experiment: str) -> tuple[str, ...]:
        """The plug-ins of a kind that have something to show for an experiment's sources and the calibrators."""
        datasets = {name for block in self.experiments[experiment].grid for name in block.datasets}
        loaders = {self.sources[self.datasets[name].source].loader for name in datasets}
        found = loaders | ({IMAGES} if loaders - self._distributions else set())
        calibrators = self.calibrate.calibrators
        return tuple(name for name in plugins.names(kind) if _shows(kind, name, found, calibrators))

    def references(self, experiment: str) -> list[tuple[str, int]]:
        """The data set and seed of each calibrator-free reference that an experiment compares with."""
        return sorted({(cell.dataset, cell.seed) for cell in self.cells(experiment)})

    def source_spec(self, source: str) -> dict[str, Any]:
        """What the source stage is given."""
        return canonical(self.sources[source])

    def weights_spec(self, model: str) -> dict[str, Any]:
        """What the weights stage is given."""
        return canonical(ModelSpec(self.models[model].name, pretrained=True))

    def train_spec(self, dataset: str, model: str, loss: str) -> dict[str, Any]:
        """What the train stage is given. Shared: not to be changed."""
        return self._once(("train", dataset, model, loss), self._train_spec, dataset, model, loss)

    def probe_spec(self, dataset: str, model: str) -> dict[str, Any]:
        """What the probe stage is given: of the recipe only how the model is evaluated. Shared: not to be changed."""
        return self._once(("probe", dataset, model), self._probe_spec, dataset, model)

    @functools.cached_property
    def _found(self) -> dict[tuple[str, ...], Any]:
        """What `_once` keeps."""
        return {}

    def _once(self, key: tuple[str, ...], make: Callable[..., Any], *arguments: Any) -> Any:
        """What `make` gives, made once: cells that differ in their seed alone, of which there are many, share it.

        It must not be changed.
        """
        if key not in self._found:
            self._found[key] = make(*arguments)
        return self._found[key]

    def _train_spec(self, dataset: str, model: str, loss: str) -> dict[str, Any]:
        specs = {"dataset": self.datasets[dataset], "model": self.models[model], "loss": self.losses[loss]}
        return {key: canonical(spec) for key, spec in specs.items()} | {
            "train": canonical(self.recipes[dataset, model])
        }

    def _probe_spec(self, dataset: str, model: str) -> dict[str, Any]:
        recipe = self.recipes[dataset, model]
        evaluation = {key: getattr(recipe, key) for key in PROBE_KEYS}
        return {
            "dataset": canonical(self.datasets[dataset]),
            "model": canonical(self.models[model]),
            "train": canonical(TrainSpec(**evaluation)),
            "probes": {name: canonical(spec) for name, spec in self.probes.items()},
        }

    def reference_spec(self, dataset: str) -> dict[str, Any]:
        """What the reference stage is given."""
        return {"dataset": canonical(self.datasets[dataset]), "calibrate": canonical(self.calibrate)}

    def sampler(self, dataset: str) -> list[tuple[str, str]]:
        """The plug-in that draws a data set's points; none where they are cut from images."""
        loader = self.sources[self.datasets[dataset].source].loader
        return [("data", loader)] if loader in self._distributions else []

    @functools.cached_property
    def _distributions(self) -> frozenset[str]:
        """The loaders that are distributions, read once: there may be thousands of cells."""
        loaders = {spec.loader for spec in self.sources.values()}
        return frozenset(filter(plugins.is_distribution, loaders))

    def train_plugins(self, dataset: str, model: str, loss: str) -> list[tuple[str, str]]:
        """The plug-ins that a training runs, for its code map."""
        return [("models", self.models[model].name), ("losses", self.losses[loss].name), *self.sampler(dataset)]

    def probe_plugins(self, dataset: str, model: str) -> list[tuple[str, str]]:
        """The plug-ins that a probe runs, for its code map."""
        walks = [plugin for probe in self.probes.values() for plugin in probe.plugged]
        return [("models", self.models[model].name), *self.sampler(dataset), *walks]

    def calibrate_spec(self) -> dict[str, Any]:
        """What the calibrate stage is given. Shared: not to be changed."""
        return self._once(("calibrate",), canonical, self.calibrate)

    def used(self, experiment: str) -> dict[str, Any]:
        """What of a configuration an experiment uses, default values left out; recipes by data set and model."""
        cells = self.cells(experiment)
        datasets, models, losses = (sorted({getattr(cell, k) for cell in cells}) for k in ("dataset", "model", "loss"))
        sources = sorted({self.datasets[name].source for name in datasets})
        pairs = sorted({(cell.dataset, cell.model) for cell in cells})
        return {
            "experiments": {experiment: _plain(self.experiments[experiment])},
            "sources": {name: canonical(self.sources[name]) for name in sources},
            "datasets": {name: canonical(self.datasets[name]) for name in datasets},
            "models": {name: canonical(self.models[name]) for name in models},
            "losses": {name: canonical(self.losses[name]) for name in losses},
            "recipes": {f"{d}/{m}": canonical(self.recipes[d, m]) for d, m in pairs},
            "probes": {name: canonical(spec) for name, spec in self.probes.items()},
            "calibrate": self.calibrate_spec(),
        }


def _plain(experiment: ExperimentSpec) -> dict[str, Any]:
    """An experiment as plain data, default values left out."""
    blocks = [
        {"datasets": list(block.datasets), "models": list(block.models), "losses": list(block.losses)}
        | {"seeds": list(block.seeds)}
        | ({} if block.probe else {"probe": False})
        for block in experiment.grid
    ]
    named = {kind: list(getattr(experiment, kind)) for kind in ("figures", "tables") if getattr(experiment, kind)}
    return {"grid": blocks, **named}


def _shows(kind: str, name: str, loaders: Iterable[str], calibrators: Iterable[str]) -> bool:
    """Whether a figure or table has something to show for some of these sources, after these calibrators.

    Any will do, unless its file names loaders in SHOWS, or calibrators in BEYOND that alone are not enough.
    """
    shows, beyond = (plugins.constant(kind, name, attribute) for attribute in ("SHOWS", "BEYOND"))
    fits = shows is None or bool(set(shows) & set(loaders))
    return fits and (beyond is None or bool(set(calibrators) - set(beyond)))
