"""The fast code that joins and draws thousands of cells matches the plain way, number for number."""

from __future__ import annotations

import copy
import itertools
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from conftest import ROOT
from grid_files import write_grid
from halobench.analysis import radii_summary, shared_samples
from halobench.analysis.claims import evaluate, load_claims
from halobench.analysis.random_ray_null import summarise_nulls
from halobench.analysis.t_intervals import t_interval
from halobench.core.errors import SpecError
from halobench.probing.probe import CURVES
from halobench.reporting import seed_statistics
from halobench.results import aggregate
from halobench.results.job_and_fit_tables import temperature
from halobench.storage import files as store
from halobench.storage import tables_io
from halobench.storage.columns import METRICS_COLUMNS
from halobench.storage.layout import ORIGINS, STAGES, TABLES
from halobench.storage.records import seal

KEYS = ["dataset", "model", "loss", "seed"]
RADII = ["points", "probe", "quantity", "calibrator"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Files of 12 cells and their manifest."""
    folder = tmp_path_factory.mktemp("grid")
    return write_grid(folder), folder


@pytest.fixture
def grid(written, tmp_path, monkeypatch):
    """Editable copies of these; batches end within the grid."""
    monkeypatch.setattr(aggregate, "BATCH", 5)
    manifest, folder = written
    return copy.deepcopy(manifest), shutil.copytree(folder, tmp_path / "results")


# Joining --------------------------------------------------------------------------------------------------------------


def censored_quantile(values: np.ndarray, censored: np.ndarray, level: float) -> float:
    """A quantile (an order statistic, not interpolated) of right-censored values."""
    uncensored = np.sort(values[~censored])
    rank = int(np.ceil(level * len(values))) - 1
    if np.isnan(values).any():
        return math.nan
    return float(uncensored[max(rank, 0)] if rank < len(uncensored) else values[censored].min())


def plain_radii(radii: pd.DataFrame) -> pd.DataFrame:
    """Quartiles, one group at a time."""
    rows = []
    for found, group in radii.groupby(RADII, sort=True):
        row = dict(zip(RADII, found, strict=True))
        row |= {"threshold": group["threshold"].iloc[0], "n": len(group), "censored": group["censored"].mean()}
        for name, scale in (("radius", 1.0), ("relative", group["other_distance"]), ("fraction", group["line_length"])):
            values = group["radius"].to_numpy() / np.asarray(scale)
            for level, label in ((0.25, "q25"), (0.5, "median"), (0.75, "q75")):
                row[f"{name}_{label}"] = censored_quantile(values, group["censored"].to_numpy(), level)
        relative = (group["radius"] / group["other_distance"]).to_numpy()
        shares = radii_summary.survival(relative[None], group["censored"].to_numpy()[None])[0]
        row |= dict(zip(radii_summary.SURVIVAL_COLUMNS, shares, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_survival_is_the_estimator_of_kaplan_and_meier(share):
    rng = np.random.default_rng(0)
    values, censored = rng.choice(np.geomspace(0.008, 1.8, 30), (40, 25)), rng.uniform(size=(40, 25)) < share
    values[0], values[1, 3] = 0, np.nan
    found = radii_summary.survival(values, censored)
    for row, ends, shares in zip(values, ~censored, found, strict=True):
        if np.isnan(row).any():
            assert np.isnan(shares).all()
            continue
        known = stats.ecdf(stats.CensoredData(uncensored=row[ends], right=row[~ends])).sf
        beyond = (np.asarray(radii_summary.SURVIVAL) > row.max()) & (row[~ends] == row.max()).any()
        expected = np.where(beyond, np.nan, known.evaluate(radii_summary.SURVIVAL))
        np.testing.assert_allclose(shares, expected, rtol=1e-12, atol=1e-15)


def random_radii(seed: int, count: int = 3000) -> pd.DataFrame:
    """Unordered radii in groups of many sizes, with ties, infinities, gaps, and groups that are all censored."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({name: rng.choice([*"abc"], count, p=[0.6, 0.3, 0.1]) for name in RADII})
    table["threshold"] = rng.choice([0.5, 0.9], count)
    table["radius"] = np.round(rng.lognormal(0, 1, count), 1)
    table["censored"] = rng.uniform(size=count) < rng.choice([0.0, 0.3, 0.9], count)
    table.loc[::9, "radius"] = np.inf
    table.loc[table["probe"] == "c", "censored"] = True
    table["other_distance"] = rng.uniform(1, 2, count)
    table["line_length"] = np.where(rng.uniform(size=count) < 0.02, np.nan, 2.0)
    return table


def test_quartiles_of_all_groups_at_once_are_those_of_each():
    table = random_radii(0)
    pd.testing.assert_frame_equal(radii_summary.summarise_radii(table), plain_radii(table), check_exact=True)
    few = table.iloc[:3]
    pd.testing.assert_frame_equal(radii_summary.summarise_radii(few), plain_radii(few), check_exact=True)


def plain_tables(manifest, results) -> dict[str, pd.DataFrame]:
    """The tables of a manifest's cells, one file at a time."""
    found = {}
    for name, file in ((name, table.file) for name, table in aggregate.JOINED.items()):
        parts = []
        for cell in manifest["cells"]:
            path = results / "runs" / cell["path"] / file
            if file.endswith(".parquet") and "probe" not in cell["stages"]:
                continue
            table = (
                pd.read_parquet(path)
                if file.endswith(".parquet")
                else tables_io.parse_csv(path, path.read_bytes(), least=0)
            )
            table = plain_radii(table) if name == "radii" else table
            if "probe" in table:  # these cells' probes are named after their kinds
                table.insert(table.columns.get_loc("probe") + 1, "kind", table["probe"].astype(str))
            parts.append(pd.concat([pd.DataFrame({key: cell[key] for key in KEYS}, index=table.index), table], axis=1))
        found[name] = pd.concat([part for part in parts if len(part)], ignore_index=True)
    scores = [found["metrics"]]
    for reference in manifest["references"]:
        path = results / "references" / reference["path"] / "metrics.csv"
        table = tables_io.parse_csv(path, path.read_bytes())
        lead = {"dataset": reference["dataset"], "model": table.pop("model"), "loss": "reference"}
        lead |= {"seed": reference["seed"]}
        scores.append(pd.concat([pd.DataFrame(lead, index=table.index), table], axis=1))
    return found | {"metrics": pd.concat(scores, ignore_index=True)}


def assert_same_tables(found, expected) -> None:
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name][table.columns], table, check_exact=True)


