"""Group distributions by family, within which they differ in the number of classes alone, and read their scores."""

from __future__ import annotations

import re

import pandas as pd

from halobench.reporting import labels

CELL = ["dataset", "model", "loss", "seed"]
FAMILIES = {
    "overlap": "Balls in pairs",
    "overlap-m4": "Balls in fours",
    "overlap-all": "Balls, one region for all",
    "overlap-n50": "Balls in pairs, 50 points a class",
    "overlap-disc": "Discs in pairs",
    "overlap-image": "MNIST images in pairs",
}


def family(dataset: str) -> str:
    """Return a data set's name without its number of classes, e.g. ``overlap-m4`` for ``overlap-m4-k8``."""
    return re.sub(r"-?k\d+(?=-|$)", "", dataset) or dataset


def family_label(name: str) -> str:
    """Return the name of a family in words."""
    return FAMILIES.get(name, name)


def scores(metrics: pd.DataFrame, runs: pd.DataFrame, wanted: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Return the scores of cells on distributions with regions, a row per cell.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.
    wanted : mapping of column to (metric, calibrator)
        The scores to read, on the test split and in expectation under the posterior.

    Returns
    -------
    DataFrame
        dataset, model, loss, seed, family, classes, beta, group, interpolates, and the columns wanted. Predictors that
        aren't trained have ``reference`` as their loss and count as interpolating.
    """
    facts = runs[runs["beta"].notna()].drop_duplicates("dataset").set_index("dataset")[["classes", "beta", "group"]]
    rows = metrics[(metrics["split"] == "test") & (metrics["labels"] == "noisy") & metrics["dataset"].isin(facts.index)]
    columns = [
        rows[(rows["metric"] == metric) & (rows["calibrator"] == calibrator)].set_index(CELL)["value"].rename(column)
        for column, (metric, calibrator) in wanted.items()
    ]
    if not columns or facts.empty:
        return pd.DataFrame(columns=[*CELL, "family", "classes", "beta", "group", "interpolates", *wanted])
    table = pd.concat(columns, axis=1).reset_index().join(facts, on="dataset")
    table = table.merge(runs[[*CELL, "interpolates"]], on=CELL, how="left")
    table["interpolates"] = [value if isinstance(value, bool) else True for value in table["interpolates"]]
    table["family"] = table["dataset"].map(family)
    return table


def families(table: pd.DataFrame) -> list[str]:
    """Return the families of a table, in the order of panels."""
    return labels.ordered(table["family"], FAMILIES)
