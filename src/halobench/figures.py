"""Plot four of the workflow's figures from data frames that the library returned or that you read from an experiment.

`save` writes the matplotlib figures that the plotting functions return. Missing columns that `DEFAULTS` lists are
filled in, as if there were one unnamed data set, model and loss, with one seed. To compare losses, for example, label
the rows of each loss::

    both = pd.concat([erm.curves.assign(loss="cross_entropy"), mixup.curves.assign(loss="mixup2")])
    save(neighbourhood(both, probe="sphere", dataset="my data"), "halos")

A keyword argument, such as `probe` in this example, sets a column in all rows. Data sets, models, losses, probes and
calibrators that the project knows are shown by their titles.

In your own figures, you can use `styled` (a decorator that sets the style of all figures), `losses_in` (a table's
losses, in the order of legends), `loss_styles` (their colours, markers and dashes), and `loss_label` and
`calibrator_label` (titles).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from halobench.analysis.radii_summary import GROUPED, RADII_COLUMNS, summarise_radii
from halobench.core import plugins
from halobench.core.errors import Found, require
from halobench.reporting.labels import calibrator_label, loss_label
from halobench.reporting.plotting.saving import save
from halobench.reporting.plotting.style import styled
from halobench.reporting.styles import loss_styles
from halobench.reporting.table_views import losses_in, posterior_entropies
from halobench.storage.columns import KEYS, TABLE_COLUMNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from halobench.calibration.calibrate_cell import Calibrated
    from halobench.calibration.scores.binning import Reliability

__all__ = ["calibrated", "calibration", "neighbourhood", "radii", "reliability"]
__all__ += ["calibrator_label", "loss_label", "loss_styles", "losses_in", "save", "styled"]

# Default values of columns, for frames with only one cell or one split.
DEFAULTS: Mapping[str, Any] = {
    **{"dataset": "", "model": "", "loss": "", "seed": 0},
    **{"points": "train", "probe": "", "split": "test", "labels": "clean", "calibrator": "none"},
    **{"noise": 0.0, "kind": ""},
}


def neighbourhood(curves: pd.DataFrame, **columns: Any) -> Figure:
    """Plot confidence and logit gaps against the distance from a sample.

    Parameters
    ----------
    curves : DataFrame
        ``probe(...).curves``. Distances are ``radius``, in units of the normalised inputs, or, if no ``radius`` is
        above 0, ``relative_radius``.
    **columns
        Columns to set to a single value in all rows, e.g. ``probe="sphere"``.

    Raises
    ------
    SpecError
        If a column that can't be filled in is missing.
    """
    return _draw("neighbourhood", neighbourhood=curves.assign(**columns))


def radii(radii: pd.DataFrame, **columns: Any) -> Figure:
    """Plot the median distances at which certainty ends and the decision changes.

    Distances are multiples of the distance to the nearest training sample with a different label.

    Parameters
    ----------
    radii : DataFrame
        ``probe(...).radii``, or the ``radii`` table of an experiment.
    **columns
        Columns to set to a single value in all rows.

    Raises
    ------
    SpecError
        If a column that can't be filled in is missing.
    """
    table = radii.assign(**columns)
    if "relative_median" not in table:
        cells = _filled("radii", table, (*GROUPED, *RADII_COLUMNS)).groupby(KEYS, sort=False)
        parts: dict[Any, pd.DataFrame] = {cell: summarise_radii(rows) for cell, rows in cells}
        table = pd.concat(parts, names=KEYS).reset_index(KEYS)
    return _draw("radii", radii=table)


def reliability(bins: pd.DataFrame | Reliability | Mapping[str, Reliability], **columns: Any) -> Figure:
    """Plot accuracy against confidence, with a line for each calibrator.

    Parameters
    ----------
    bins : DataFrame, Reliability, or mapping of calibrator to Reliability
        ``calibrate(...).reliability``, whose calibrators ``none``, ``paper`` and ``exact`` are shown; a result of
        `halobench.reliability`; or several such results by the names to show.
    **columns
        Columns to set to a single value in all rows.

    Raises
    ------
    SpecError
        If a column that can't be filled in is missing.
    """
    table = _bins(bins).assign(**columns)
    if isinstance(bins, pd.DataFrame):
        return _draw("reliability", reliability=table)
    from halobench.reporting.figures.reliability import compare

    return styled(compare)(_filled("reliability", table), list(dict.fromkeys(table["calibrator"])))


def calibration(metrics: pd.DataFrame, runs: pd.DataFrame | None = None, **columns: Any) -> Figure:
    """Plot each calibrator's NLL and ECE on the test split, as expectations under the posterior if it is known.

    Parameters
    ----------
    metrics : DataFrame
        ``calibrate(...).metrics``.
    runs : DataFrame, optional
        Must have a column ``temperature_paper``, whose negative values are counted in a remark on the figure.
    **columns
        Columns to set to a single value in all rows.

    Raises
    ------
    SpecError
        If a column that can't be filled in is missing.
    """
    table = _with_posterior(_filled("metrics", metrics.assign(**columns)))
    fits = pd.DataFrame({"temperature_paper": []}) if runs is None else runs
    filled = _filled("runs", fits.assign(**columns), ("temperature_paper",))
    return plugins.load("figures", "calibration")(table, filled)


def calibrated(results: Calibrated, **columns: Any) -> dict[str, Figure]:
    """Plot the results of `calibrate` or `calibrate_file`.

    Returns
    -------
    dict of str to Figure
        The figures of `calibration` and `reliability`, by these names.
    """
    fits = [{"temperature_paper": fit["T"]} for fit in results.fits if fit["calibrator"] == "paper"]
    return {
        "calibration": calibration(results.metrics, pd.DataFrame(fits, columns=["temperature_paper"]), **columns),
        "reliability": reliability(results.reliability, **columns),
    }


def _with_posterior(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return metrics with the posterior's NLL and ECE added for data sets with uncertain labels and no rows of it."""
    scored = set(metrics.loc[metrics["model"] == "bayes", "dataset"])
    lead = {"model": "bayes", "loss": "reference", "seed": 0, "split": "test", "labels": "noisy", "calibrator": "none"}
    rows = [
        lead | {"dataset": dataset, "metric": metric, "value": value}
        for dataset, entropy in posterior_entropies(metrics).items()
        for metric, value in (("nll", entropy), ("ece", 0.0))
        if dataset not in scored
    ]
    return pd.concat([metrics, pd.DataFrame(rows)], ignore_index=True) if rows else metrics