def test_a_cell_without_curves_has_radii_alone(tmp_path):
    """Search probes walk along no rays; such a cell is joined alone, and with a cell that has curves."""
    empty = pd.DataFrame({name: np.empty(0) for name in CURVES}).assign(points="train", probe="attacked")
    walked = pd.DataFrame({name: [0.5] for name in CURVES}).assign(points="train", probe="sphere")
    files = []
    for name, table in (("searched", empty), ("walked", walked)):
        path = tmp_path / f"{name}.parquet"
        tables_io.write_parquet(path, table)
        files.append((path, path.read_bytes()))
    for chosen, counts in ((files, [0, 1]), (files[::-1], [1, 0]), (files[:1], [0])):
        table, rows = aggregate.JOINED["neighbourhood"].read(chosen)
        assert (rows, len(table)) == (counts, sum(counts))
        assert set(table) == {*CURVES, "points", "probe"}


def test_tables_read_many_at_a_time_are_those_of_one_file_after_the_other(grid):
    manifest, results = grid
    found = dict(aggregate.aggregate(manifest, results))
    assert set(found) == {*TABLES, *ORIGINS}
    assert_same_tables(found, plain_tables(manifest, results))
    for name, column in itertools.product(
        [name for name, table in aggregate.JOINED.items() if table.repeats], aggregate.REPEATED
    ):
        values = found["runs"].groupby("dataset")[column].first()
        assert (found[name][column] == found[name]["dataset"].map(values)).all(), (name, column)
    for name in (name for name, table in aggregate.JOINED.items() if table.probed):
        assert (found[name]["kind"] == found[name]["probe"]).all(), "each probe has the name of its kind"
    assert [tuple(row) for row in found["runs"][KEYS].itertuples(index=False)] == [
        tuple(cell[key] for key in KEYS) for cell in manifest["cells"]
    ]


