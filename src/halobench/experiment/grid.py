"""A checked configuration, with its experiments as grids of cells, on top of the named specs of its sections."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from halobench.core.errors import SpecError
from halobench.core.spec_codec import Distinct, Flag, NotNegative, Several, Text, canonical, check_distinct, spec
from halobench.experiment.displays import ALL, IMAGES, LADDER, displayed, tables_read
from halobench.experiment.sections import Named, Sections


@dataclass(frozen=True, order=True)
class Cell:
    """One trained model, identified by the names of its data set, model and loss, and by its seed."""

    dataset: str
    model: str
    loss: str
    seed: int

    @property
    def path(self) -> str:
        return f"{self.dataset}/{self.model}/{self.loss}/seed{self.seed}"


@spec
class Block:
    """A full grid of every data set x model x loss x seed; with `probe`, the neighbourhoods of its cells are probed."""

    datasets: Distinct[Text] = Field(description="Names of data sets.")
    models: Distinct[Text] = Field(description="Names of models.")
    losses: Distinct[Text] = Field(description="Names of losses.")
    seeds: Distinct[NotNegative] = Field(
        description="Each seed has its own split, label noise, initialisation and order."
    )
    probe: Flag = Field(default=True, description="Probe the neighbourhoods of the cells.")

    def cells(self) -> Iterator[Cell]:
        return itertools.starmap(Cell, itertools.product(self.datasets, self.models, self.losses, self.seeds))


def _known_display(kind: str, name: str) -> str:
    """Return the name of a figure or a table; raise SpecError if no function of that name takes tables."""
    try:
        if name != ALL:
            tables_read(kind, name)
    except SpecError as error:
        raise SpecError("", name, error.expected) from None
    return name


Figure = Annotated[Text, AfterValidator(functools.partial(_known_display, "figures"))]
Table = Annotated[Text, AfterValidator(functools.partial(_known_display, "tables"))]


@spec
class ExperimentSpec:
    """Blocks of cells, and the figures and tables made from them (by default, all with something to show)."""

    grid: Several[Block] = Field(description="Blocks of cells. A cell that is in several blocks counts once.")
    figures: Annotated[tuple[Figure, ...], AfterValidator(check_distinct)] | None = Field(
        default=None,
        description="Files in src/halobench/reporting/figures, module:function, or all, which is the default"
        " and stands for all files that have something to show. An empty list means none.",
    )
    tables: Annotated[tuple[Table, ...], AfterValidator(check_distinct)] | None = Field(
        default=None,
        description="Tables for print: files in src/halobench/reporting/tables, module:function, or all, which is the"
        " default and stands for all files that have something to show. An empty list means none.",
    )

    def cells(self) -> list[Cell]:
        return sorted({cell for block in self.grid for cell in block.cells()})


@spec
class Config(Sections):
    """A configuration, whose names are checked for consistency by `halobench.experiment.config_loader`."""

    _: KW_ONLY
    experiments: Named[ExperimentSpec] = Field(description="Grids of cells. Each block is a full product.")

    def cells(self, experiment: str) -> list[Cell]:
        return self.experiments[experiment].cells()

    def is_sound(self, cell: Cell) -> bool:
        """Return True if the configuration has everything a cell refers to, and a consistent recipe."""
        named = cell.dataset in self.datasets and cell.model in self.models and cell.loss in self.losses
        if not named or self.datasets[cell.dataset].source not in self.sources:
            return False
        try:
            self.recipe(cell.dataset, cell.model)
        except SpecError:
            return False
        return True

    def probed(self, experiment: str) -> frozenset[Cell]:
        """Return an experiment's probed cells, which are those in blocks with `probe`."""
        blocks = self.experiments[experiment].grid
        return frozenset(cell for block in blocks if block.probe for cell in block.cells())

    def laddered(self, experiment: str) -> frozenset[Cell]:
        """Return the cells that get a repair ladder: all, if the experiment's figures or tables include `repair`."""
        shown = (*self.figures(experiment), *self.tables(experiment))
        return frozenset(self.cells(experiment) if LADDER in shown else ())

    def references(self, experiment: str) -> list[tuple[str, int]]:
        """Return the data set and seed of each calibrator-free reference that an experiment compares with."""
        return sorted({(cell.dataset, cell.seed) for cell in self.cells(experiment)})

    def figures(self, experiment: str) -> tuple[str, ...]:
        return self._chosen("figures", experiment)

    def tables(self, experiment: str) -> tuple[str, ...]:
        return self._chosen("tables", experiment)

    def _chosen(self, kind: str, experiment: str) -> tuple[str, ...]:
        named = getattr(self.experiments[experiment], kind)
        named = (ALL,) if named is None else named
        names = (self._displayed(kind, experiment) if name == ALL else (name,) for name in named)
        return tuple(dict.fromkeys(itertools.chain.from_iterable(names)))

    def _displayed(self, kind: str, experiment: str) -> tuple[str, ...]:
        """Return the plug-ins of a kind that have something to show for an experiment."""
        datasets = {name for block in self.experiments[experiment].grid for name in block.datasets}
        loaders = {self.sources[self.datasets[name].source].loader for name in datasets}
        images = {IMAGES} if loaders - self.distributions else set()
        models = {cell.model for cell in self.probed(experiment)}
        probes = {probe.kind for probe in self.probes.values() if any(map(probe.visits, models))}
        return displayed(kind, loaders | images | probes, self.calibrate.names)

    def used(self, experiment: str) -> dict[str, Any]:
        """Return the part of the configuration that an experiment uses, as plain data without default values.

        Its recipes are merged into one for each data set and model.
        """
        cells = self.cells(experiment)
        datasets, models, losses = (sorted({getattr(cell, k) for cell in cells}) for k in ("dataset", "model", "loss"))
        sources = sorted({self.datasets[name].source for name in datasets})
        pairs = sorted({(cell.dataset, cell.model) for cell in cells})
        return {
            "experiments": {experiment: canonical(self.experiments[experiment])},
            "sources": {name: canonical(self.sources[name]) for name in sources},
            "datasets": {name: canonical(self.datasets[name]) for name in datasets},
            "models": {name: canonical(self.models[name]) for name in models},
            "losses": {name: canonical(self.losses[name]) for name in losses},
            "recipes": {f"{d}/{m}": canonical(self.recipe(d, m)) for d, m in pairs},
            "probes": {name: canonical(p) for name, p in self.probes.items() if any(map(p.visits, models))},
            "calibrate": self.calibrate_spec(),
        }
