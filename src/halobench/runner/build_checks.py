"""Check a configuration by building its parts: losses score a batch, and models run on samples.

As a program, this module reads a configuration and a results folder as JSON, and prints a JSON list with a line for
each problem.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from halobench.core import plugins
from halobench.core.errors import RefusedError, SpecError, describe_error, refuse, require
from halobench.core.specs.calibrator import CalibratorSpec
from halobench.core.specs.metric import MetricSpec
from halobench.core.specs.model import ModelSpec
from halobench.core.specs.training import IMAGE_KEYS
from halobench.data import sources, splits
from halobench.data.written_sources import read_meta
from halobench.experiment.config_loader import ConfigError, load_config
from halobench.experiment.figure_choice import DISPLAYS
from halobench.experiment.grid import Config
from halobench.experiment.jobs import job_of
from halobench.experiment.sections import Cell
from halobench.storage import records
from halobench.storage.request_diff import changes

CERTIFIED = "certified"  # the kind of probe that accepts only networks made of known layers


def run(config: Config, results: Path) -> list[str]:
    """Build the parts of the experiments to be run, and return a line for each problem."""
    build = _Build(config, results)
    for name in sorted({config.datasets[cell.dataset].source for cell in build.cells}):
        build.check_source(name)
    for name in sorted({cell.dataset for cell in build.cells}):
        build.check_dataset(name)
    for cell in build.cells:
        build.check_cell(cell)
    for kind, name in outside_displays(config):
        build.attempt(kind, plugins.load, kind, name)
    if outside_calibration(config):
        build.check_calibration()
    return list(dict.fromkeys(build.problems))


def outside_displays(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the kind and name of each figure and table from outside the package in the experiments to be run."""
    for kind in DISPLAYS:
        named = {name for experiment in _to_run(config) for name in getattr(config.experiments[experiment], kind) or ()}
        yield from ((kind, name) for name in sorted(named) if ":" in name)


def outside_calibration(config: Config) -> list[tuple[str, str]]:
    """Return the kind and name of each calibrator and metric from outside the package."""
    return [(kind, name) for kind, name in config.calibrate.plugged if ":" in name]


def _is_outside(entry: str | Mapping[str, CalibratorSpec | MetricSpec]) -> bool:
    """Return whether an entry in a list of calibrators or metrics names a plug-in outside the package."""
    return any(":" in name for name in ([entry] if isinstance(entry, str) else [each.name for each in entry.values()]))


def _to_run(config: Config) -> list[str]:
    """Return the experiments to be run whose own sections have no problems."""
    return [name for name in config.run if name in config.experiments]