def test_repair_ladders_are_further_rows_of_metrics(grid):
    """Of the cells that have one; the jobs that computed them are listed too."""
    manifest, results = grid
    before = dict(aggregate.aggregate(manifest, results))
    for number in (2, 7):
        cell = manifest["cells"][number]
        folder = results / "runs" / cell["path"]
        cell["stages"].append("repair")
        values = [("test", "clean", "none", "repair_training", number / 10, 0.0, 1.0)]
        (folder / "repair.csv").write_text(pd.DataFrame(values, columns=METRICS_COLUMNS).to_csv(index=False))
        cell["outputs"]["repair.csv"] = store.checksum(folder / "repair.csv")
        record = json.loads((folder / "calibrate.json").read_text()) | {"stage": "repair", "outputs": {}}
        (folder / "repair.json").write_text(json.dumps(seal(record)))
    after = dict(aggregate.aggregate(manifest, results))
    ladders = after["metrics"][after["metrics"]["metric"] == "repair_training"]
    cells = [manifest["cells"][number] for number in (2, 7)]
    assert ladders[KEYS].to_dict("records") == [{key: cell[key] for key in KEYS} for cell in cells]
    assert ladders["value"].tolist() == [0.2, 0.7]
    others = after["metrics"].drop(ladders.index).reset_index(drop=True)
    pd.testing.assert_frame_equal(others, before["metrics"])
    assert after["jobs"].loc[after["jobs"]["stage"] == "repair", "key"].tolist() == [cell["path"] for cell in cells]


def test_only_euclidean_attacks_on_cells_of_a_known_dimension_have_nulls(grid):
    """Their rows are those of the samples' own radii; without the dimension, which old records lack, there are none."""
    manifest, results = grid
    before = dict(aggregate.aggregate(manifest, results))["radii"]
    kinds = {"manifold": {"kind": "adversarial"}, "sphere": {"kind": "adversarial", "norm": "inf"}}
    kinds |= {name: {"kind": name} for name in ("mixup_line", "nearest_other")}
    for number, facts in ((1, {}), (2, {"dimension": 64}), (3, {"dimension": 1})):
        path = results / "runs" / manifest["cells"][number]["path"] / "probe.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps(seal(record | facts | {"spec": record["spec"] | {"probes": kinds}})))
    after = dict(aggregate.aggregate(manifest, results))["radii"]
    nulls = after[after["quantity"].isin(("half_space", "half_spaces"))]
    others = after[~after.index.isin(nulls.index)].reset_index(drop=True)
    pd.testing.assert_frame_equal(others.drop(columns="kind"), before.drop(columns="kind"))
    assert set(others.loc[others["probe"] == "manifold", "kind"]) == {"manifold", "adversarial"}
    cell = manifest["cells"][2]
    assert {tuple(row) for row in nulls[KEYS].itertuples(index=False)} == {tuple(cell[key] for key in KEYS)}
    assert set(nulls["probe"]) == {"manifold"}
    assert set(nulls["kind"]) == {"adversarial"}
    assert set(nulls["points"]) == {"train", "heldout"}
    radii = pd.read_parquet(results / "runs" / cell["path"] / "radii.parquet")
    radii = radii.query("points == 'heldout' and probe == 'manifold' and quantity == 'certainty'")
    expected = summarise_nulls(radii.query("calibrator == 'none'"), 64, {"half_spaces": 9}, radii_summary.QUARTILES)
    found = nulls.query("points == 'heldout' and calibrator == 'none' and quantity == 'half_spaces'").iloc[0]
    assert dict(found[[*expected["half_spaces"]]]) == expected["half_spaces"]


