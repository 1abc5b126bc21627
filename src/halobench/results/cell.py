"""What is known of one trained cell, read from its files; and what tells two cells, or two results folders, apart."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from halobench.core.errors import SpecError
from halobench.core.spec_codec import to_json
from halobench.storage import files, tables_io
from halobench.storage.columns import METRICS_COLUMNS
from halobench.storage.layout import stage_records
from halobench.storage.records import check_recorded, read_record

POINT = ["split", "labels", "calibrator", "metric"]  # what a value of the metrics table is of
# What is told of a record; one that another version left may lack some.
KEYS = ["spec", "seed", "seconds", "finished", "commit", "device", "versions", "hardware"]
TRAIN_KEYS = ["train_accuracy", "interpolates", "steps", "parameters"]
SEVERAL = 12  # names that a message tells


@dataclass(frozen=True)
class Card:
    """One cell's files, read.

    Attributes
    ----------
    name : str
        Its folder under ``results/runs``.
    results : Path
        The results folder.
    records : mapping of stage to record
        Of those of train, probe and calibrate that have ended.
    fits : list of dict
        As `halobench.calibration.evaluate.Calibrated.fits`; empty before calibration, as the tables are.
    metrics, history : DataFrame
    """

    name: str
    results: Path
    records: Mapping[str, Mapping[str, Any]]
    fits: list[dict[str, Any]]
    metrics: pd.DataFrame
    history: pd.DataFrame

    @property
    def train(self) -> Mapping[str, Any]:
        """The record of its training."""
        return self.records["train"]

    @property
    def spec(self) -> dict[str, Any]:
        """What its stages were given, by dotted keys; the seed as one of them."""
        given = {"seed": self.train["seed"], **self.train["spec"]}
        given |= {stage: self.records[stage]["spec"] for stage in ("calibrate",) if stage in self.records}
        if "probe" in self.records:
            given["probes"] = self.records["probe"]["spec"]["probes"]
        return dict(flat(given))


def flat(spec: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings by dotted keys."""
    for key, value in spec.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{lead}{key}.")
        else:
            yield f"{lead}{key}", value


def cell_names(results: Path) -> list[str]:
    """The cells of a results folder that are trained, sorted.

    Raises
    ------
    SpecError
        If there is no such folder, or no trained cell in it.
    """
    what = "a results folder: one that holds `runs`, as `halobench run` makes it"
    if not (results / "runs").is_dir():
        raise SpecError(str(results), "no folder" if not results.is_dir() else "no folder `runs` in it", what)
    found = sorted(str(path.parent.relative_to(results / "runs")) for path in results.glob("runs/*/*/*/*/train.json"))
    if not found:
        raise SpecError(str(results / "runs"), "no cell that is trained", "at least one: `halobench run` trains them")
    return found


def one_cell(results: Path, name: str) -> str:
    """The cell that `name` is, or is the one of which it is a part.

    Raises
    ------
    SpecError
        If there is none, with the nearest names; or if there are several, with them.
    """
    names = cell_names(results)
    if name not in names:  # given as a path, perhaps: what stands after `runs`
        parts = name.strip("/").split("/")
        name = "/".join(parts[parts.index("runs") + 1 :] if "runs" in parts else parts)
    if name in names:
        return name
    found = [known for known in names if f"/{name}/" in f"/{known}/"] or [known for known in names if name in known]
    if len(found) == 1:
        return found[0]
    if found:
        more = f" and {len(found) - SEVERAL} more" if len(found) > SEVERAL else ""
        raise SpecError("cell", name, f"the name of one cell, and it is a part of {', '.join(found[:SEVERAL])}{more}")
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:3]
    raise SpecError("cell", name, f"one of the {len(names)} cells trained in {results}; near are {', '.join(near)}")


def read_card(results: Path, name: str) -> Card:
    """Read the files of the cell that `name` is, or is a part of.

    Raises
    ------
    SpecError
        As `one_cell`; or if a file isn't what its record tells of.
    """
    name = one_cell(results, name)
    folder = results / "runs" / name
    there = [file for file in stage_records(probed=True) if (folder / file).exists()]
    records = {
        file.removesuffix(".json"): read_record(folder / file, KEYS + TRAIN_KEYS * (file == "train.json"))
        for file in there
    }
    calibrated = "calibrate" in records
    for file in ("calibration.json", "metrics.csv", "history.csv"):
        if file == "history.csv" or calibrated:
            check_recorded(folder / file)
    return Card(
        name,
        results,
        records,
        files.read_json(folder / "calibration.json") if calibrated else [],
        tables_io.read_csv(folder / "metrics.csv", METRICS_COLUMNS)
        if calibrated
        else pd.DataFrame(columns=METRICS_COLUMNS),
        tables_io.read_csv(folder / "history.csv", least=0),
    )


def commands(card: Card, out: str = "again") -> list[str]:
    """The commands that make the cell anew, from its source to its metrics, in the folder `out`."""
    dataset = card.train["spec"]["dataset"]["source"]
    source, cell = f"{out}/sources/{dataset}", f"{out}/{card.name}"
    lines = []
    record = card.results / "sources" / dataset / "source.json"
    if record.exists():
        lines.append(_line("source", "--spec", to_json(read_record(record, ["spec"])["spec"]), "--out", source))
    given: dict[str, tuple[str, ...]] = {"train": ("--source", source, "--out", cell)}
    given |= {"probe": ("--source", source, "--run", cell), "calibrate": ("--run", cell)}
    for stage, arguments in given.items():
        if stage in card.records:
            made = card.records[stage]
            lines.append(_line(stage, *arguments, "--seed", str(made["seed"]), "--spec", to_json(made["spec"])))
    return lines


def _line(*arguments: str) -> str:
    return shlex.join(["halobench", *arguments])


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Keys of two specs, as `Card.spec` gives them, whose values differ, with both; None where one hasn't the key."""
    keys = [*first, *(key for key in second if key not in first)]
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]


def changes(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """What two tables of metrics say of the same splits, labels, calibrators and metrics.

    Returns
    -------
    DataFrame
        split, labels, calibrator, metric; value, low and high of both, with suffixes ``_a`` and ``_b``; ``change``, the
        second value less the first (0 where both are the same infinity); and ``beyond``: whether the 95% intervals
        have no number in common, None where a value has none.
    """
    both = first.merge(second, on=POINT, suffixes=("_a", "_b"), how="inner", sort=False)
    same = (both["value_a"] == both["value_b"]) | (both["value_a"].isna() & both["value_b"].isna())
    both["change"] = (both["value_b"] - both["value_a"]).mask(same, 0.0)
    apart = (both["low_b"] > both["high_a"]) | (both["low_a"] > both["high_b"])
    known = both[["low_a", "high_a", "low_b", "high_b"]].notna().all(axis=1)
    both["beyond"] = apart.astype(object).where(known, None)
    return both
