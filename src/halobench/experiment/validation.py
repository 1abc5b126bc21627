"""What only building can check: that sources are large enough, and that each model takes the images it will get.

The checks import torch, so they run in a process of their own, and only for specs that haven't passed before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from halobench.core import plugins
from halobench.core.aliases import current_words, print_note
from halobench.core.errors import SpecError
from halobench.core.spec_codec import canonical, to_json
from halobench.core.specs import EVALUATION_KEYS, TrainSpec
from halobench.data.sources import Description, describe, read_meta
from halobench.experiment.build_checks import _unbuilt
from halobench.experiment.code_version import code_map
from halobench.experiment.config_loader import (
    ConfigError,
    check_schema,
    layer_that_sets,
    load_config,
    own_recipe,
    recipe_layers,
)
from halobench.experiment.grid import Config
from halobench.storage import files, records
from halobench.storage.provenance import PACKAGE, versions


def request(config: Config, raw: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is to be checked for the experiments that will run, each distinct thing once.

    `raw` is what the configuration was built from: it tells which layer of a recipe a bad value is from.
    """
    cells = [cell for experiment in config.run for cell in config.cells(experiment)]
    datasets = sorted({cell.dataset for cell in cells})
    sources = sorted({config.datasets[name].source for name in datasets})
    pairs: dict[str, dict[str, Any]] = {}
    for cell in cells:
        dataset, recipe = config.datasets[cell.dataset], config.recipes[cell.dataset, cell.model]
        pair: dict[str, Any] = {"model": cell.model, "source": dataset.source}
        if not config.models[cell.model].comes_trained:  # else nothing is trained
            keys = ("batch", "micro_batch", "random_crop")
            pair |= {"loss": cell.loss} | {key: getattr(recipe, key) for key in keys}
            pair["batch"] = min(recipe.batch, dataset.train)
            layers = recipe_layers(raw or {}, cell.dataset, cell.model)
            pair["set_by"] = {key: f"{layer_that_sets(layers, key)}.{key}" for key in keys}
        key = to_json(pair)
        pairs[key] = pair | {"points": max(pairs.get(key, {}).get("points", 0), dataset.train)}
    return {
        "sources": {name: canonical(config.sources[name]) for name in sources},
        "datasets": {name: canonical(config.datasets[name]) for name in datasets},
        "losses": {name: canonical(config.losses[name]) for name in sorted({cell.loss for cell in cells})},
        "models": {name: canonical(config.models[name]) for name in sorted({cell.model for cell in cells})},
        "pairs": [pair for _, pair in sorted(pairs.items())],
    }


def check_given_recipes(config: Config, raw: Mapping[str, Any]) -> list[str]:
    """A line on each model whose weights are given and whose own recipe says how it is trained, which it isn't."""
    trained = {field.name for field in dataclasses.fields(TrainSpec)} - set(EVALUATION_KEYS)
    problems = []
    for name in sorted(name for name, spec in config.models.items() if spec.comes_trained):
        recipe = own_recipe(raw, "models", name)
        for key in (key for key in recipe if key in trained) if isinstance(recipe, Mapping) else ():
            what = f"no such key: its weights are given, and it isn't trained; {', '.join(EVALUATION_KEYS)} count"
            problems.append(str(SpecError(f"models.{name}.recipe.{key}", recipe[key], what)))
    return problems


def _given_files(config: Config, names: Iterable[str]) -> dict[str, list[Any]]:
    """The size and time of each file of weights that models name, so that another in its place is checked again."""
    found: dict[str, list[Any]] = {}
    named = {path for name in names if (path := config.models[name].weights) is not None}
    for path in sorted(named):
        with contextlib.suppress(OSError, ValueError):  # the check tells of what isn't there
            there = os.stat(path)
            found[path] = [there.st_size, there.st_mtime_ns]
    return found


