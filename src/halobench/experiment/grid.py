"""A checked configuration: its experiments as grids of cells, on top of the named specs of its sections."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from halobench.core.spec_codec import canonical
from halobench.experiment.displays import IMAGES, KINDS, displayed
from halobench.experiment.sections import Sections


@dataclass(frozen=True, order=True)
class Cell:
    """One trained model: names of its data set, model and loss, and its seed."""

    dataset: str
    model: str
    loss: str
    seed: int

    @property
    def path(self) -> str:
        """Return the cell's folder under ``results/runs``."""
        return f"{self.dataset}/{self.model}/{self.loss}/seed{self.seed}"


@dataclass(frozen=True)
class Block:
    """A full grid: every data set x model x loss x seed; with `probe`, the neighbourhoods of its cells are probed."""

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    losses: tuple[str, ...]
    seeds: tuple[int, ...]
    probe: bool = True

    def cells(self) -> Iterator[Cell]:
        """Yield the cells of the block."""
        return itertools.starmap(Cell, itertools.product(self.datasets, self.models, self.losses, self.seeds))


@dataclass(frozen=True)
class ExperimentSpec:
    """Blocks of cells, and the figures and tables made from them (all that have something to show, unless named)."""

    grid: tuple[Block, ...]
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    def cells(self) -> list[Cell]:
        """Return the distinct cells of all blocks, sorted."""
        return sorted({cell for block in self.grid for cell in block.cells()})

    def plain(self) -> dict[str, Any]:
        """Return the experiment as plain data, without default values."""
        chosen = {kind: list(getattr(self, kind)) for kind in KINDS if getattr(self, kind)}
        return {"grid": [canonical(block) for block in self.grid], **chosen}


@dataclass(frozen=True)
class Config(Sections):
    """A checked configuration: `run` names the experiments that the default target builds."""

    experiments: Mapping[str, ExperimentSpec]
    run: tuple[str, ...]

    def cells(self, experiment: str) -> list[Cell]:
        """Return the distinct cells of an experiment, sorted."""
        return self.experiments[experiment].cells()

    def probed(self, experiment: str) -> frozenset[Cell]:
        """Return the cells of an experiment whose neighbourhoods are probed: those of blocks that say so."""
        blocks = self.experiments[experiment].grid
        return frozenset(cell for block in blocks if block.probe for cell in block.cells())

    def references(self, experiment: str) -> list[tuple[str, int]]:
        """Return the data set and seed of each calibrator-free reference that an experiment compares with."""
        return sorted({(cell.dataset, cell.seed) for cell in self.cells(experiment)})

    def figures(self, experiment: str) -> tuple[str, ...]:
        """Return the figures of an experiment: those that it names, else all that have something to show."""
        return self.experiments[experiment].figures or self._displayed("figures", experiment)

    def tables(self, experiment: str) -> tuple[str, ...]:
        """Return the tables for print of an experiment: those that it names, else all that have something to show."""
        return self.experiments[experiment].tables or self._displayed("tables", experiment)

    def _displayed(self, kind: str, experiment: str) -> tuple[str, ...]:
        """Return the plug-ins of a kind that have something to show for an experiment's sources and the calibrators."""
        datasets = {name for block in self.experiments[experiment].grid for name in block.datasets}
        loaders = {self.sources[self.datasets[name].source].loader for name in datasets}
        images = {IMAGES} if loaders - self.distributions else set()
        return displayed(kind, loaders | images, self.calibrate.calibrators)

    def used(self, experiment: str) -> dict[str, Any]:
        """Return the part of the configuration that an experiment uses, as plain data without default values.

        Its recipes are merged, one for each data set and model.
        """
        cells = self.cells(experiment)
        datasets, models, losses = (sorted({getattr(cell, k) for cell in cells}) for k in ("dataset", "model", "loss"))
        sources = sorted({self.datasets[name].source for name in datasets})
        pairs = sorted({(cell.dataset, cell.model) for cell in cells})
        return {
            "experiments": {experiment: self.experiments[experiment].plain()},
            "sources": {name: canonical(self.sources[name]) for name in sources},
            "datasets": {name: canonical(self.datasets[name]) for name in datasets},
            "models": {name: canonical(self.models[name]) for name in models},
            "losses": {name: canonical(self.losses[name]) for name in losses},
            "recipes": {f"{d}/{m}": canonical(self.recipes[d, m]) for d, m in pairs},
            "probes": {name: canonical(spec) for name, spec in self.probes.items()},
            "calibrate": self.calibrate_spec(),
        }
