"""A tenth of the cells of each run in results/published is computed again, and compared with the published tables.

On the machine and with the libraries that the records name, all numbers must be equal to the last digit; if a change of
the code changes one on purpose, publish the run again. Elsewhere, a number may differ from the published one as much as
those of two seeds: its tolerance comes from the variance between seeds, pooled over the run. Then, the claims are
judged with the new numbers in place of the published ones: each estimate must lie in the interval that the published
ones give, and no verdict may be reversed.

Cells whose jobs took longer than `LONGEST` aren't chosen, nor are runs of one seed: nothing says how far their numbers
may differ elsewhere.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats
from snakemake.utils import update_config

from compare_tables import VARYING
from conftest import ROOT, Workspace, needs
from halobench.analysis.claims import evaluate, load_claims
from halobench.core.plugins import RETIRED
from halobench.core.seeding import generator
from halobench.experiment.config_loader import load_config
from halobench.experiment.grid import Cell
from halobench.storage.columns import KEYS
from halobench.storage.records import read_record

PUBLISHED = ROOT / "results/published"
RUNS = sorted(
    path.parent.name for path in PUBLISHED.glob("*/runs.parquet") if pd.read_parquet(path)["seed"].nunique() > 1
)
SEED, SHARE = 0, 0.1  # of the choice
LONGEST = 300.0  # seconds on one core
CHANCE = 1e-3  # that any number exceeds its tolerance, if a cell computed again is as good as another seed
ROUNDING = 1e-6  # relative; for what is the same for all seeds
ROWS = {  # columns that tell the rows of a cell apart, by table
    "runs": [],
    "metrics": ["split", "labels", "calibrator", "metric"],
    "radii": ["points", "probe", "quantity", "calibrator", "threshold"],
}
EMPTY = {"threshold": -1.0}  # since NaN isn't equal to itself, by which rows are found
OF_ALL = ["seed_correction"]  # of a cell, but of the other seeds of its run as well


def published(run: str, name: str) -> pd.DataFrame:
    """A published table, without rows of what halobench no longer has; empty if the run has none."""
    path = PUBLISHED / run / f"{name}.parquet"
    if not path.exists():
        return pd.DataFrame(columns=[*KEYS, *ROWS[name]])
    table, retired = pd.read_parquet(path), [plugin for _, plugin in RETIRED]
    for column in {"calibrator", "probe"} & {*table.columns}:
        table = table[~table[column].isin(retired)]
    return table


def with_earlier_rule(table: pd.DataFrame, run: str) -> pd.DataFrame:
    """A table of cells that were computed again, with the published scores of `auto`, whose rule has changed since."""
    if "calibrator" not in table:
        return table
    old = published(run, "metrics")
    old = old[old["calibrator"] == "auto"].merge(table[KEYS].drop_duplicates(), on=KEYS)
    return pd.concat([table[table["calibrator"] != "auto"], old], ignore_index=True)


def about_auto(table: pd.DataFrame, run: str) -> str:
    """How today's rule of `auto` differs from the published one on cells that were computed again, in one line."""
    keys = [*KEYS, "split", "labels", "calibrator", "metric"]
    wanted = "calibrator == 'auto' and metric == 'nll' and split == 'test' and labels == 'noisy'"
    both = table.query(wanted).merge(published(run, "metrics"), on=keys, suffixes=("", "_old"))
    change = (both["value"] - both["value_old"])[~both["value"].eq(both["value_old"]) & both["value"].notna()]
    return f"auto: another test NLL in {len(change)} of {len(both)} cells: {', '.join(map('{:+.3f}'.format, change))}"


def configuration(run: str) -> dict:
    """config.yaml with the file that defines an experiment, if it doesn't itself."""
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    paths = [*(ROOT / "workflow/experiments").glob("*.yaml"), *(ROOT / "studies").glob("*/*.yaml")]
    files = [yaml.safe_load(path.read_text()) for path in sorted(paths)]
    for file in () if run in raw["experiments"] else [file for file in files if run in file.get("experiments", ())]:
        update_config(raw, file)
    for model in (model for model in raw["models"].values() if "weights" in model):
        model["weights"] = str(ROOT / model["weights"])
    return raw


def choose(run: str) -> tuple[list[Cell], int]:
    """A tenth of a run's cells, none of which takes long, and how many aren't chosen from."""
    cells = sorted(Cell(*row) for row in published(run, "runs")[KEYS].itertuples(index=False))
    seconds = published(run, "jobs").groupby("key")["seconds"].sum()
    short = [cell for cell in cells if seconds[cell.path] <= LONGEST]
    picked = generator(SEED, "published", run).permutation(len(short))[: math.ceil(SHARE * len(cells))]
    return [short[i] for i in sorted(picked)], len(cells) - len(short)