def edited(manifest, results, number: int, name: str, content: bytes) -> None:
    """Change a cell's file, and its entry in the manifest."""
    cell = manifest["cells"][number]
    path = results / "runs" / cell["path"] / name
    path.write_bytes(content)
    cell["outputs"][name] = store.checksum(path)


def test_files_that_are_not_alike_are_joined_as_well(grid):
    """They differ in an extra column, quotes, line ends, no rows, whole numbers, and cells without a probe."""
    manifest, results = grid
    one = b"epoch,step,lr,train_loss\n"
    edited(manifest, results, 1, "history.csv", one + b"1,20,0.5,2\n2,40,0.25,1\n")
    edited(manifest, results, 3, "history.csv", one)
    edited(manifest, results, 6, "history.csv", one + b'1,20,"0.5",inf\r\n\r\n2,40,,1\r\n')
    edited(manifest, results, 7, "history.csv", b"epoch,step,lr,train_loss,note\n1,20,0.5,2,NA\n2,40,0.5,2,a b\n")
    for number in (0, 4, 11):
        manifest["cells"][number]["stages"].remove("probe")
    found = dict(aggregate.aggregate(manifest, results))
    assert len(found["history"]) == 8 * 100 + 6
    assert_same_tables(found, plain_tables(manifest, results))


def test_without_a_fit_the_table_of_fits_is_empty_and_all_others_are_read(grid, tmp_path):
    """This happens with ``calibrators: [none]``; the claims and pages read all tables."""
    manifest, results = grid
    for number, cell in enumerate(manifest["cells"]):
        folder = results / "runs" / cell["path"]
        for name in ("metrics.csv", "reliability.csv"):
            kept = pd.read_csv(folder / name).query("calibrator == 'none'")
            edited(manifest, results, number, name, kept.to_csv(index=False).encode())
        edited(manifest, results, number, "calibration.json", b"[]")
    aggregate.write_tables(aggregate.aggregate(manifest, results), tmp_path)
    tables = tables_io.read_tables(tmp_path, [*TABLES, *ORIGINS])
    assert tables["fits"].empty
    assert tables["runs"]["temperature_exact"].isna().all()
    assert set(tables["metrics"].query("loss != 'reference'")["calibrator"]) == {"none"}
    claims = [claim for claim in load_claims(ROOT / "workflow/claims.yaml") if claim.fit == "exact"]
    assert set(evaluate(claims[:2], tables)["verdict"]) == {"not_tested"}


def test_jobs_and_fits_are_those_of_the_records_and_files(grid):
    manifest, results = grid
    found = dict(aggregate.aggregate(manifest, results))
    jobs = found["jobs"].set_index(["stage", "key"])
    stages = [stage for stage in STAGES.values() if stage.of in ("source", "cell", "dataset")]
    for path in (path for stage in stages for path in results.glob(stage.records[0])):
        record, key = json.loads(path.read_text()), "/".join(path.parent.relative_to(results).parts[1:])
        row = jobs.loc[(record["stage"], key)]
        assert row["seconds"] == record["seconds"]
        assert row["peak_memory_mib"] == record["peak_memory_mib"]
        for name in ("spec", "hardware", "versions"):
            assert json.loads(row[name]) == record[name]
        jobs = jobs.drop(index=(record["stage"], key))
    assert jobs.empty
    fits, runs = (found[name].set_index(KEYS) for name in ("fits", "runs"))
    exact = fits[(fits["calibrator"] == "exact") & (fits["labels"] == "drawn")]["T"]
    pd.testing.assert_series_equal(exact, runs["temperature_exact"], check_names=False)
    assert temperature({"T": None, "beta": 0.0}) == math.inf
    assert math.isnan(temperature({"T": None, "beta": None}))  # no optimum, or a calibrator without temperature


