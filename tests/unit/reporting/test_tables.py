"""Tables for print: their numbers are the metrics', each row appears once, and LaTeX accepts them."""

from __future__ import annotations

import dataclasses
import functools
import html
import itertools
import math
import re
import statistics

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import entropy

import synthetic
from halobench.analysis.names import REPAIRS
from halobench.calibration.calibrate_cell import calibrate
from halobench.core import plugins
from halobench.core.errors import SpecError
from halobench.core.plugins.kinds import kinds
from halobench.core.specs.calibrate import CalibrateSpec
from halobench.experiment.figure_choice import tables_read
from halobench.pipeline.stages import table as stage
from halobench.reporting import labels as names
from halobench.reporting import table_views, terminal
from halobench.reporting.print_tables import layout
from halobench.reporting.print_tables.layout import Value
from halobench.reporting.tables import scores
from halobench.storage import files, records, tables_io
from halobench.storage.columns import METRICS_COLUMNS, TABLE_COLUMNS

pytestmark = pytest.mark.paper


@functools.cache
def with_theory():
    """Tables of the demo's cells, joined with those of the theory bench."""
    return synthetic.beside_theory(synthetic.made())


@functools.cache
def made():
    """The table of scores, made once."""
    return scores.make(with_theory()["metrics"], with_theory()["runs"])


def parts(table, view):
    """The parts of a view of images, by data set."""
    return {key.removesuffix(f"-{view}"): part for part in table.parts if (key := part.key).endswith(f"-{view}")}


def clean(metrics, runs):
    """The part against clean labels of a table of one data set."""
    (part,) = parts(scores.make(metrics, runs), "clean").values()
    return part


def rows_of(tex):
    """The lines of LaTeX tables that contain values: their label and the cells after it, including markup."""
    bodies = re.findall(r"\\midrule\n(.*?)\n\\bottomrule", tex, re.S)
    lines = [line.removeprefix(r"\addlinespace ") for body in bodies for line in body.splitlines()]
    cells = [line.removesuffix(r" \\").split(" & ") for line in lines if not line.startswith(r"\rlap")]
    return [(row[0].removeprefix(r"\quad "), row[1:]) for row in cells]


def test_the_tables_of_repair_hold_means_with_half_widths_and_say_so():
    metrics = synthetic.with_ladders(synthetic.made_theory()["metrics"])
    table = plugins.load("tables", "repair")(metrics)
    ladder, left = table.parts
    row = ladder.cells.loc["Balls in pairs, k = 8", "Kernel classifier, cross-entropy"]
    cell = metrics[(metrics["dataset"] == "overlap-k8") & (metrics["model"] == "attention")]
    cell = cell[cell["loss"] == "cross_entropy"]
    for (_, head), value in row.items():
        name = {"as it is": "nll", "lower estimate": "best_map", "upper estimate": "best_map"}.get(head)
        name = name or next(part for part, known in REPAIRS.items() if known.label == head)
        rows = cell[cell["metric"] == f"repair_{name}"]
        values = rows[{"lower estimate": "low", "upper estimate": "high"}.get(head, "value")].to_numpy()
        half = stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
        assert (value.mean, value.sd, value.n) == (pytest.approx(values.mean()), pytest.approx(half, rel=1e-6), 3)
    assert [head for _, head in left.cells.columns] == [
        names.CALIBRATORS[c] for c in ("none", "paper", "exact", "oracle")
    ]
    other = plugins.load("tables", "repair_metrics")(metrics)
    assert {head for _, head in other.parts[0].cells.columns} == {"TS (optimal)"}, "no cell has partner scaling"
    empty = plugins.load("tables", "repair")(metrics.iloc[:0])
    assert empty.parts == ()
    assert empty.numbers.empty