def restrict(raw: dict, run: str, cells: list[Cell]) -> dict:
    """A configuration in which an experiment has only these cells."""
    probed = load_config(raw).probed(run)
    blocks = [
        {"datasets": [cell.dataset], "models": [cell.model], "losses": [cell.loss], "seeds": [cell.seed]}
        | ({} if cell in probed else {"probe": False})
        for cell in cells
    ]
    update_config(raw, {"run": [run], "experiments": {run: {"grid": blocks}}})
    return raw


def numbers(name: str, table: pd.DataFrame) -> pd.Series:
    """All numbers of a table that don't vary from run to run, by cell, row and column; booleans count as numbers."""
    rows = table.drop(columns=[*VARYING.get(name, []), *OF_ALL], errors="ignore").fillna(EMPTY)
    rows = rows.set_index([*KEYS, *ROWS[name]])
    kept = rows.select_dtypes(["number", "bool"]).astype(float).rename_axis(columns="column")
    return kept.stack(future_stack=True)


def of_cells(values: pd.Series, cells: list[Cell]) -> pd.Series:
    """The numbers of these cells."""
    chosen = {(cell.dataset, cell.model, cell.loss, cell.seed) for cell in cells}
    return values[[key[: len(KEYS)] in chosen for key in values.index]]


def tolerance(values: pd.Series, count: int) -> pd.Series:
    """How far a number may be from the published one, by row and column.

    Two values of the same distribution differ by a variable with twice its variance. The variance is that between seeds
    of the same data set, model and loss, pooled over these; there are `count` comparisons in all.
    """
    groups = values[np.isfinite(values)].groupby([name for name in values.index.names if name != "seed"])
    freedom, squares = groups.size() - 1, groups.var().fillna(0.0) * (groups.size() - 1)
    kinds = [name for name in values.index.names if name not in KEYS]
    freedom, squares = freedom.groupby(kinds).sum(), squares.groupby(kinds).sum()
    quantile = stats.t.isf(CHANCE / (2 * count), freedom.clip(lower=1))
    return (quantile * np.sqrt(2 * squares / freedom)).where(freedom > 0, np.inf)


def alike(workspace: Workspace, run: str, cells: list[Cell]) -> bool:
    """Whether these cells were published from this machine with the same libraries, by their records."""
    jobs = published(run, "jobs")
    facts = ["hardware", "versions"]
    rows = jobs[jobs["key"].isin([cell.path for cell in cells])].set_index(["stage", "key"])[facts]
    for (stage, key), before in rows.map(json.loads).iterrows():
        now = read_record(workspace.folder / f"results/runs/{key}/{stage}.json")
        if any({**before[fact], "halobench": ""} != {**now[fact], "halobench": ""} for fact in facts):
            return False
    return True


def compare(old: pd.Series, new: pd.Series, limits: pd.Series | None) -> pd.DataFrame:
    """The published numbers that the new ones are too far from; with `limits` None, all that aren't equal."""
    both = pd.DataFrame({"published": old, "again": new.reindex(old.index)})
    same = (both["published"] == both["again"]) | both.isna().all(axis=1)
    if limits is None:
        return both[~same]
    both = both.join(limits.rename("limit"), on=list(limits.index.names))
    near = (both["published"] - both["again"]).abs() <= both["limit"] + ROUNDING * both["published"].abs()
    return both[~same & ~near]


def judged(run: str, again: Mapping[str, pd.DataFrame] | None = None) -> pd.DataFrame:
    """The tested claims, by claim and scope, with rows of cells that were computed again in place of the published."""
    tables = {name: published(run, name) for name in ROWS}
    for name, rows in (again or {}).items():
        before = tables[name].set_index([*KEYS, *ROWS[name]])
        before.update(rows.set_index([*KEYS, *ROWS[name]]).drop(columns=OF_ALL, errors="ignore"))
        tables[name] = before.reset_index().astype(tables[name].dtypes)
    verdicts = evaluate(load_claims(ROOT / "workflow/claims.yaml"), tables)
    return verdicts[verdicts["verdict"] != "not_tested"].set_index(["claim", "scope"])