def describe_disk(config: Config, names: Iterable[str], results: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What the sources whose loaders read a disk will hold, as plain data, and a line on each that can't tell.

    A loader says that it is one by ``FROM_DISK = True`` in its file. What it describes may change from one run to the
    next, so that no report of earlier checks tells it; and once the source is written, what it was made from may go.
    """
    found, problems = {}, {}
    for name in names:
        spec = config.sources[name]
        try:
            if plugins.constant("data", spec.loader, "FROM_DISK"):
                described = _written(config, name, results) or describe(spec)
                found[name] = json.loads(to_json(dataclasses.asdict(described)))
        except SpecError as error:
            # The root is no option of the source, nor is an image.
            elsewhere = error.key == "data_root" or os.sep in error.key
            problems[name] = str(error if elsewhere else error.within(f"sources.{name}"))
        except (Exception, SystemExit) as error:  # plug-ins outside the package may raise anything
            problems[name] = _unbuilt(f"sources.{name}", error)
    return found, problems


def _written(config: Config, name: str, results: Path) -> Description | None:
    """What a source holds that was written as its spec and code ask now; None if there is none."""
    folder = results / "sources" / name
    with contextlib.suppress(SpecError):
        made = records.read_record(folder / "source.json", ["spec", "code"])
        now = [config.source_spec(name), code_map("source", [("data", config.sources[name].loader)])]
        if to_json([made["spec"], made["code"]]) == to_json(now):
            meta = read_meta(folder)[1]
            return Description(**{field.name: meta[field.name] for field in dataclasses.fields(Description)})
    return None


def ensure(
    config: Config, cache: Path, results: Path = Path("results"), raw: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Run the checks unless the same ones passed before with the same versions and code.

    Parameters
    ----------
    cache : Path
        Folder of the reports of what passed, named after digests of what was asked.
    results : Path
        Where sources may have been written.
    raw : mapping, optional
        What the configuration was built from, for recipes' layers.

    Returns
    -------
    dict
        The report: of each source its classes and bytes, of each (model, source) pair the bytes of its weights.

    Raises
    ------
    ConfigError
        With every problem found.
    """
    asked = request(config, raw)
    asked["files"] = _given_files(config, asked["models"])
    asked["described"], unknown = describe_disk(config, asked["sources"], results)
    known = [*check_given_recipes(config, raw or {}), *unknown.values()]
    asked["sources"] = {name: spec for name, spec in asked["sources"].items() if name not in unknown}
    used = [("data", spec["loader"]) for spec in asked["sources"].values()]
    used += [("losses", spec["name"]) for spec in asked["losses"].values()]
    used += [("models", spec["name"]) for spec in asked["models"].values()]
    code = code_map("train", used) | code_map("source")
    text = to_json([asked, code, versions("torch", "torchvision", "timm")])
    stamp = cache / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    with contextlib.suppress(SpecError):  # none yet, or a damaged one
        report = files.read_json(stamp, ["sources", "weights"])
        if known:
            raise ConfigError(known)
        return report
    command = [sys.executable, "-m", "halobench.cli.main", "check"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": _search_path()}
    done = subprocess.run(command, input=to_json(asked), capture_output=True, text=True, env=environment, check=False)
    try:  # a plug-in may end the process, or print
        problems, report = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        names = ", ".join(sorted({name for _, name in used}))
        ended = f"building them ended in code {done.returncode} ({said})"
        raise ConfigError([f"plug-ins = {names}: expected ones that can be built, but {ended}"]) from None
    if problems or known:
        raise ConfigError([*known, *problems])
    files.write_json(stamp, report)
    return report


def load_checked(raw: Mapping[str, Any], schema: Path, cache: Path) -> tuple[Config, dict[str, Any]]:
    """A configuration, checked as a whole and built, and the report of `ensure`.

    Raises
    ------
    ConfigError
        With every problem found, those of building the parts that are sound included.
    """
    raw = current_words(raw, print_note)
    try:
        config = load_config(raw)
        check_schema(raw, schema)
    except ConfigError as error:
        problems = error.problems
        if error.sound is not None and any(map(error.sound.cells, error.sound.run)):
            try:
                ensure(error.sound, cache, raw=raw)
            except (ConfigError, SpecError) as more:  # the latter of a plug-in's helper that can't be parsed
                problems = [*problems, *getattr(more, "problems", [str(more)])]
        raise ConfigError(problems) from None
    return config, ensure(config, cache, raw=raw)


def _search_path() -> str:
    """This process's module search path, so that ``module:object`` means the same in the check's process."""
    return os.pathsep.join([str(PACKAGE.parent), *(path or os.getcwd() for path in sys.path)])
