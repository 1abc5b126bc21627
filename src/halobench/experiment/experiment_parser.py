"""Parse the experiments of a configuration, and the list of those that run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from halobench.core import plugins
from halobench.core.errors import SpecError, hint, one_of
from halobench.core.spec_codec import parse
from halobench.experiment.displays import KINDS
from halobench.experiment.grid import Block, ExperimentSpec
from halobench.experiment.problems import Problems


def parse_experiment(keys: Mapping[str, Any]) -> ExperimentSpec:
    """Return an experiment from its mapping.

    Raises
    ------
    SpecError
        On unknown keys, empty lists, or seeds that are no whole numbers of at least 0.
    """
    known_keys = ("grid", *KINDS)
    if unknown := set(keys) - set(known_keys):
        key = min(unknown, key=str)
        raise SpecError(str(key), keys[key], f"a key among {', '.join(known_keys)}{hint(known_keys, key)}")
    grid = keys.get("grid")
    if not isinstance(grid, list) or not grid:
        what = "a list of blocks of datasets, models, losses and seeds (and probe: true or false)"
        raise SpecError("grid", grid, what)
    blocks = tuple(_parse_block(f"grid[{i}]", block) for i, block in enumerate(grid))
    chosen = {kind: keys.get(kind, []) for kind in KINDS}
    for kind, names in chosen.items():
        if not isinstance(names, list) or (kind in keys and not names):
            raise SpecError(kind, names, f"a list of {kind} (without this key, all that have something to show)")
        _check_distinct(kind, names)
    return ExperimentSpec(blocks, **{kind: tuple(names) for kind, names in chosen.items()})


def _parse_block(place: str, keys: Any) -> Block:
    """Return a block of a grid; raise SpecError with a key below `place` if something is wrong with it."""
    try:
        block = parse(Block, keys)
    except SpecError as error:
        raise error.within(place) from None
    for key in ("datasets", "models", "losses", "seeds"):
        values = getattr(block, key)
        if not values:
            raise SpecError(f"{place}.{key}", [], "at least one")
        _check_distinct(f"{place}.{key}", values)
    if min(block.seeds) < 0:
        raise SpecError(f"{place}.seeds", min(block.seeds), "whole numbers of at least 0")
    return block


def _check_distinct(key: str, values: Sequence[Any]) -> None:
    """Raise SpecError if a list has a value twice: it would run once, which may not be what was meant."""
    for i, value in enumerate(values):
        if value in values[:i]:
            raise SpecError(key, value, "each value once")


def check_experiments(
    experiments: Mapping[str, ExperimentSpec | None], sections: Mapping[str, Mapping[str, Any]], problems: Problems
) -> None:
    """Check that what grids hold is in the sections of the configuration, and that figures and tables exist."""
    for name, experiment in experiments.items():
        if experiment is None:
            continue
        for i, block in enumerate(experiment.grid):
            for key in ("datasets", "models", "losses"):
                for value in getattr(block, key):
                    if sections[key] and value not in sections[key]:
                        problems.add(f"experiments.{name}.grid[{i}].{key}", value, one_of(sections[key], value))
        for kind in KINDS:
            for value in getattr(experiment, kind):
                problems.guard("", _check_display, f"experiments.{name}.{kind}", kind, value)


def _check_display(place: str, kind: str, name: object) -> None:
    """Raise SpecError unless `name` is one of the figures, or of the tables."""
    if not isinstance(name, str):
        raise SpecError(place, name, f"a {kind.removesuffix('s')}'s name")
    try:
        plugins.locate(kind, name)
    except SpecError as error:
        raise SpecError(place, name, error.expected) from None


def parse_run(raw: Mapping[str, Any], experiments: Mapping[str, Any], problems: Problems) -> tuple[str, ...]:
    """Return the experiments that the default target builds; empty if they aren't a list of names."""
    run = raw.get("run")
    if not isinstance(run, list) or not run or not all(isinstance(name, str) for name in run):
        problems.add("run", run, "a list of experiments")
        return ()
    problems.guard("", _check_distinct, "run", run)
    for name in run:
        if experiments and name not in experiments:
            problems.add("run", name, one_of(experiments, name))
    return tuple(run)