class _Build:
    """A pass over a configuration that builds its parts and notes their problems."""

    def __init__(self, config: Config, results: Path):
        self.config, self.results = config, results
        names = _to_run(config)
        of_any_seed = {dataclasses.replace(cell, seed=0) for name in names for cell in config.cells(name)}
        self.cells = list(filter(config.is_sound, sorted(of_any_seed)))
        self.probed = {dataclasses.replace(cell, seed=0) for name in names for cell in config.probed(name)}
        self.problems: list[str] = []
        self.descriptions: dict[str, sources.Description] = {}
        self.results_of: dict[tuple[Any, ...], Any] = {}  # results of checks that many cells share

    def attempt(self, place: str, check: Callable[..., Any], *arguments: Any, plugin: str = "") -> Any:
        """Return the result of `check`; after an error, note a problem of `plugin` or `place` and return None."""
        try:
            return check(*arguments)
        except SpecError as error:
            elsewhere = not place or error.key == "data_root" or os.sep in error.key  # the key is a file
            self.problems.append(str(error if elsewhere else error.within(place)))
        except (Exception, SystemExit) as error:  # plug-ins outside the package may raise anything
            self.problems.append(f"{plugin or place}: can't be built ({describe_error(error)})")
        return None

    def attempt_once(self, key: tuple[Any, ...], *arguments: Any, **options: Any) -> Any:
        """Return the result of `attempt`, which is called only once per key."""
        if key not in self.results_of:
            self.results_of[key] = self.attempt(*arguments, **options)
        return self.results_of[key]

    def check_source(self, name: str) -> None:
        """Keep a source's description, as written before or as given by its loader, or note the loader's problem."""
        written = written_description(self.config, name, self.results)
        if source := written or self.attempt(f"sources.{name}", sources.describe, self.config.sources[name]):
            self.descriptions[name] = source

    def check_dataset(self, name: str) -> None:
        """Check that a source has enough samples for the splits of a data set."""
        dataset = self.config.datasets[name]
        names = _to_run(self.config)
        seed = max(cell.seed for each in names for cell in self.config.cells(each) if cell.dataset == name)
        if source := self.descriptions.get(dataset.source):
            self.attempt(f"datasets.{name}", splits.check_size, dataset, source.size, source.parts, seed)

    def check_cell(self, cell: Cell) -> None:
        """Check a cell's loss, its augmentation, its model, and whether certified probes accept the model."""
        dataset, model = self.config.datasets[cell.dataset], self.config.models[cell.model]
        source = self.descriptions.get(dataset.source)
        rows = self._rows(cell, source)
        if source is None:
            return
        micro = None
        if not model.comes_trained:
            self.attempt("", self._check_augmentation, cell, source)
            micro = self.config.recipe(cell.dataset, cell.model).micro_batch
        part = smallest_part(micro, rows)
        # Many losses and batch sizes lead to the same smallest part; if it is a single sample, the recipe is blamed.
        key = ("model", cell.model, dataset.source, dataset.train, cell if part < 2 else part)
        arguments = (self._check_model, cell, source, rows, part)
        size = self.attempt_once(key, "", *arguments, plugin=f"models.{cell.model}")
        if size is not None and cell in self.probed:
            for name, probe in self.config.probes_of(cell.model).items():
                if probe.kind == CERTIFIED:
                    own = ("certified", name, cell.model, dataset.source)
                    self.attempt_once(own, f"probes.{name}", check_certified, model, source, cell.model)

    def check_calibration(self) -> None:
        """Fit calibrators and compute metrics from outside the package on random logits, and note problems."""
        from halobench.calibration.calibrate_cell import calibrate

        classes = min((source.classes for source in self.descriptions.values()), default=3)
        spec, rng = self.config.calibrate, np.random.default_rng(0)
        sizes = [self.config.datasets[cell.dataset] for cell in self.cells]
        count = max(300, min([5000, *(min(each.val, each.test) for each in sizes)]))
        logits = 2 * rng.normal(size=(2, count, classes))
        labels = (logits / 3 + rng.gumbel(size=logits.shape)).argmax(axis=2)
        labels[:, : min(count, classes)] = np.arange(min(count, classes))  # so that each class is there
        arrays: dict[str, np.ndarray] = {}
        for split, samples, drawn in zip(("val", "test"), logits, labels, strict=True):
            arrays |= {f"{split}.logits": samples, f"{split}.labels": drawn, f"{split}.clean": drawn}
        few = dataclasses.replace(spec, calibrators=("none",), also=(), draws=2, floor_draws=2)
        tried = [dataclasses.replace(few, calibrators=(entry,)) for entry in spec.calibrators if _is_outside(entry)]
        tried += [dataclasses.replace(few, also=(entry,)) for entry in spec.also if _is_outside(entry)]
        before = len(self.problems)
        for one in tried:
            self.attempt("", calibrate, arrays, one, 0, ("val", "test"), plugin="calibrators")
        tail = f" (tried on {count:,} random logits of {classes:,} classes)"
        self.problems[before:] = [f"{problem}{tail}" for problem in self.problems[before:]]

    def _rows(self, cell: Cell, source: sources.Description | None) -> int:
        """Return the number of rows that a cell's loss makes of a training batch; 2 if the model isn't trained."""
        from halobench.losses import checks  # imports torch

        place, spec = f"losses.{cell.loss}", self.config.losses[cell.loss]
        sound = self.attempt_once(("loss", cell.loss), place, checks.check_loss, spec) is not None
        if self.config.models[cell.model].comes_trained:
            return 2
        batch = self._batch(cell)
        shape = checks.SMALL if source is None or len(source.shape) == 3 else tuple(source.shape)
        key = ("rows", cell.loss, batch, shape)
        return (sound and self.attempt_once(key, place, checks.check_batch, spec, batch, shape)) or batch

    def _batch(self, cell: Cell) -> int:
        """Return the number of samples in a cell's training batches."""
        recipe = self.config.recipe(cell.dataset, cell.model)
        return min(recipe.batch, self.config.datasets[cell.dataset].train)

    def _place(self, cell: Cell, key: str) -> str:
        """Return the place where the configuration sets a key of a cell's recipe."""
        return f"{self.config.layer_that_sets(cell.dataset, cell.model, key)}.{key}"

    def _check_augmentation(self, cell: Cell, source: sources.Description) -> None:
        """Raise SpecError if training would pad images by at least their shorter side, or treat features as images."""
        recipe, name = self.config.recipe(cell.dataset, cell.model), self.config.datasets[cell.dataset].source
        if len(source.shape) == 1:
            for key in IMAGE_KEYS:
                what = f"samples of {name} aren't images; leave this key out"
                refuse(getattr(recipe, key), self._place(cell, key), what)
            return
        height, width = source.shape[1:]
        what = f"fewer pixels than the shorter side of the images in {name}, {height}x{width}"
        fits = recipe.random_crop < min(height, width)
        require(fits, self._place(cell, "random_crop"), recipe.random_crop, what)

    def _check_model(self, cell: Cell, source: sources.Description, rows: int, part: int) -> int:
        """Run a model on `part` samples, and return the bytes that it takes.

        If the model fails on one sample but works on two, SpecError names the key that leads to single samples.
        """
        from halobench.models import shape_check

        spec, points = self.config.models[cell.model], self.config.datasets[cell.dataset].train

        def check(part: int) -> int:
            return shape_check.check(spec, source.shape, source.classes, part, points, source.names)

        try:
            return check(part)
        except SpecError as error:
            refusal = error.within(f"models.{cell.model}")
        try:
            check(2)
        except SpecError:
            raise refusal from None
        micro = self.config.recipe(cell.dataset, cell.model).micro_batch
        key, value = ("micro_batch", micro) if micro else ("batch", self._batch(cell))
        reason = f"a batch of {rows} rows leaves a part of 1" if (micro or rows) > 1 else "it gets one sample at a time"
        what = f"parts of at least two samples, which the model {cell.model} needs in training ({reason})"
        raise SpecError(self._place(cell, key), value, what)


