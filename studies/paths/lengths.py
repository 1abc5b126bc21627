"""Collect what each loss reaches at each length of training, and choose its best length.

    python -m studies.paths.lengths [RESULTS]

writes lengths.csv from the tables and cells of the experiment ``paths`` in RESULTS (by default,
results), one row per network, loss, number of epochs and seed, and prints the registered comparisons.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from halobench import fit_temperature, nll, open_cell
from halobench.core.seeding import generator
from halobench.results.trained_cell import TrainedCell
from halobench.storage import tables_io

OUT = Path(__file__).with_suffix(".csv")
FITS = ("none", "exact", "partner", "auto")
PATH = ["network", "loss", "seed"]
LENGTHS = 6  # of each path


def choosing(cell: TrainedCell) -> float:
    """Return the validation NLL after TS, in nats: T is fitted to each half in turn, and scored on the other."""
    logits, labels = cell.logits["val.logits"], cell.logits["val.labels"]
    halves = np.array_split(generator(cell.seed, "paths", "halves").permutation(len(labels)), 2)
    scores = [nll(logits[b] * fit_temperature(logits[a], labels[a]).beta, labels[b]) for a, b in (halves, halves[::-1])]
    return float(np.mean(scores))


def rows(results: Path) -> pd.DataFrame:
    """Return the rows of the table from a results folder."""
    metrics = pd.read_parquet(results / "tables/paths/metrics.parquet")
    kl = metrics.query("split == 'test' and labels == 'noisy' and metric == 'kl'")
    scores = kl.pivot_table(index=["dataset", "model", "loss", "seed"], columns="calibrator", values="value")[[*FITS]]
    found = []
    for (dataset, model, loss, seed), row in scores.iterrows():
        cell = open_cell(results / "runs" / dataset / model / loss / f"seed{seed}")
        history = pd.read_csv(cell.folder / "history.csv")
        accuracy = float((cell.logits["train.logits"].argmax(axis=1) == cell.logits["train.labels"]).mean())
        facts = {"network": model.partition("-")[0], "loss": loss, "epochs": len(history), "seed": seed}
        facts |= {"train_loss": float(history["train_loss"].iloc[-1]), "train_accuracy": accuracy}
        found.append(facts | {"choosing": choosing(cell)} | {f"kl_{fit}": row[fit] for fit in FITS})
    table = pd.DataFrame(found).sort_values([*PATH, "epochs"]).reset_index(drop=True)
    short = table.groupby(PATH).size().loc[lambda counts: counts != LENGTHS]
    if len(short):
        sys.exit(f"{len(short)} paths have no full set of lengths, such as {'/'.join(map(str, short.index[0]))}")
    return table


def best(table: pd.DataFrame) -> pd.DataFrame:
    """Return each loss's row with the lowest `choosing`, of equal ones the shorter, by network and seed."""
    return table.sort_values([*PATH, "choosing", "epochs"]).groupby(PATH).head(1).set_index(PATH)


def at(table: pd.DataFrame, rank: int) -> pd.DataFrame:
    """Return the rows of each path's longest training (`rank` -1), the one before it (-2), and so on."""
    return table.sort_values("epochs").groupby(PATH).nth(rank).set_index(PATH)


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return the registered comparisons (columns, means over seeds, in nats) by network."""
    chosen, full, twice = best(table), at(table, -2), at(table, -1)

    def of(part: pd.DataFrame, loss: str, fit: str) -> pd.Series:
        return part[f"kl_{fit}"].xs(loss, level="loss").groupby("network").mean()

    ce = of(chosen, "cross_entropy", "exact")
    others = pd.concat([of(chosen, loss, "exact") for loss in ("cross_entropy", "mixup2", "mixup5")], axis=1)
    return pd.DataFrame(
        {
            "1 CE + TS, all epochs minus best": of(full, "cross_entropy", "exact") - ce,
            "2 2-point Mixup minus CE, best, TS": of(chosen, "mixup2", "exact") - ce,
            "3 5-point Mixup minus CE, best, TS": of(chosen, "mixup5", "exact") - ce,
            "4 2-point Mixup minus CE + TS, 100%": of(full, "mixup2", "none") - of(full, "cross_entropy", "exact"),
            "4 the same, 200%": of(twice, "mixup2", "none") - of(twice, "cross_entropy", "exact"),
            "5 forward minus the best other, best": of(chosen, "forward", "none") - others.min(axis=1),
            "5 forward, 200%, minus CE + TS, best": of(twice, "forward", "none") - ce,
            "6 CE + auto, 200%, minus CE + TS, best": of(twice, "cross_entropy", "auto") - ce,
        }
    ).T


def main() -> None:
    table = rows(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
    tables_io.write_csv(OUT, table)
    print(best(table).groupby(["network", "loss"])[["epochs", "train_accuracy", *(f"kl_{fit}" for fit in FITS)]].mean())
    print(compared(table).round(3).to_string())


if __name__ == "__main__":
    main()
