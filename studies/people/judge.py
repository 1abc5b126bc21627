"""Judge the registered tests of ``people.yaml`` by cells.csv.

    python -m studies.people.judge

prints each test with its verdict, and writes tests.csv, and means.csv, the means of all scores over blocks. The unit is
the block: differences are averaged over the networks in it, so the mean of five has four degrees of freedom. Holm's
procedure is over the seven p-values, each of the margin that is nearest to the mean.

Of the four predictions without a test, one holds: under permuted labels, TS leaves each network's CE at least .83 above
the oracle by class, at all lengths. At mirrored and shifted training images, unwarranted certainty with all epochs is
-.52 to -.26, not above .05. `top_gap` is lower at training images than at new ones, for all three networks. Unwarranted
certainty is below 0 for CE, too, so there is none of which Mixup could have a third.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from halobench.analysis.claims.verdicts import adjusted
from halobench.analysis.t_intervals import LEVEL, p_value, t_interval
from halobench.storage import tables_io
from studies.people.blocks import BLOCKS, SPLITS
from studies.people.measure import OUT

CELL = ["arm", "labels", "block", "network", "loss"]
FULL = 100  # percent of a recipe's epochs
NULL = "linear"  # a network in no test
BASE, MIXED = "cross_entropy", "mixup2"


@dataclass(frozen=True)
class Test:
    """A registered test of a mean difference in nats (or, of certainty, in probability) against one or two margins.

    `correction` is that of `t_interval` for blocks that share images, as those of arm H do.
    """

    name: str
    margins: tuple[float, ...]
    of: Callable[[pd.DataFrame], pd.Series]  # a row per block and network
    correction: float = 0.0


def at_best(cells: pd.DataFrame) -> pd.DataFrame:
    """Return each loss's row at its best length, by block and network, averaged over the halves that chose it.

    The best length of a half has the lowest NLL after TS there; of equal ones, the shorter.
    """
    ranked = cells.sort_values([*CELL, "half", "choosing", "length"])
    return _averaged(ranked.groupby([*CELL, "half"], sort=False).head(1))


def at_full(cells: pd.DataFrame) -> pd.DataFrame:
    """Return each loss's row at the recipe's number of epochs."""
    return _averaged(cells[cells["length"] == FULL])


def _averaged(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby(CELL).mean(numeric_only=True)


def _of(rows: pd.DataFrame, column: str, loss: str = BASE, arm: str = "N", labels: str = "person") -> pd.Series:
    return rows[column].xs((arm, labels, loss), level=("arm", "labels", "loss"))


def above_oracle(cells: pd.DataFrame) -> pd.Series:
    """Return what TS leaves CE at its best length above the oracle by class: true minus permuted labels."""
    best = at_best(cells).assign(gap=lambda rows: rows["nll_TS"] - rows["nll_oracle"])
    return _of(best, "gap") - _of(best, "gap", labels="permuted")


TESTS = (
    Test(
        "1 Mixup minus CE, each at its best length, after TS",
        (-0.02, 0.02),
        lambda cells: _of(at_best(cells), "nll_TS", MIXED) - _of(at_best(cells), "nll_TS"),
    ),
    Test(
        "2 Mixup minus CE, each at its best length, after auto",
        (-0.02, 0.02),
        lambda cells: _of(at_best(cells), "nll_auto", MIXED) - _of(at_best(cells), "nll_auto"),
    ),
    Test(
        "3 CE after TS, all epochs minus its best length",
        (0.02,),
        lambda cells: _of(at_full(cells), "nll_TS") - _of(at_best(cells), "nll_TS"),
    ),
    Test("4 what TS leaves CE above the oracle by class, true minus permuted labels", (-0.02, 0.02), above_oracle),
    Test(
        "5a partner scaling minus TS, CE at its best length, arm N",
        (-0.02,),
        lambda cells: _of(at_best(cells), "nll_partner") - _of(at_best(cells), "nll_TS"),
    ),
    Test(
        "5b partner scaling minus TS, CE at its best length, arm H",
        (0.01,),
        lambda cells: _of(at_best(cells), "nll_partner", arm="H") - _of(at_best(cells), "nll_TS", arm="H"),
        SPLITS["H"][2] / SPLITS["H"][0],
    ),
    Test(
        "6 unwarranted certainty at training images, CE with all epochs, after TS",
        (0.05,),
        lambda cells: _of(at_full(cells), "unwarranted_itself"),
    ),
)


def judged(tests: tuple[Test, ...], cells: pd.DataFrame) -> pd.DataFrame:
    """Return a row per test, of the mean over networks and then blocks, and a row per network for each."""
    rows, cells = [], cells[cells["network"] != NULL]
    for test in tests:
        by_block = test.of(cells).unstack("network")
        if by_block.isna().any(axis=None) or len(by_block) != BLOCKS:
            sys.exit(f"{test.name}: cells are missing; finish the run and the measures first")
        for network, values in [("all", by_block.mean(axis=1)), *by_block.items()]:
            mean, low, high = t_interval(values.to_numpy(), test.correction)
            nearest = min(test.margins, key=lambda margin: abs(mean - margin))
            row = {"test": test.name, "network": network, "mean": mean, "low": low, "high": high}
            rows.append(
                row
                | {
                    "margins": " ".join(map(str, test.margins)),
                    "p": p_value(values.to_numpy(), nearest, test.correction),
                }
            )
    table = pd.DataFrame(rows)
    primary = table["network"] == "all"
    table["holm"] = np.where(primary, 0.0, np.nan)
    table.loc[primary, "holm"] = adjusted(table.loc[primary, "p"].to_numpy())
    return table.assign(verdict=[_verdict(row) for row in table.to_dict("records")])


def _verdict(row: dict) -> str:
    """Return where the mean lies, ``below``, ``within`` or ``above`` the margins, or ``undecided``.

    Of all networks, Holm's p-value decides; of one network, the interval, which isn't corrected.
    """
    margins = np.array(row["margins"].split(), dtype=float)
    place = ["below", *(["within"] if len(margins) == 2 else []), "above"][np.searchsorted(margins, row["mean"])]
    return place if (row["holm"] if row["network"] == "all" else row["p"]) < 1 - LEVEL else "undecided"


def gaps(best: pd.DataFrame) -> pd.DataFrame:
    """Return two differences in nats by network, after TS, for CE at its best length, from `best`, means over blocks.

    What networks trained on true labels have above the oracle by class, and what they would lose if they had learned
    permuted labels, both scored by true ones.
    """
    rows = best[(best["arm"] == "N") & (best["loss"] == BASE) & (best["network"] != NULL)].set_index("network")
    person, permuted = (rows[rows["labels"] == labels] for labels in ("person", "permuted"))
    above = {"above_oracle": person["nll_TS"] - person["nll_oracle"]}
    return pd.DataFrame(above | {"cost_of_permuting": permuted["nll_TS_other"] - person["nll_TS"]}).reset_index()


def main() -> None:
    cells = pd.read_csv(OUT)
    counts = cells.groupby([*CELL, "half"])["length"].nunique()
    lacking = counts[counts < counts.groupby(["arm", "labels", "network", "loss"]).transform("max")]
    if len(lacking):
        sys.exit(f"{len(lacking)} cells have no full set of lengths, such as {'/'.join(map(str, lacking.index[0]))}")
    levels = ["arm", "labels", "network", "loss"]
    best = at_best(cells).groupby(levels).mean(numeric_only=True).drop(columns="length").reset_index()
    means = cells.groupby([*levels, "length"]).mean(numeric_only=True).reset_index()
    means = pd.concat([means.astype({"length": str}), best.assign(length="best")])
    tables_io.write_csv(OUT.with_name("means.csv"), means.drop(columns="half"))
    tables_io.write_csv(OUT.with_name("gaps.csv"), gaps(best))
    table = judged(TESTS, cells)
    tables_io.write_csv(OUT.with_name("tests.csv"), table)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