def written_description(config: Config, name: str, results: Path) -> sources.Description | None:
    """Return the written description of a source that reads from disk; None unless its spec and code are unchanged.

    The original files of a written source may have been deleted since. A loader declares by ``FROM_DISK = True`` that
    it reads from disk.
    """
    folder = results / "sources" / name
    with contextlib.suppress(SpecError):
        if plugins.find("data", config.sources[name].loader).constants.get("FROM_DISK"):
            record = records.read_record(folder / "source.json", ["spec", "code"])
            if not changes(record, job_of(config, "source", {"source": name}).request):
                meta: Mapping[str, Any] = read_meta(folder)[1]
                fields = dataclasses.fields(sources.Description)
                return sources.Description(**{field.name: meta[field.name] for field in fields})
    return None


def smallest_part(micro: int | None, rows: int) -> int:
    """Return 1 if a batch of `rows` rows, in parts of `micro` rows if given, has a part of one row, and otherwise 2."""
    return min(rows % (micro or rows) or micro or rows, 2)


def check_certified(spec: ModelSpec, description: sources.Description, name: str) -> None:
    """Raise SpecError unless a model consists only of layers that certified probes know."""
    from halobench.models import shape_check

    try:
        shape_check.check_piecewise(spec, description.shape, description.classes)
    except SpecError as error:
        raise RefusedError("models", f"{name} can't be certified: {error.sentence}") from None


def main() -> None:
    """Read a configuration and a results folder, build the configuration's sound part, and print its problems."""
    raw, results = json.load(sys.stdin)
    try:
        config: Config | None = load_config(raw)
    except ConfigError as error:
        config = error.sound
    print(json.dumps([] if config is None else run(config, Path(results))))


if __name__ == "__main__":
    main()