@pytest.mark.parametrize("name", ["history.csv", "radii.parquet", "calibration.json"])
def test_a_file_of_another_content_is_named(grid, name):
    manifest, results = grid
    path = results / "runs" / manifest["cells"][7]["path"] / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(SpecError, match=f"{manifest['cells'][7]['path']}/{name}: not the content recorded for it"):
        dict(aggregate.aggregate(manifest, results))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("metrics.csv", b"split,labels,calibrator,metric,value,low,high\n", "no rows"),
        ("history.csv", b"epoch,step,lr,train_loss,gradient_norm\n1,2\n1,2,3,4,5,6\n", "a table as CSV"),
        ("neighbourhood.parquet", b"no parquet", "a table as parquet"),
    ],
)
def test_a_file_that_is_no_table_is_named_among_those_read_with_it(grid, name, content, told):
    manifest, results = grid
    edited(manifest, results, 7, name, content)
    with pytest.raises(SpecError) as caught:
        dict(aggregate.aggregate(manifest, results))
    assert caught.value.key.endswith(f"{manifest['cells'][7]['path']}/{name}")
    assert told in str(caught.value)


def test_a_table_of_radii_without_a_column_is_named(grid, tmp_path):
    manifest, results = grid
    path = tmp_path / "other.parquet"
    random_radii(0).drop(columns="censored").to_parquet(path)
    edited(manifest, results, 2, "radii.parquet", path.read_bytes())
    with pytest.raises(SpecError, match="no column 'censored'"):
        dict(aggregate.aggregate(manifest, results))


@pytest.mark.parametrize("word", ["plain", 'with, "quotes"', "two\nlines"])
def test_a_long_csv_is_byte_for_byte_what_pandas_writes(tmp_path, monkeypatch, word):
    monkeypatch.setattr(tables_io, "LONG", 10)
    monkeypatch.setattr(tables_io, "SLICE", 1000)
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=2000) * 10.0 ** rng.integers(-30, 30, 2000)
    numbers[::7] = np.round(numbers[::7])
    numbers[::11] = np.nan
    numbers[1:13] = [np.inf, -np.inf, -0.0, 0.0, 1e15, 1e16, 1e10, 9999999999.5, 1e-4, 9.9e-5, 5e-324, 1.7e308]
    words = np.array(["a", "é", word, ""], dtype=object)
    table = pd.DataFrame(
        {
            "numbers": numbers,
            "whole": rng.integers(-5, 5, 2000),
            "floats": rng.integers(-5, 5, 2000) * 1.0,
            "words": words[rng.integers(0, 4, 2000)],
            "gaps": np.where(rng.uniform(size=2000) < 0.5, None, "x"),
            "with, comma": 1,
        }
    )
    assert tables_io._write_long_csv(tmp_path / "ours.csv", table) == (word == "plain")
    odd = {
        "truth": table.assign(truth=rng.uniform(size=2000) < 0.5),
        "float32": table.astype({"floats": "float32"}),
        "one column with gaps": pd.DataFrame({"x": [1.0, np.nan, 2.5] * 10}),
        "numbers of two types": pd.DataFrame({"x": [1, 2.5, np.float32(0.1)] * 10, "y": 1}).astype({"x": object}),
        "large": pd.DataFrame({"x": [2**70, 1, None] * 10, "y": 1}, dtype=object),
    }
    for name, one in {"all": table, **odd}.items():
        tables_io.write_csv(tmp_path / "ours.csv", one)
        one.to_csv(tmp_path / "theirs.csv", index=False, lineterminator="\n")
        assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes(), name


