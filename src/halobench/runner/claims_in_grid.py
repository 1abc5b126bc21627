"""Check before any job that a grid can test the claims of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from halobench.core.errors import SpecError, one_of, refuse, require
from halobench.experiment.grid import Config
from halobench.results.claims.rules import CLASSES, Claim, described, plain_names
from halobench.results.claims.sides import meets
from halobench.results.names import LABELS
from halobench.storage.columns import REFERENCE

POINTS, SPLITS = ("train", "heldout"), ("train", "val", "test")
COLUMNS = ("dataset", "model", "loss", "noise")  # of cells, known before a run


def check_in_grid(claims: Iterable[Claim], config: Config) -> None:
    """Raise SpecError if a claim of one's own has a side that no cell of the experiments to run meets.

    Claims of other kinds come with the package and may be about other grids.
    """
    own = [claim for claim in claims if claim.kind == "own"]
    if not own:
        return
    cells = sorted({cell for experiment in config.run for cell in config.cells(experiment)})
    noise = {name: dataset.noise.p for name, dataset in config.datasets.items()}
    grid = pd.DataFrame([{**vars(cell), "noise": noise[cell.dataset]} for cell in cells])
    for claim in own:
        for side in [*claim.sides, *([{**claim.where, **claim.baselines}] if claim.baselines else [])]:
            _check_side(claim, side, grid, config)


def _check_side(claim: Claim, side: Mapping[str, Any], grid: pd.DataFrame, config: Config) -> None:
    """Raise SpecError if no cell meets the conditions of one side."""
    place = f"claims.{claim.name}"
    names = {"labels": (*LABELS,), "probe": (*config.probes,), "points": POINTS, "split": SPLITS}
    if claim.table == "metrics":
        names["calibrator"] = config.calibrate.names
    for column, known in names.items():
        for value in plain_names(side.get(column, ())):
            require(value in known, f"{place}.{column}", value, one_of(known, value))
    loss = side.get("loss")
    if isinstance(loss, str) and loss != REFERENCE and "*" not in loss and loss not in set(grid["loss"]):
        raise SpecError(f"{place}.loss", loss, f"a loss of the grid: {one_of(sorted(set(grid['loss'])), loss)}")
    met = grid
    for column in COLUMNS:
        if column in side and not (column == "loss" and loss == REFERENCE):
            met = met[meets(met[column], side[column])]
    shown = {column: side[column] for column in COLUMNS if column in side}
    refuse(met.empty, place, f"no cell of this grid has {described(shown)}; its values are {_values(grid)}")
    many = met["dataset"].nunique()
    what = f"a slope needs {CLASSES} data sets with different numbers of classes; this side has {many}"
    refuse(claim.statistic == "slope" and many < CLASSES, f"{place}.statistic", what)


def _values(grid: pd.DataFrame) -> str:
    """Return the values of each column of a grid, in words."""
    return "; ".join(f"{column} {', '.join(map(str, sorted(set(grid[column]))))}" for column in COLUMNS)
