"""What the figures on numbers of classes share: families of data sets that differ in k alone, and their scores."""

from __future__ import annotations

import re

import pandas as pd

from halobench.reporting import labels

KEYS = ["dataset", "model", "loss", "seed"]
FAMILIES = {
    "overlap": "Balls in pairs",
    "overlap-m4": "Balls in fours",
    "overlap-all": "Balls, one region for all",
    "overlap-n50": "Balls in pairs, 50 points a class",
    "overlap-disc": "Discs in pairs",
    "overlap-image": "MNIST images in pairs",
}


def family(dataset: str) -> str:
    """A data set's name without its number of classes: ``overlap-m4-k8`` is of the family ``overlap-m4``."""
    return re.sub(r"-?k\d+(?=-|$)", "", dataset) or dataset


def family_label(name: str) -> str:
    """A family in words."""
    return FAMILIES.get(name, name)


def scores(metrics: pd.DataFrame, runs: pd.DataFrame, wanted: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """Scores of cells on distributions with regions, a row a cell.

    Parameters
    ----------
    metrics, runs : DataFrame
        As aggregated.
    wanted : mapping of column to (metric, calibrator)
        What to read of the test split, by the posterior.

    Returns
    -------
    DataFrame
        dataset, model, loss, seed, family, classes, beta, group, interpolates, and the columns wanted. Predictors that
        aren't trained have ``reference`` as loss and interpolate.
    """
    facts = runs[runs["beta"].notna()].drop_duplicates("dataset").set_index("dataset")[["classes", "beta", "group"]]
    rows = metrics[(metrics["split"] == "test") & (metrics["labels"] == "noisy") & metrics["dataset"].isin(facts.index)]
    columns = [
        rows[(rows["metric"] == metric) & (rows["calibrator"] == calibrator)].set_index(KEYS)["value"].rename(column)
        for column, (metric, calibrator) in wanted.items()
    ]
    if not columns or facts.empty:
        return pd.DataFrame(columns=[*KEYS, "family", "classes", "beta", "group", "interpolates", *wanted])
    found = pd.concat(columns, axis=1).reset_index().join(facts, on="dataset")
    found = found.merge(runs[[*KEYS, "interpolates"]], on=KEYS, how="left")
    found["interpolates"] = [value if isinstance(value, bool) else True for value in found["interpolates"]]
    found["family"] = found["dataset"].map(family)
    return found


def families(table: pd.DataFrame) -> list[str]:
    """The families of a table, in the order of panels."""
    return labels.ordered(table["family"], FAMILIES)