def test_numbers_are_the_means_and_deviations_of_the_metrics():
    """They are recomputed here one by one, with the standard library; other distributions are left out."""
    given = with_theory()
    facts = given["runs"].drop_duplicates("dataset").set_index("dataset")[["noise", "separation"]]
    images = {row.dataset for row in given["runs"].itertuples() if not row.distribution}
    chosen = images | {d for d in given["runs"]["dataset"] if d.startswith("gaussians")}
    assert chosen < {*given["runs"]["dataset"]}
    values: dict[tuple, list[float]] = {}
    for row in given["metrics"].itertuples():
        kept = row.split == "test" and row.labels != "drawn" and row.metric in ("nll", "ece", "ace_average")
        if kept and row.dataset in chosen and row.loss != "reference":
            key = row.dataset, row.labels, row.model, row.loss, row.calibrator, row.metric
            values.setdefault(key, []).append(row.value)
    numbers = made().numbers.query("loss != 'reference'")
    assert len(numbers) == len(values) > 20
    pd.testing.assert_frame_equal(
        numbers[["noise", "separation"]], facts.loc[numbers["dataset"]].set_index(numbers.index)
    )
    for row in numbers.itertuples():
        scores_of_seeds = values[row.dataset, row.labels, row.model, row.loss, row.calibrator, row.metric]
        assert (row.n, row.seeds) == (len(scores_of_seeds), len(scores_of_seeds))
        assert row.mean == pytest.approx(statistics.mean(scores_of_seeds), rel=1e-12)
        assert row.sd == pytest.approx(statistics.stdev(scores_of_seeds), rel=1e-9, abs=1e-15)


def test_the_posterior_stands_below_where_it_judges():
    numbers = made().numbers
    assert set(numbers.loc[numbers["loss"] == "reference", "model"]) == {"bayes"}
    assert set(numbers.loc[numbers["loss"] == "reference", "labels"]) == {"noisy"}
    metrics = with_theory()["metrics"]
    own = metrics[(metrics["model"] == "bayes") & (metrics["labels"] == "noisy") & (metrics["metric"] == "nll")]
    noise = numbers.groupby("dataset")["noise"].first()
    judged = {key: part for key, part in parts(made(), "posterior").items() if not key.startswith("gaussians")}
    noisy = {name for name in noise.index if noise[name] > 0}
    assert judged.keys() == noisy < parts(made(), "clean").keys(), "where labels are certain, scores would be the same"
    for dataset, part in judged.items():
        assert "scores on test data in expectation under the known posterior, " in part.caption
        assert part.cells.index[-1] == ("", "The posterior itself")
        first, *others = part.cells.iloc[-1, :3]
        assert first.mean == pytest.approx(own.loc[own["dataset"] == dataset, "value"].mean())
        assert others == [None, None]


def test_a_posterior_without_label_noise_judges_as_label_noise_does():
    """The scores show whether labels are certain; the configuration's noise doesn't cover a source's posterior."""
    given = with_theory()
    silent = scores.make(given["metrics"], given["runs"].assign(noise=0.0))
    assert layout.latex(silent, "t") == layout.latex(made(), "t")


def test_the_entropy_of_the_posterior_is_read_from_any_predictions_scores():
    rng = np.random.default_rng(0)
    soft = rng.dirichlet(np.ones(4), size=300)
    labels, spec, tables = soft.argmax(axis=1), CalibrateSpec(("none", "exact"), draws=2, floor_draws=2), {}
    for name, posterior in {"soft": soft, "one-hot": np.eye(4)[labels], "unknown": None}.items():
        samples = {"logits": rng.normal(size=soft.shape), "labels": labels, "clean": labels}
        samples |= {} if posterior is None else {"posterior": posterior}
        arrays = {f"{split}.{kind}": array for split in ("val", "test") for kind, array in samples.items()}
        tables[name] = calibrate(arrays, spec, 0, ("val", "test")).metrics.assign(dataset=name)
    metrics = pd.concat(tables.values(), ignore_index=True)
    assert table_views.posterior_entropies(metrics) == {"soft": pytest.approx(entropy(soft, axis=1).mean(), rel=1e-12)}
    gone = metrics.drop(table_views.without_void_floors(metrics).index)
    assert set(zip(gone["dataset"], gone["labels"], gone["metric"], strict=True)) == {("soft", "noisy", "ece_floor")}