def moved(run: str, after: pd.DataFrame, exact: bool) -> pd.DataFrame:
    """The claims that new numbers change; unless `exact`, those that they change by more than seeds do."""
    shown = ["estimate", "low", "high", "verdict"]
    both = judged(run)[shown].join(after[shown], rsuffix=" again", how="inner")
    if exact:
        return both[[any(row[key] != row[f"{key} again"] for key in shown) for _, row in both.iterrows()]]
    outside = ~both["estimate again"].between(both["low"], both["high"])
    reversed_ = [
        set(pair) == {"holds", "does_not"} for pair in zip(both["verdict"], both["verdict again"], strict=True)
    ]
    return both[outside | np.array(reversed_, dtype=bool)]


def test_the_tolerance_is_that_of_the_difference_of_two_seeds():
    """With known variances, normal quantiles and many groups, in which one seed alone says nothing."""
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_product(
        [["d"], range(4000), ["l"], [0, 1, 2], ["small", "large"]], names=[*KEYS, "column"]
    )
    values = pd.Series(rng.normal(index.get_level_values("model"), 1.0), index)
    values *= np.where(index.get_level_values("column") == "large", 10.0, 1.0)
    alone = pd.Series([1.0, np.nan], pd.MultiIndex.from_tuples([("d", "m", "l", 0, name) for name in ("one", "none")]))
    found = tolerance(pd.concat([values, alone.rename_axis(values.index.names)]), 50)
    expected = np.sqrt(2) * stats.norm.isf(CHANCE / 100)
    assert found[["small", "large"]].tolist() == pytest.approx([expected, 10 * expected], rel=0.03)
    assert found["one"] == np.inf


def test_verdicts_follow_from_the_published_tables_and_change_with_a_cell():
    run = "demo"
    verdicts = judged(run)
    assert len(verdicts) > 20
    assert moved(run, verdicts, exact=True).empty
    metrics = published(run, "metrics").query("seed == 0 and loss == 'mixup2'")
    spoilt = judged(run, {"metrics": metrics.assign(value=metrics["value"] + 10)})
    assert not moved(run, spoilt, exact=False).empty


@pytest.mark.soak
@pytest.mark.workflow
@pytest.mark.parametrize("run", RUNS)
def test_cells_that_are_computed_again_are_as_published(run, tmp_path):
    cells, long = choose(run)
    workspace = Workspace(tmp_path, restrict(configuration(run), run, cells))
    command = ("run", "--cores", "1", f"results/tables/{run}/aggregate.json")
    folders = [ROOT, ROOT / "data/strangers"]  # for figures in `studies`, and networks that others trained
    path = os.pathsep.join(filter(None, [*map(str, folders), os.environ.get("PYTHONPATH")]))
    limit = 4 * int(LONGEST) * len(cells)
    done = workspace.module("halobench.cli.main", *command, environment={"PYTHONPATH": path}, timeout=limit)
    said = (done.stdout + done.stderr)[-3000:]
    needs((tmp_path / "results/sources").exists(), f"what its run was refused for: {said}")
    assert done.returncode == 0, said
    names = [name for name in ROWS if len(published(run, name))]
    again = {name: pd.read_parquet(tmp_path / f"results/tables/{run}/{name}.parquet") for name in names}
    if "metrics" in again:
        print(about_auto(again["metrics"], run))
        again["metrics"] = with_earlier_rule(again["metrics"], run)
    exact = alike(workspace, run, cells)
    all_old = {name: numbers(name, published(run, name)) for name in names}
    new = {name: numbers(name, again[name]) for name in names}
    old = {name: of_cells(all_old[name], cells) for name in names}
    gone = [key for name in names for key in sorted(set(old[name].index) - set(new[name].index), key=str)]
    assert not gone, f"{len(gone)} published numbers that don't exist now, such as {gone[:5]}"
    count = sum(map(len, old.values()))
    limits = {name: None if exact else tolerance(all_old[name], count) for name in names}
    far = {name: compare(old[name], new[name], limits[name]) for name in names}
    equal = count - sum(len(compare(old[name], new[name], None)) for name in names)
    claims = judged(run, again)
    where = "on the same machine" if exact else "elsewhere or with other libraries"
    print(f"{run}: {len(cells)} cells, chosen without {long} that took longer than {LONGEST:g} s, {where}")
    print(f"{equal:,} of {count:,} numbers are equal to the last digit, and {len(claims)} verdicts were compared")
    assert not any(map(len, far.values())), "\n".join(f"{name}:\n{rows}" for name, rows in far.items() if len(rows))
    changed = moved(run, claims, exact)
    assert changed.empty, changed.to_string()
