"""Work out what has to be built to check a configuration, listing each distinct thing once."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.spec_codec import canonical, to_json
from halobench.core.specs import EVALUATION_KEYS, IMAGE_KEYS, TrainSpec
from halobench.data.sources import Description, describe
from halobench.data.written_sources import read_meta
from halobench.experiment.build_checks import unbuildable
from halobench.experiment.displays import KINDS
from halobench.experiment.grid import Cell, Config, ExperimentSpec
from halobench.experiment.jobs import source_job
from halobench.storage import records
from halobench.storage.requests import changes

CERTIFIED = "certified"  # the kind of probe that only accepts networks made of known layers
RECIPE_KEYS = ("batch", "micro_batch", *IMAGE_KEYS)  # the keys that decide whether a model accepts its samples


def build_request(config: Config) -> dict[str, Any]:
    """Return what must be built for the experiments that will run, as a request to `halobench.experiment.build_checks`.

    If the configuration has problems, only its sound parts are included.

    Returns
    -------
    dict
        Specs by name under ``sources``, ``datasets``, ``losses`` and ``models``; under ``pairs``, a list of entries
        that each combine a model with a source, the probes that certify it and, if it is trained, a loss and the
        relevant recipe keys; and under ``displays``, the kind and name of each figure and table from outside the
        package.
    """
    experiments = [config.experiments[name] for name in config.run if name in config.experiments]
    cells = [cell for experiment in experiments for cell in experiment.cells() if config.is_sound(cell)]
    probed = {cell for name in config.run if name in config.experiments for cell in config.probed(name)}
    datasets = sorted({cell.dataset for cell in cells})
    sources = sorted({config.datasets[name].source for name in datasets})
    pairs: dict[str, dict[str, Any]] = {}
    for cell in cells:
        pair, train = _pair(config, cell), config.datasets[cell.dataset].train
        certified = [name for name, probe in config.probes_of(cell.model).items() if probe.kind == CERTIFIED]
        if cell in probed and certified:
            pair["certified"] = sorted(certified)
        key = to_json(pair)
        pairs[key] = pair | {"points": max(pairs.get(key, {}).get("points", 0), train)}
    return {
        "sources": {name: canonical(config.sources[name]) for name in sources},
        "datasets": {name: canonical(config.datasets[name]) for name in datasets},
        "losses": {name: canonical(config.losses[name]) for name in sorted({cell.loss for cell in cells})},
        "models": {name: canonical(config.models[name]) for name in sorted({cell.model for cell in cells})},
        "pairs": [pair for _, pair in sorted(pairs.items())],
        "displays": [[kind, name] for kind in KINDS for name in sorted(_outside(experiments, kind))],
    }


def _outside(experiments: Iterable[ExperimentSpec], kind: str) -> set[str]:
    """Return the experiments' figures or tables that come from outside the package."""
    return {name for experiment in experiments for name in getattr(experiment, kind) or () if ":" in name}


def _pair(config: Config, cell: Cell) -> dict[str, Any]:
    """Return a cell's model and source and, if the model is trained, the parts of its training that matter."""
    dataset, recipe = config.datasets[cell.dataset], config.recipe(cell.dataset, cell.model)
    pair: dict[str, Any] = {"model": cell.model, "source": dataset.source}
    if config.models[cell.model].comes_trained:
        return pair
    names = cell.dataset, cell.model
    pair |= {"loss": cell.loss} | {key: getattr(recipe, key) for key in RECIPE_KEYS}
    pair["batch"] = min(recipe.batch, dataset.train)
    pair["set_by"] = {key: f"{config.layer_that_sets(*names, key)}.{key}" for key in RECIPE_KEYS}
    return pair


def check_recipes_of_trained(config: Config) -> list[str]:
    """Return a line for each training key in the recipe of a model whose weights come from elsewhere.

    Only the model's own recipe is checked, because ``train`` applies to all models.
    """
    training_keys = {field.name for field in dataclasses.fields(TrainSpec)} - set(EVALUATION_KEYS)
    problems = []
    for name, model in sorted(config.models.items()):
        recipe = model.recipe if model.comes_trained else {}
        for key in filter(training_keys.__contains__, recipe):
            what = (
                f"this key to be left out, since the model's weights are given; only {', '.join(EVALUATION_KEYS)} apply"
            )
            problems.append(str(SpecError(f"models.{name}.recipe.{key}", recipe[key], what)))
    return problems


def weight_files(config: Config, models: Iterable[str]) -> dict[str, list[int]]:
    """Return the size and modification time (ns) of each weights file that models refer to.

    Both are part of a request, so a different file at the same path is checked again.
    """
    files: dict[str, list[int]] = {}
    for path in sorted({path for name in models if (path := config.models[name].weights) is not None}):
        with contextlib.suppress(OSError, ValueError):  # the checks report a missing file
            stat = os.stat(path)
            files[path] = [stat.st_size, stat.st_mtime_ns]
    return files


def describe_disk(config: Config, names: Iterable[str], results: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Describe the sources whose loaders read from disk.

    A loader declares this with ``FROM_DISK = True`` in its file. The data that it describes may change from one run to
    the next, so the reports of earlier checks can't be reused for it. Once the source is written, the original may be
    deleted.

    Returns
    -------
    dict
        The descriptions as plain data, by name.
    dict
        A line for each source that can't be described, by name.
    """
    descriptions, problems = {}, {}
    for name in names:
        spec = config.sources[name]
        try:
            if plugins.constant("data", spec.loader, "FROM_DISK"):
                description = _written(config, name, results) or describe(spec)
                descriptions[name] = json.loads(to_json(dataclasses.asdict(description)))
        except SpecError as error:
            # Errors about the data root or an image aren't about an option of the source, so they keep their key.
            elsewhere = error.key == "data_root" or os.sep in error.key
            problems[name] = str(error if elsewhere else error.within(f"sources.{name}"))
        except (Exception, SystemExit) as error:  # plug-ins outside the package may raise anything
            problems[name] = unbuildable(f"sources.{name}", error)
    return descriptions, problems


def _written(config: Config, name: str, results: Path) -> Description | None:
    """Return the description of a source if it was written with its current spec and code, or else None."""
    folder = results / "sources" / name
    with contextlib.suppress(SpecError):
        job, record = source_job(config, name), records.read_record(folder / "source.json", ["spec", "code"])
        if not changes(record, job.request):
            meta = read_meta(folder)[1]
            return Description(**{field.name: meta[field.name] for field in dataclasses.fields(Description)})
    return None