def test_cells_in_print_are_those_of_the_csv():
    """Each (data set, model, loss) appears once, where the headings say, to three decimals."""
    shown = parts(made(), "clean")
    table = layout.Table("", made().numbers, tuple(shown[name] for name in shown if not name.startswith("gaussians")))
    numbers = table.numbers[table.numbers["labels"] == "clean"]
    by = numbers.set_index(["dataset", "model", "loss", "metric", "calibrator"])["mean"].sort_index()
    columns = list(itertools.product(("nll", "ece", "ace_average"), ("none", "paper", "exact")))
    labels = {names.loss_label(loss): loss for loss in set(by.index.get_level_values("loss"))}
    heads = ["uncalibrated", r"\shortstack{TS\\(paper's code)}", r"\shortstack{TS\\(optimal)}"]
    seen = []
    for part, block in zip(table.parts, layout.latex(table, "t").split(r"\begin{table}")[1:], strict=True):
        assert re.findall(r"\\multicolumn\{(\d)\}\{c\}\{(.*?)\}", block) == [
            ("3", h) for h in ("NLL (nats)", "ECE", "ACE")
        ]
        assert f"& {' & '.join(heads * 3)} " in block
        rows = iter(rows_of(block))
        dataset = part.key.removesuffix("-clean")
        models = names.ordered(by.loc[dataset].index.get_level_values(0), names.MODELS)
        assert re.findall(r"\\textit\{(.*?)\}", block) == [names.model_label(model) for model in models]
        for model in models:
            for _ in set(by.loc[dataset, model].index.get_level_values(0)):
                label, cells = next(rows)
                seen.append((dataset, model, labels[label.removesuffix(r"$^{\dagger}$")]))
                means = [re.match(r"(?:\\textbf\{)?([\d.]+)", cell)[1] for cell in cells]
                assert means == [f"{by[(*seen[-1], *column)]:.3f}" for column in columns]
        assert not list(rows)
    assert len(seen) == len(set(seen))
    assert set(seen) == set(synthetic.DEMO)


def test_other_calibrators_stand_beside_the_exact_temperature():
    given = with_theory()
    exact = given["metrics"][given["metrics"]["calibrator"] == "exact"]
    trained = exact[exact["loss"] != "reference"]
    higher = {"top_rest": 10, "matrix": 20}
    more = [trained.assign(calibrator=name, value=trained["value"] + up) for name, up in higher.items()]
    metrics = pd.concat([given["metrics"], *more], ignore_index=True)
    metrics.loc[(metrics["calibrator"] == "top_rest") & (metrics["metric"] == "nll"), "value"] = math.inf
    table = scores.make(metrics, given["runs"])
    keys = ["dataset", "model", "loss", "metric"]
    numbers = table.numbers[table.numbers["labels"] == "noisy"]
    none, by = (numbers[numbers["calibrator"] == c].set_index(keys)["mean"] for c in ("none", "exact"))
    certain = "scores on test data against the test labels, to which no noise was added, "
    for dataset, part in parts(table, "all").items():
        assert (certain in part.caption) == ("noise" not in dataset)
        heads = ("uncalibrated", "TS (optimal)", "matrix scaling", "top-versus-rest scaling")
        assert [*part.cells.columns] == [(metric, head) for metric in ("NLL (nats)", "ECE") for head in heads]
        assert "∞: a class that occurs" in part.caption
        keys = {(names.model_label(m), names.loss_label(loss)): (m, loss) for _, m, loss in synthetic.DEMO}
        for (model, loss), row in part.cells.iterrows():
            if model:
                cell = (dataset, *keys[model, loss.removesuffix("†")])
                nll, ece = (by[*cell, metric] for metric in ("nll", "ece"))
                expected = [none[*cell, "nll"], nll, nll + 20, math.inf, none[*cell, "ece"], ece, ece + 20, ece + 10]
                assert [value.mean for value in row] == pytest.approx(expected)
                assert math.isnan(row.iloc[3].sd)
        assert (part.cells.index[-1][1] == "The posterior itself") == ("noise" in dataset)


@pytest.mark.parametrize(
    ("column", "best"),
    [
        ([(1.0, 0.1), (1.2, 0.1), (1.5, 0.1)], 0),
        ([(1.5, 0.1), (1.2, 0.1), (1.31, 0.1)], 1),
        ([(1.0, 0.1), (1.05, 0.01)], None),
        ([(1.0, 0.01), (1.05, 0.1)], None),
        ([(1.0, 0.1)], None),
        ([(1.0, math.nan), (2.0, math.nan)], None),
        ([(1.0, math.nan), (2.0, 0.1), (3.0, 0.1)], None),
        ([(math.nan, math.nan), (2.0, 0.1), (3.0, 0.1)], 1),
        ([(math.inf, math.nan), (2.0, 0.1)], None),
    ],
)
def test_only_what_is_clearly_best_is_bold(column, best):
    values = {i: Value(mean, sd, 3, 3) for i, (mean, sd) in enumerate(column)}
    scores.mark_best(values, list(values))
    assert [i for i, value in values.items() if value.best] == ([] if best is None else [best])