def _draw(name: str, **tables: pd.DataFrame) -> Figure:
    """Plot one of the workflow's figures from named tables, after filling in missing columns."""
    return plugins.load("figures", name)(*(_filled(table, rows) for table, rows in tables.items()))


def _filled(table: str, rows: pd.DataFrame, needed: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Return rows with missing columns from `DEFAULTS`; raise SpecError if a needed column is still missing."""
    filled = rows.assign(**{column: value for column, value in DEFAULTS.items() if column not in rows})
    missing = [column for column in (TABLE_COLUMNS[table] if needed is None else needed) if column not in filled]
    require(
        not missing, table, Found(f"no column {', '.join(missing)}"), "a data frame from the library or an experiment"
    )
    return filled


def _bins(bins: pd.DataFrame | Reliability | Mapping[str, Reliability]) -> pd.DataFrame:
    """Return reliability diagrams as a table with one row per diagram and bin; return a table unchanged."""
    if isinstance(bins, pd.DataFrame):
        return bins
    diagrams = bins if isinstance(bins, Mapping) else {"none": bins}
    frames = [pd.DataFrame(vars(diagram)).assign(calibrator=name) for name, diagram in diagrams.items()]
    return pd.concat([frame.rename_axis("bin").reset_index() for frame in frames], ignore_index=True)