def test_a_csv_with_a_field_too_many_shifts_no_other_file(tmp_path):
    files = [(tmp_path / "a.csv", b"a,b\n1,2,3\n4,5,6\n"), (tmp_path / "b.csv", b"a,b\n3,4\n5,6\n")]
    table, counts = aggregate._read_csvs(files)
    assert counts == [2, 2]
    assert table.loc[2:, ["a", "b"]].to_numpy().tolist() == [[3, 4], [5, 6]]


# Drawing --------------------------------------------------------------------------------------------------------------


def plain_over_seeds(table: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Means and intervals, one group at a time."""
    rows = []
    for found, group in table.dropna(subset=[value]).groupby(by, sort=True):
        means = group.groupby("seed")[value].mean()
        correction = group["seed_correction"].max() if "seed_correction" in group else 0.0
        rows.append((*found, *t_interval(means.to_numpy(), correction), len(means)))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n"])


@pytest.mark.parametrize("corrected", [False, True], ids=["independent", "shared"])
@pytest.mark.parametrize("by", [["a"], ["b", "x"]])
def test_statistics_over_seeds_are_those_of_each_group(by, corrected):
    """With a correction, data sets ("a" to "z") of which some have samples that seeds share."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"a": rng.choice([*"uvw"], 4000), "b": rng.choice([*"xyz"], 4000, p=[0.9, 0.09, 0.01])})
    table["x"], table["seed"] = rng.choice([0.1, 0.2, 1.0], 4000), rng.integers(0, 12, 4000)
    table["value"] = rng.normal(size=4000)
    table.loc[rng.uniform(size=4000) < 0.1, "value"] = np.nan
    table.loc[5, "value"] = np.inf
    table = table[(table["b"] != "z") | (table["seed"] == 3)]
    if corrected:
        table["seed_correction"] = table[by[0]].map({"v": 0.45, "w": 0.2, "y": 0.45}).fillna(0.0)
    found = seed_statistics.over_seeds(table, by, "value")
    pd.testing.assert_frame_equal(found, plain_over_seeds(table, by, "value"), check_exact=True)


@pytest.mark.parametrize(
    ("exact", "paper", "near"),
    [
        (2.0, 2.09, 1.0),
        (2.0, 1.89, 0.0),
        (0.55, -60.4, 0.0),
        (math.inf, 1.02, 0.0),
        (2.0, math.nan, 0.0),  # for logits with -inf
        (math.nan, 0.9, math.nan),  # separable: there is no optimum
        (None, 0.9, math.nan),
        (2.0, None, math.nan),
    ],
)
def test_the_papers_fit_is_near_the_optimum_or_not(exact, paper, near):
    fits = {("exact", "drawn"): exact, ("paper", "drawn"): paper}
    found = aggregate.paper_near_exact({fit: T for fit, T in fits.items() if T is not None})
    assert found == near or (math.isnan(found) and math.isnan(near))


def test_seeds_that_share_samples_are_corrected_for():
    """Not if samples are drawn afresh, or if each seed has its own block; but if two seeds share a test block."""
    cells = [
        *(("own", seed, math.nan, seed, "") for seed in range(3)),
        *(("digits", seed, math.nan, math.nan, "") for seed in range(3)),
        *(("mnist", seed, seed % 3, math.nan, "") for seed in range(3)),
        *(("more", seed, seed % 3, math.nan, "") for seed in range(4)),
        *(("overlap", seed, math.nan, math.nan, "overlap") for seed in range(3)),
    ]
    runs = pd.DataFrame(cells, columns=["dataset", "seed", "test_block", "train_block", "distribution"])
    runs = pd.concat([runs.assign(model=model) for model in ("mlp", "cnn")]).assign(train_points=1000, test_points=450)
    found = shared_samples.with_seed_correction(runs).groupby("dataset")["seed_correction"].unique()
    assert {name: list(values) for name, values in found.items()} == {
        **{"digits": [0.45], "mnist": [0.0], "more": [0.45], "overlap": [0.0], "own": [0.0]}
    }