def test_a_page_says_once_what_all_its_parts_say():
    shared, own = layout.shared_sentences(["A: x. Bold: low. †: some.", "B: y. Bold: low."])
    assert (shared, own) == (["Bold: low."], ["A: x. †: some.", "B: y."])
    assert layout.shared_sentences(["A. B."]) == ([], ["A. B."])
    assert layout.shared_sentences([]) == ([], [])


def test_latex_escapes_names_and_tells_what_is_no_number():
    text = layout.latex(synthetic.awkward_table(), "t", "partial: 1_2")
    assert r"own\_loss \& 50\% \#1 \$x\$ \{y\} \textasciitilde{}z \textasciicircum{}w \textbackslash{}v" in text
    assert "[U+6F22]" in text
    assert text.isascii()
    assert r"\caption{\textbf{partial: 1\_2.} Caption with 50\% \& under\_score}" in text
    label, cells = rows_of(text)[0]
    assert label.endswith(r"$^{\dagger}$")
    share = r"0.500{\scriptsize$\pm$0.010}\textsuperscript{2/3}"
    assert cells == ["--", r"$\infty$", share, r"\textbf{0.250}"]
    assert all(cell == "" for cell in rows_of(text)[1][1])


def test_html_holds_the_same_and_escapes(tmp_path):
    text = layout.save(synthetic.awkward_table(), tmp_path / "t", "partial: 1 < 2")[2].read_text()
    assert "<a>" not in text
    whole = html.unescape(text)
    for part in (r"own_loss & 50% #1 $x$", "partial: 1 < 2", r"\begin{table}"):
        assert part in whole
    values = re.findall(r"<td *>(.*?)</td>", whole)
    share = '0.500 <span class="sd">± 0.010</span><sup>2/3</sup>'
    assert values == ["--", "∞", share, "<b>0.250</b>", *[""] * 4]


def test_a_long_part_is_broken_between_blocks():
    given = synthetic.tables([("digits", f"model{i}", f"loss{j}") for i in range(9) for j in range(8)], seeds=(0,))
    table = scores.make(given["metrics"], given["runs"])
    pieces = layout.pages(table.parts[0].cells)
    assert [(len(piece), piece.index.get_level_values(0).nunique()) for piece in pieces] == [(40, 5), (32, 4)]
    pd.testing.assert_frame_equal(pd.concat(pieces), table.parts[0].cells)
    text = layout.latex(table, "t")
    assert r"\caption{Digits, continued.}" + "\n" + r"\label{tab:t:digits-clean-2}" in text
    assert "±" not in table.parts[0].caption


@pytest.mark.parametrize("rows", [0, None])
def test_empty_tables_say_so(rows, tmp_path):
    """Without a row, or without a metric that the table shows."""
    given = {table: frame.iloc[:rows] for table, frame in with_theory().items()}
    table = scores.make(given["metrics"].assign(calibrator="exact", metric="kl"), given["runs"])
    assert table.parts == ()
    csv, tex, page = layout.save(table, tmp_path / "t")
    assert pd.read_csv(csv).empty
    assert "% There is nothing to show." in tex.read_text()
    assert "There is nothing to show." in page.read_text()


def test_what_is_absent_is_told_in_the_caption_alone():
    """Signs (a dash, a share of seeds, bold and a dagger) are explained only if they are used."""
    given = {name: rows.copy() for name, rows in synthetic.tables([("digits", "mlp", "cross_entropy")]).items()}
    metrics = given["metrics"]
    lost = (metrics["calibrator"] == "exact") & (metrics["loss"] != "reference")
    plain = clean(metrics, given["runs"])
    assert not any(sign in plain.caption for sign in ("--", "Raised", "†"))
    marked = [value for value in plain.cells.to_numpy().flat if value.best]
    assert ("Bold" in plain.caption) == bool(marked)
    assert len(marked) <= 3, "at most one per metric and block"
    metrics.loc[lost & (metrics["seed"] == 1), "value"] = math.nan
    some = scores.make(metrics, given["runs"])
    assert "Raised: seeds whose fit is finite" in some.parts[0].caption
    assert some.numbers.loc[some.numbers["calibrator"] == "exact", "n"].unique().tolist() == [2]
    metrics.loc[lost, "value"] = math.nan
    none = clean(metrics, given["runs"].assign(interpolates=False))
    assert "--: no finite fit" in none.caption
    assert "†" in none.caption
    assert none.cells.index[0][1].endswith("†")


