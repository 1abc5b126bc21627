"""Find out, before any job runs, which of a user's own claims a grid can't test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from halobench.core.errors import SpecError, naming, one_of, refuse, require
from halobench.experiment.grid import Config
from halobench.results.claims.rules import CLASSES, Claim, described, plain_names, resolved
from halobench.results.claims.sides import meets
from halobench.results.identities import COLUMNS as PLUGINS
from halobench.results.identities import plugin_text
from halobench.results.names import LABELS
from halobench.storage.columns import REFERENCE

POINTS, SPLITS = ("train", "heldout"), ("train", "val", "test")
# Those that probes and attacks measure, then those of other searches.
QUANTITIES = (
    *("certainty", "decision", "half_level"),
    *("certain_from", "label_from", "last_kink", "half_space", "half_spaces"),
)
CELL_COLUMNS = ("dataset", "model", "loss", "noise")  # of cells, known before a run


def untested(claims: Iterable[Claim], config: Config) -> Iterator[SpecError]:
    """Yield an error for each of a user's own claims that a run can't test, e.g. because no cell meets its conditions.

    These errors aren't raised, since the claims file may serve several configurations. SpecError is raised for names
    that no grid can have. Only claims of kind ``own`` are considered; others may be about other grids.
    """
    own = [claim for claim in claims if claim.kind == "own"]
    if not own:
        return
    for claim in own:
        _check_vocabulary(claim)
    cells = sorted({cell for experiment in config.run for cell in config.cells(experiment)})
    probed = {cell for experiment in config.run for cell in config.probed(experiment)}
    noise = {name: dataset.noise.p for name, dataset in config.datasets.items()}
    kinds: dict[str, Mapping[str, Any]] = {"model": config.models, "loss": config.losses}
    stand_for = {
        column: {name: plugin_text({"name": each.name, "options": each.options}) for name, each in kinds[part].items()}
        for part, column in PLUGINS.items()
    }
    grid = pd.DataFrame(
        {**vars(cell), "noise": noise[cell.dataset], "probed": cell in probed}
        | {column: stand_for[column].get(getattr(cell, part)) for part, column in PLUGINS.items()}
        for cell in cells
    )
    for claim in own:
        try:
            _check(_resolved(claim, grid), grid, config)
        except SpecError as error:
            yield error


def _resolved(claim: Claim, grid: pd.DataFrame) -> Claim:
    with naming(f"claims.{claim.name}"):
        return resolved(claim, grid)


def _sides(claim: Claim) -> list[dict[str, Any]]:
    """Return all conditions on each side of a claim, and on its baselines."""
    return [*claim.sides, *([{**claim.where, **claim.baselines}] if claim.baselines else [])]


def _check_vocabulary(claim: Claim) -> None:
    """Raise SpecError if a side names labels, points, a split or a quantity that no grid's tables have."""
    for side in _sides(claim):
        drawn = side.get("split") != "test"  # test samples are scored by other labels
        labels = tuple(label for label in LABELS if drawn or label != "drawn")
        _check_names(claim, side, {"labels": labels, "points": POINTS, "split": SPLITS})
        _check_names(claim, side, {"quantity": QUANTITIES} if claim.table == "radii" else {})


def _check_names(claim: Claim, side: Mapping[str, Any], names: Mapping[str, Iterable[str]]) -> None:
    """Raise SpecError if a side names a value that `names` doesn't list for the value's column."""
    for column, known in names.items():
        for value in plain_names(side.get(column, ())):
            require(value in known, f"claims.{claim.name}.{column}", value, one_of(known, value))


def _check(claim: Claim, grid: pd.DataFrame, config: Config) -> None:
    """Raise SpecError if a grid can't test a claim."""
    seen = grid if claim.table in ("metrics", "runs") else grid[grid["probed"]]
    refuse(seen.empty, f"claims.{claim.name}.table", f"no cell of this grid is probed, so {claim.table} is empty")
    pairs = [_pairs(claim, side, seen, config) for side in _sides(claim)]
    apart = claim.statistic in ("difference", "against_best") and len(pairs) > 1 and not set.intersection(*pairs)
    refuse(apart, f"claims.{claim.name}", "no data set and model of this grid has cells of both sides")


def _pairs(claim: Claim, side: Mapping[str, Any], grid: pd.DataFrame, config: Config) -> set[tuple[str, str]]:
    """Return the pairs of data set and model with a cell that meets a side's conditions; raise SpecError if none."""
    place = f"claims.{claim.name}"
    _check_names(claim, side, {"probe": (*config.probes,)})
    _check_names(claim, side, {"calibrator": config.calibrate.names} if claim.table == "metrics" else {})
    fits = tuple(dict.fromkeys(("none", *config.calibrate.names)))
    require(claim.fit in fits, f"{place}.fit", claim.fit, one_of(fits, claim.fit))
    loss = side.get("loss")
    if isinstance(loss, str) and loss != REFERENCE and "*" not in loss and loss not in set(grid["loss"]):
        raise SpecError(f"{place}.loss", loss, f"a loss of the grid: {one_of(sorted(set(grid['loss'])), loss)}")
    met = grid
    for column in CELL_COLUMNS:
        if column in side and not (column == "loss" and loss == REFERENCE):
            met = met[meets(met[column], side[column])]
    shown = {column: side[column] for column in CELL_COLUMNS if column in side}
    refuse(met.empty, place, f"no cell of this grid has {described(shown)}; its values are {_values(grid)}")
    many = met["dataset"].nunique()
    what = f"a slope needs {CLASSES} data sets with different numbers of classes; this side has {many}"
    refuse(claim.statistic == "slope" and many < CLASSES, f"{place}.statistic", what)
    return set(zip(met["dataset"], met["model"], strict=True))


def _values(grid: pd.DataFrame) -> str:
    """Return the values of each column of a grid, in words."""
    return "; ".join(f"{column} {', '.join(map(str, sorted(set(grid[column]))))}" for column in CELL_COLUMNS)
