"""Collect what each loss reaches at each length of training, and choose its best length.

    python -m studies.paths.lengths [RESULTS]

writes lengths.csv from the tables and cells of the experiment ``paths`` in RESULTS (by default, results), one row per
network, loss, number of epochs and seed, and, from lengths.csv alone if there are no such results, compared.csv, the
comparisons by network; it prints what each loss reaches at its best length, and the comparisons.

The predictions of paths.yaml against the means over three seeds, in nats, of the MLP, CNN, ResNet and ConvNeXt:

1. holds: CE + TS is lower at its best length than at 100% by .162, .222, .276 and .395.
2. holds: 2-point Mixup minus CE is .038, .026, .019 and .024, so CE is lower in all four.
3. doesn't hold: 5-point Mixup minus CE is .075, .086, .051 and .082, below .05 in none.
4. holds: from 100% to 200%, uncalibrated 2-point Mixup minus CE + TS grows from .419 to .571, from -.071 to .006, from
   -.177 to .005 and from .146 to .259; in ResNet, .005 isn't clearly above 0.
5. doesn't hold: uncalibrated forward correction minus the best other loss + TS is .007, -.079, .015 and -.082; at 200%,
   it lies above CE + TS at its best length in all four. Looked at afterwards: each at its best length, forward
   correction + TS lies below CE + TS by .053, .091, .060 and .088.
6. doesn't hold: CE + `auto` at 200% minus CE + TS at its best length is .057, .163, .137 and .227, below .1 in one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from halobench import fit_temperature, nll, open_cell
from halobench.analysis.t_intervals import t_interval
from halobench.core.seeding import generator
from halobench.results.trained_cell import TrainedCell
from halobench.storage import tables_io

OUT = Path(__file__).with_suffix(".csv")
COMPARED = OUT.with_name("compared.csv")
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
    kl = metrics.query("split == 'test' and labels == 'noisy' and metric == 'kl' and loss != 'reference'")
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
    """Return the comparisons by network: means over seeds of differences of KL, in nats, with their 95% t intervals.

    The first six are the registered ones; the last three are shares of a KL.
    """
    lengths = {"best": best(table), "100%": at(table, -2), "200%": at(table, -1)}

    def of(length: str, loss: str, fit: str = "exact") -> pd.Series:
        return lengths[length][f"kl_{fit}"].xs(loss, level="loss")

    ce, auto = of("best", "cross_entropy"), of("best", "cross_entropy", "auto")
    by_network = {loss: of("best", loss).groupby("network").mean() for loss in ("cross_entropy", "mixup2", "mixup5")}
    lowest = pd.DataFrame(by_network).idxmin(axis=1)
    rival = pd.concat([of("best", loss).loc[[network]] for network, loss in lowest.items()])
    differences = {
        "1 CE + TS, 100% minus best": of("100%", "cross_entropy") - ce,
        "2 2-point Mixup + TS minus CE + TS, best": of("best", "mixup2") - ce,
        "3 5-point Mixup + TS minus CE + TS, best": of("best", "mixup5") - ce,
        "4a 2-point Mixup minus CE + TS, 100%": of("100%", "mixup2", "none") - of("100%", "cross_entropy"),
        "4b 2-point Mixup minus CE + TS, 200%": of("200%", "mixup2", "none") - of("200%", "cross_entropy"),
        "5a forward minus the best other + TS, best": of("best", "forward", "none") - rival,
        "5b forward, 200%, minus CE + TS, best": of("200%", "forward", "none") - ce,
        "6 CE + auto, 200%, minus CE + TS, best": of("200%", "cross_entropy", "auto") - ce,
        "7 2-point Mixup + auto minus CE + auto, best": of("best", "mixup2", "auto") - auto,
        "8 forward + TS minus CE + TS, best": of("best", "forward") - ce,
        "9 forward + TS, 200%, minus CE + TS, best": of("200%", "forward") - ce,
        "10 CE, best, minus CE + TS, 100%": of("best", "cross_entropy", "none") - of("100%", "cross_entropy"),
        "11 CE, best, minus CE + partner, 100%": of("best", "cross_entropy", "none")
        - of("100%", "cross_entropy", "partner"),
    }
    for length in lengths:
        uncalibrated = of(length, "cross_entropy", "none")
        differences[f"12 share of CE's KL that TS removes, {length}"] = 1 - of(length, "cross_entropy") / uncalibrated
    rows = [
        {"comparison": name, "network": network, **dict(zip(("mean", "low", "high"), t_interval(values), strict=True))}
        for name, difference in differences.items()
        for network, values in difference.groupby("network")
    ]
    return pd.DataFrame(rows)


def main() -> None:
    results = Path(sys.argv[1] if len(sys.argv) > 1 else "results")
    if len(sys.argv) > 1 or (results / "tables/paths").exists():
        tables_io.write_csv(OUT, rows(results))
    table = pd.read_csv(OUT)
    shown = ["epochs", "train_accuracy", *(f"kl_{fit}" for fit in FITS)]
    print(best(table).groupby(["network", "loss"])[shown].mean().round(3).to_string())
    comparisons = compared(table)
    tables_io.write_csv(COMPARED, comparisons)
    print(comparisons.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