def test_failures_of_the_papers_fit_are_counted():
    """A fit below 0 counts even if there is no optimum, which it could be near."""
    given = {name: rows.copy() for name, rows in synthetic.tables([("digits", "mlp", "cross_entropy")]).items()}
    runs, metrics = given["runs"], given["metrics"]
    runs["paper_near_exact"] = [0.0, 1.0, math.nan]
    runs["temperature_paper"] = [1.1, 2.5, -60.4]
    text = "In 2 of 3 models the fit of the paper's code failed: it is farther than 5% from the optimum, and in 1 below"
    assert text in clean(metrics, runs).caption
    other = metrics[metrics["calibrator"] == "exact"].assign(calibrator="matrix")
    (without,) = parts(scores.make(pd.concat([metrics, other]), runs), "all").values()
    assert "fit of the paper" not in without.caption, "it isn't shown there"
    runs["paper_near_exact"], runs["temperature_paper"] = 1.0, 2.5
    assert "failed" not in clean(metrics, runs).caption


def test_no_dagger_where_weights_were_given():
    """They weren't trained on the labels here, even if on the same images."""
    given = synthetic.tables([("digits", "mlp", "cross_entropy"), ("digits", "cnn", "cross_entropy")])
    runs = given["runs"].assign(interpolates=False)
    same = runs.assign(fitted_here=True, steps=runs["steps"].where(runs["model"] == "mlp", 0))
    other = runs.assign(fitted_here=runs["model"] == "mlp")
    for table, daggers in ((same, [True, False]), (other, [True, False]), (runs, [True, True])):
        part = clean(given["metrics"], table)
        assert [label.endswith("†") for _, label in part.cells.index] == daggers


def test_a_table_may_not_take_the_place_of_one_that_it_reads(tmp_path, monkeypatch):
    declared = dataclasses.replace(kinds()["tables"], file=str(tmp_path / "__init__.py"))
    monkeypatch.setitem(kinds(), "tables", declared)
    names = ("metrics", "aggregate", "answers")
    for name, parameter in (*((name, "runs") for name in (*names, "mine")), ("unknown", "run")):
        (tmp_path / f"{name}.py").write_text(f"def make({parameter}): ...\n")
    assert tables_read("tables", "mine") == ["runs"]
    for name in names:
        with pytest.raises(SpecError, match=f"tables: .* writes a file named {name}; choose another name"):
            tables_read("tables", name)
    with pytest.raises(
        SpecError, match=r"tables.unknown: make has the parameter 'run'; each must name a table: one of"
    ):
        tables_read("tables", "unknown")
    (tmp_path / "by_class.py").write_text("class Make:\n    def __init__(self, runs): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SpecError, match=r"tables.by_class:Make: by_class:Make isn't a function"):
        tables_read("tables", "by_class:Make")


def test_the_stage_writes_the_same_bytes_twice_and_a_true_record(tmp_path):
    folder, name = tmp_path / "tables", "scores"
    for table in ("metrics", "runs"):
        columns = dict.fromkeys([*with_theory()[table].columns, *TABLE_COLUMNS[table]])
        tables_io.write_parquet(folder / f"{table}.parquet", with_theory()[table].reindex(columns=list(columns)))
    for out in ("one", "two"):
        stage.run(spec={"table": name, "note": "partial: 1 of 2 cells"}, tables=folder, out=tmp_path / out / name)
    record = records.read_record(tmp_path / f"one/{name}.json")
    for suffix in ("csv", "tex", "html"):
        one, two = (tmp_path / out / f"{name}.{suffix}" for out in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        assert suffix == "csv" or b"partial: 1 of 2 cells" in one.read_bytes()
        assert record["outputs"].pop(one.name) == files.checksum(one)
    assert record["outputs"] == {}
    assert {f"reporting/tables/{name}", "reporting/print_tables/layout"} <= set(record["code"])
    read = pd.read_csv(tmp_path / f"one/{name}.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(read, made().numbers, check_exact=True, check_dtype=False)


def test_the_terminal_shows_own_metrics_below_the_usual_ones():
    """Those of regions, which need the rest of a table to make sense, aren't shown."""
    values = {"mce": 0.1, "kl_own": 0.2, "worst_class": 0.3, "nll": 0.4}
    rows = [("test", "clean", "none", name, value, math.nan, math.nan) for name, value in values.items()]
    (shown,) = terminal.metrics(pd.DataFrame(rows, columns=list(METRICS_COLUMNS)), width=80)
    assert [name for name, *_ in shown.rows] == ["NLL", "MCE", "worst_class"]
