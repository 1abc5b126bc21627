"""Load a configuration: parse it, check it as a whole, and expand its recipes.

All problems that can be found without importing torch are found here and reported together;
`halobench.experiment.validation` finds those that need building.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from halobench.core.aliases import current_words
from halobench.core.errors import one_of
from halobench.experiment.experiment_parser import check_experiments, parse_experiment, parse_run
from halobench.experiment.grid import Block, Config
from halobench.experiment.problems import Problems
from halobench.experiment.recipes import parse_recipes
from halobench.experiment.section_parser import (
    check_data_root,
    check_names,
    check_sources,
    parse_calibrate,
    parse_section,
    parse_sections,
)

NAMED = ("sources", "datasets", "models", "losses", "probes", "experiments")  # sections of names
SECTIONS = (
    "run",
    "data_root",
    "fetch",
    "sources",
    "datasets",
    "models",
    "losses",
    "train",
    "probes",
    "calibrators",
    "metrics",
    "experiments",
)


class ConfigError(ValueError):
    """All problems of a configuration, a line each.

    Attributes
    ----------
    problems : list of str
    sound : Config or None
        The part of the configuration that has no problem, if it was parsed.
    """

    def __init__(self, problems: list[str], sound: Config | None = None):
        super().__init__("\n".join(problems))
        self.problems, self.sound = problems, sound


def without_null(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without the names that it sets to null: so a file laid over another removes names."""
    kept = dict(raw)
    for section in NAMED:
        if isinstance(raw.get(section), Mapping):
            kept[section] = {name: value for name, value in raw[section].items() if value is not None}
    return kept


def load_config(raw: Mapping[str, Any]) -> Config:
    """Check a configuration as a whole, its names with null left out and old words replaced.

    Parameters
    ----------
    raw : mapping
        As YAML gives it; see ``workflow/schemas/config.schema.yaml``.

    Raises
    ------
    ConfigError
        With all problems: unknown keys and names, types, ranges.
    """
    raw, problems = without_null(current_words(raw)), Problems()
    for key in raw:
        if key not in SECTIONS:
            problems.add(str(key), raw[key], f"a section: {one_of(SECTIONS, key)}")
    problems.guard("", check_data_root, raw)
    sections = parse_sections(raw, problems)
    calibrate = problems.guard("", parse_calibrate, raw)
    experiments = parse_section(raw, "experiments", lambda name, keys: parse_experiment(keys), problems)
    folders = {name: sections[name] for name in ("sources", "datasets", "models", "losses")}
    check_names(folders | {"experiments": experiments}, problems)
    check_sources(sections, problems)
    check_experiments(experiments, sections, problems)
    blocks = [block for experiment in experiments.values() if experiment for block in experiment.grid]
    pairs = [(dataset, model) for block in blocks for dataset in block.datasets for model in block.models]
    recipes = parse_recipes(raw, sections, pairs, problems)
    run = parse_run(raw, experiments, problems)
    config = Config(**sections, recipes=recipes, calibrate=calibrate, experiments=experiments, run=run)
    if problems.lines:
        raise ConfigError(list(dict.fromkeys(problems.lines)), _sound_part(config))
    return config


def _sound_part(config: Config) -> Config:
    """Return a configuration, in which None stands for bad parts, without these and the cells that need them."""

    def sound(specs: Mapping[Any, Any]) -> dict[Any, Any]:
        return {name: spec for name, spec in specs.items() if spec is not None}

    sources = sound(config.sources)
    parts = dataclasses.replace(
        config,
        sources=sources,
        datasets={name: spec for name, spec in sound(config.datasets).items() if spec.source in sources},
        models=sound(config.models),
        losses=sound(config.losses),
        recipes=sound(config.recipes),
    )
    experiments = {
        name: dataclasses.replace(experiment, grid=tuple(_sound_block(block, parts) for block in experiment.grid))
        for name, experiment in sound(config.experiments).items()
    }
    run = tuple(name for name in config.run if name in experiments)
    return dataclasses.replace(parts, experiments=experiments, run=run)


def _sound_block(block: Block, config: Config) -> Block:
    """Return a block with those of its data sets, models and losses that `config` has, with their recipes."""
    datasets = tuple(name for name in block.datasets if name in config.datasets)
    models = tuple(
        name
        for name in block.models
        if name in config.models and all((dataset, name) in config.recipes for dataset in datasets)
    )
    losses = tuple(name for name in block.losses if name in config.losses)
    return dataclasses.replace(block, datasets=datasets, models=models, losses=losses)
