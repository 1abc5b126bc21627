"""Compare losses and calibrators on each data set by KL, or by NLL if no posterior is known; report the leader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from halobench.analysis.names import METRICS, NO_LOSS
from halobench.analysis.shared_samples import seed_corrections
from halobench.analysis.t_intervals import t_interval
from halobench.core.formatting import count, interval, number
from halobench.reporting import labels
from halobench.reporting.table_views import posterior_entropies
from halobench.storage.columns import REFERENCE

NOT_USABLE = "oracle"  # fitted to the test data
METHOD = ["loss", "calibrator"]


@dataclass(frozen=True)
class Compared:
    """The methods (pairs of loss and calibrator) on one data set, compared over the models trained with every loss.

    If no model was trained with every loss, all models are compared.
    """

    metric: str  # for ranking: the KL from the posterior or, if this is unknown, the NLL
    models: list[str]
    correction: float  # of intervals over seeds that share samples, as in `t_interval`
    means: pd.DataFrame  # of metrics over models; rows are (loss, calibrator, metric), columns are seeds

    @property
    def ranked(self) -> pd.DataFrame:
        """Return the means of the ranking metric over models; rows are (loss, calibrator), columns are seeds."""
        return pd.DataFrame(self.means.xs(self.metric, level="metric")).dropna(how="all")


def preferred_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Return test rows for one kind of label per data set: preferably the posterior, else drawn or clean labels."""
    table = table[table["split"] == "test"]
    kept = []
    for _, rows in table.groupby("dataset", sort=False):
        kinds = set(rows["labels"].unique())
        kept.append(rows[rows["labels"] == next(kind for kind in ("noisy", "drawn", "clean") if kind in kinds)])
    return pd.concat(kept) if kept else table


def compared(metrics: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Compared]:
    """Return, by data set, the comparison of methods, without the oracle and models that weren't trained here."""
    rows = preferred_labels(metrics)
    rows = rows[~rows["loss"].isin([REFERENCE, NO_LOSS]) & (rows["calibrator"] != NOT_USABLE)]
    corrections, uncertain = seed_corrections(runs), posterior_entropies(metrics)
    return {
        str(name): _compared(part, corrections[name], name in uncertain)
        for name, part in rows.groupby("dataset", sort=False)
    }


def _compared(rows: pd.DataFrame, correction: float, uncertain: bool) -> Compared:
    models = rows.groupby("model")["loss"].nunique()
    whole = models[models == rows["loss"].nunique()].index
    rows = rows[rows["model"].isin(whole)] if len(whole) else rows
    with np.errstate(invalid="ignore"):  # values may be infinite
        means = rows.pivot_table(
            "value", [*METHOD, "metric"], "seed", aggfunc=lambda x: x.mean(skipna=False), dropna=False
        )
    scores = {*rows["metric"]}
    metric = "kl" if "kl" in scores and (uncertain or "nll" not in scores) else "nll"  # the same if labels are certain
    return Compared(metric, sorted(set(rows["model"])), correction, means)


def leader(methods: Compared) -> str:
    """Say which loss is best and by how much it beats the next loss, in the metric's unit; "" if there is no next loss.

    Each loss is combined with its best calibrator. The difference between the best two losses is paired over seeds. The
    interval of this difference is widened if seeds share samples, but not corrected for the choice of the two losses.
    """
    ranked = methods.ranked.dropna()
    order = ranked.mean(axis=1).sort_values(kind="stable").index
    best = {loss: next(method for method in order if method[0] == loss) for loss, _ in order}
    if len(best) < 2:
        return ""
    (first, second, *_), metric = best.values(), METRICS[methods.metric]
    lowest, next_one = ranked.loc[first].to_numpy(), ranked.loc[second].to_numpy()
    level, gap = (_mean(values, methods.correction) for values in (lowest, next_one - lowest))
    return (
        f"{_method(first)} has the lowest {metric.label}, {level} {metric.unit};"
        f" {_method(second)} is {gap} above it"
        f" ({count(len(lowest), 'seed')} with {', '.join(map(labels.model_label, methods.models))})."
    )


def _mean(values: np.ndarray, correction: float) -> str:
    mean, low, high = t_interval(values, correction)
    return f"{number(mean)} {interval(low, high)}" if len(values) > 1 else number(mean)


def _method(method: tuple[str, str]) -> str:
    loss, calibrator = method
    return f"{labels.loss_label(loss)} ({labels.calibrator_label(calibrator)})"
