"""Write the numbers of the pages from the runs in results/published, and check that no number is typed.

``python docs/published.py`` (``make numbers``, part of ``make lint``) prints every place where a page and its table
differ, ``python docs/published.py write`` writes the numbers, and ``python docs/published.py add RESULTS EXPERIMENT``
first copies an experiment's tables and records out of the results folder of a finished run. A number in a page is

    <!--n QUERY-->.359<!--/-->       written from a published table
    <!--c REASON-->.9<!--/-->        typed: a setting, a closed form, or a number of someone else's

A query is the name of a value, conditions on its rows, and how they are reduced and shown, in any order but for the
name: ``kl model=mlp dataset=overlap-k4,overlap-k8 calibrator=exact max``. A name without a table is a metric; others
are ``TABLE.COLUMN`` (`TABLES`, `COMPUTED`), ``claims.NAME``, ``STUDY/FILE.COLUMN``, a column of the table
studies/STUDY/FILE.csv, or of one of the four answers: ``lead``, ``length`` or ``null`` of a QUESTION, or a number over
the pairs of several runs (`QUERIES` of docs/answers.py). Conditions are ``column=value`` (with ``*``, a pattern; with
commas, one of several); ``run=`` names the experiment. A line ``<!--numbers CONDITIONS-->`` sets conditions for the
markers below it. Rows are averaged over seeds; what is left must be one row, unless a word reduces it: ``min max median
spread slope``; ``interval`` adds the 95% t interval over seeds, corrected for seeds that share samples (of a study's
table, its columns ``low`` and ``high``); ``mean`` is the mean of rows, such as families of networks, with its 95% t
interval, and ``signs`` counts the rows whose own interval lies below and above 0. ``minus`` or ``over``, with the
conditions that differ (``value=`` for another name), compares with other rows; ``over`` divides means over the seeds of
both, so it has no interval. ``neg`` changes the sign. Formats are Python's: ``.3f`` (the default), ``+.2f``, ``.0%``.

Claims are judged by today's ``workflow/claims.yaml`` and the published tables. A claim shows ``spread`` (the smallest
and largest estimate of a pair) or ``words`` (the verdict after Holm's correction, and those of its pairs). ``runs`` is
the table of all published runs, and ``grid NAME`` a table of docs/findings.yaml.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import math
import operator
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from halobench.analysis.claims import evaluate, load_claims
from halobench.analysis.t_intervals import t_interval
from halobench.reporting import finding
from halobench.reporting.plotting import class_families
from halobench.storage.columns import KEYS
from halobench.storage.records import seal

ROOT = Path(__file__).parents[1]
for folder in (ROOT, ROOT / "docs"):  # of `studies`, and of scripts next to this file
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
PUBLISHED = ROOT / "results/published"
TABLES = ("metrics", "runs", "radii", "neighbourhood", "jobs")
COMPUTED = {  # tables that figures of studies make of metrics and runs
    "growth": ("studies.controls.growth", "slopes"),
    "same_fit": ("studies.architectures.same_fit", "differences"),
}
COMPARED_WITH = {"architectures-fit": "architectures"}
CLAIMS = ROOT / "workflow/claims.yaml"
GRIDS = ROOT / "docs/findings.yaml"
MODEL_NAMES = {"attention": "kernel classifier", "mlp": "MLP", "cnn": "CNN"}
STAGES = ("train", "probe", "calibrate", "repair")  # whose code a published run names
PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("findings", "judging", "natural", "halos", "theory", "paper", "models")),
)
BENCHMARKED = ("docs/calibrate.md",)  # with further numbers, of benchmarks, which are typed
MARK = re.compile(r"<!--(?P<kind>numbers|n|c)\b ?(?P<text>.*?)-->", re.DOTALL)
END = "<!--/-->"
FORMAT = re.compile(r"[+]?,?(?:\.\d)?[f%d]")
APART = ("points", "probe", "quantity", "calibrator", "base_calibrator", "part", "labels", "split", "threshold")
OF_SEEDS = {"interval", "signs", "slope"}  # the words that need a number for each seed
OF_ROWS = {"min", "max", "median", "spread", "mean"}
# What the check of typed numbers doesn't read: code, formulas, comments, addresses, pictures, and versions.
SKIPPED = re.compile(
    r"```.*?```|^ {4,}[^|\s].*?$|\$\$.*?\$\$|`[^`]+`|\$[^$\n]+\$|<!--[cn] .*?<!--/-->|<!--.*?-->"
    r"|!\[.*?\]|\]\([^)]*\)|(?:arXiv|Python|Snakemake|torch|netcal|adv-lib) \d+(?:\.\d+)+",
    re.DOTALL | re.MULTILINE,
)
TYPED = re.compile(r"(?<![\w.])-?\d*\.\d+")


class Wrong(Exception):
    """A marker that can't be filled in."""


@functools.cache
def table(run: str, name: str) -> pd.DataFrame:
    """Return a published table, or one that is made of them: a run's claims, or the data of a figure."""
    if name == "claims":
        return verdicts(run)
    if name in COMPUTED:
        module, function = COMPUTED[name]
        return getattr(importlib.import_module(module), function)(joined(run, "metrics"), joined(run, "runs"))
    path = PUBLISHED / run / f"{name}.parquet"
    if not path.exists():
        raise Wrong(f"results/published/{run} has no table {name}")
    return pd.read_parquet(path)


def joined(run: str, name: str) -> pd.DataFrame:
    """Return a table of a published run and of the one whose models its own are compared with, if there is one."""
    return first_of([table(each, name) for each in (run, COMPARED_WITH.get(run)) if each])


def first_of(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join tables of several runs; of what several of them measured, keep the first run's rows."""
    together = pd.concat(parts, keys=range(len(parts)), names=["run", None]).reset_index("run")
    measured = [*KEYS, *(key for key in (*APART, "metric") if key in together)]
    first = together.groupby(measured, dropna=False)["run"].transform("min")
    return together[together["run"] == first].drop(columns="run").reset_index(drop=True)


def verdicts(run: str) -> pd.DataFrame:
    """Judge today's claims by a run's published tables."""
    names = [name for name in ("runs", "metrics", "radii") if (PUBLISHED / run / f"{name}.parquet").exists()]
    return evaluate(load_claims(CLAIMS), {name: table(run, name) for name in names})


def where(rows: pd.DataFrame, conditions: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows that meet all conditions."""
    for column, wanted in conditions.items():
        if column not in rows:
            raise Wrong(f"there is no column {column}")
        texts = {value: f"{value:g}" if isinstance(value, float) else str(value) for value in rows[column].unique()}
        met = [value for value, text in texts.items() if any(fnmatchcase(text, one) for one in wanted.split(","))]
        rows = rows[rows[column].isin(met)]
    if rows.empty:
        raise Wrong(f"no row has {' '.join(f'{key}={value}' for key, value in conditions.items())}")
    return rows


@functools.cache
def values(run: str, name: str) -> tuple[pd.DataFrame, str]:
    """Return the rows of a metric or of a column of a table, with what `runs` has on them, and the column of values."""
    kind, _, column = name.rpartition(".")
    rows, runs = table(run, kind or "metrics"), joined(run, "runs")
    if not kind:
        rows, column = where(rows, {"metric": column}), "value"
    elif column not in rows:
        raise Wrong(f"table {kind} of {run} has no column {column}")
    return rows.merge(runs[[*KEYS, *(key for key in runs if key not in rows)]], on=KEYS, how="left"), column


def by_seed(run: str, name: str, conditions: Mapping[str, str]) -> pd.DataFrame:
    """Return values with one column per seed, and one row for each of what else tells the rows apart."""
    rows, column = values(run, name)
    rows = where(rows, {key: value for key, value in conditions.items() if key in rows or key not in APART})
    keys = ["dataset", "model", "loss", "classes", *(key for key in APART if key in rows)]
    return rows.fillna({"classes": 0, "threshold": 0}).groupby([*keys, "seed"], dropna=False)[column].mean().unstack()


def compared(run: str, name: str, sides: list[dict[str, str]], compare: str) -> pd.DataFrame:
    """Return `by_seed`, compared with the rows of other conditions, if there are any."""
    rows = by_seed(run, name, sides[0])
    if not compare:
        return rows
    conditions = dict(sides[1])
    other = conditions.pop("run", run), conditions.pop("value", name)
    also = by_seed(*other, {**sides[0], **conditions})
    levels = [key for key in rows.index.names if key in also.index.names and key not in conditions]
    a, b = (side.droplevel([key for key in side.index.names if key not in levels]) for side in (rows, also))
    return COMPARE[compare](a, b)


def reduced(rows: pd.DataFrame, how: str, run: str) -> list[float]:
    """Return the numbers that a word makes of a run's rows by seed."""
    means = rows.mean(axis=1)
    if how in ("min", "max", "median"):
        return [float(getattr(means, how)())]
    if how == "spread":
        return [float(means.min()), float(means.max())]
    if how == "mean":
        return list(t_interval(means))
    if how == "slope":
        logs = np.log(rows.index.get_level_values("classes").astype(float))
        full = rows.dropna(axis=1)
        return list(t_interval(np.polyfit(logs, full.to_numpy(), 1)[0]))
    if len(means) != 1:
        apart = [key for key in rows.index.names if rows.index.get_level_values(key).nunique() > 1]
        raise Wrong(f"{len(means)} rows, which differ in {', '.join(apart)}")
    if how == "interval":
        return of_rows(rows, run)[0]
    return [float(means.iloc[0])]


def of_rows(rows: pd.DataFrame, run: str) -> list[list[float]]:
    """Return each row's mean over seeds with its t interval, corrected for seeds that share samples.

    A row is of a data set, or of a family of data sets, which has the largest correction in it.
    """
    runs = table(run, "runs")
    corrections = {
        name: float(value)
        for names in (runs["dataset"].map(class_families.family), runs["dataset"])
        for name, value in runs.groupby(names)["seed_correction"].max().items()
    }
    names = rows.index.get_level_values("dataset")
    return [list(t_interval(row, corrections[name])) for row, name in zip(rows.to_numpy(), names, strict=True)]


def signs(rows: pd.DataFrame, run: str, sign: int) -> str:
    """Return, in words, how many rows have an interval below 0, and how many above."""
    below, above = sides(rows, run)[::sign]
    return f"{below} below, {above} above, of {len(rows)}"


def sides(rows: pd.DataFrame, run: str) -> tuple[int, int]:
    """Return how many rows have an interval below 0, and how many above."""
    ends = of_rows(rows, run)
    return sum(high < 0 for _, _, high in ends), sum(low > 0 for _, low, _ in ends)


def shown(value: float, form: str) -> str:
    """Return a number as pages write it, without the zero before the point."""
    if np.isnan(value):
        raise Wrong("the number is missing")
    text = re.sub(r"^([-+]?)0\.(?=\d)", r"\1.", format(value, form))
    return text.lstrip("-") if not re.search("[1-9]", text) else text


def listed(values: list[float], form: str) -> str:
    """Return one number, two as a range, or three as a mean with its interval."""
    values = [value for value in values if not (np.isnan(value) and len(values) == 3)]
    if len(values) < 3:
        return " to ".join(shown(value, form) for value in values)
    low, high = (end(value, form).lstrip("+").rstrip("%") for value in values[1:])
    return f"{shown(values[0], form)} [{low}, {high}]"


def end(value: float, form: str) -> str:
    """Return the end of an interval, with more digits if it would be rounded to 0, so that its sign can be seen."""
    digits = int(form.partition(".")[2][0])
    longer = (form.replace(f".{digits}", f".{more}") for more in (digits, digits + 1, digits + 2))
    texts = [shown(value, each) for each in longer]
    return next((text for text in texts if re.search("[1-9]", text)), texts[0])


def claim(name: str, run: str, words: Sequence[str], form: str, sign: int) -> str:
    """Return what a table of claims says about one of its tests."""
    rows = where(table(run, "claims"), {"claim": name, "scope": "all"})
    if len(rows) != 1:
        raise Wrong(f"{len(rows)} tests are called {name}")
    row = rows.iloc[0].to_dict()
    if words == ["words"]:
        return finding.adjusted_words(row)
    if words == ["spread"]:
        return listed(in_order([sign * row["least"], sign * row["most"]]), form)
    raise Wrong("a claim shows its spread or words")


def ratios(rows: pd.DataFrame, by: pd.DataFrame) -> pd.DataFrame:
    """Return one column of ratios of means over the seeds that both have: a seed's own divisor may be near 0."""
    rows, by = rows.align(by, join="inner")
    both = rows.notna() & by.notna()
    return (rows.where(both).mean(axis=1) / by.where(both).mean(axis=1)).to_frame()


COMPARE: dict[str, Callable] = {"minus": operator.sub, "over": ratios}


def filled(query: str, defaults: Mapping[str, str]) -> str:
    """Return the text of a marker."""
    name, *tokens = query.split()
    if block := BLOCKS.get(name):
        return block(*tokens)
    if name in ("lead", "length", "null", "removed", "won", "reached"):
        from answers import QUERIES

        return QUERIES[name](*tokens)
    sides: list[dict[str, str]] = [{}, {}]
    words, form, compare, sign = [], ".3f", "", 1
    for token in tokens:
        if "=" in token:
            key, _, value = token.partition("=")
            sides[bool(compare)][key] = value
        elif token in COMPARE:
            compare = token
        elif token == "neg":
            sign = -1
        elif FORMAT.fullmatch(token):
            form = token
        else:
            words.append(token)
    conditions = {**defaults, **sides[0]}
    run = conditions.pop("run", "")
    if name.startswith("claims."):
        return claim(name.partition(".")[2], run, words, form, sign)
    how = words[0] if words else ""
    if len(words) > 1 or how not in {"", *OF_SEEDS, *OF_ROWS}:
        raise Wrong(f"{' '.join(words)} is no word of a query")
    if compare == "over" and how in OF_SEEDS:
        raise Wrong(f"a ratio of means has no {how}")
    if "/" in name:
        return listed(in_order([sign * value for value in of_study(name, sides[0], how)]), form)
    rows = compared(run, name, [conditions, sides[1]], compare)
    if how == "signs":
        return signs(rows, run, sign)
    return listed(in_order([sign * value for value in reduced(rows, how, run)]), form)


def in_order(numbers: Sequence[float]) -> list[float]:
    """Return numbers with the ends of a range in order: two are a range, and of three the last two."""
    first = [] if len(numbers) == 2 else numbers[:1]
    return [*first, *sorted(numbers[len(first) :])]


study_table = functools.cache(pd.read_csv)  # many markers read the same


def of_study(name: str, conditions: Mapping[str, str], how: str) -> list[float]:
    """Return numbers of a study's table, STUDY/FILE.COLUMN: that of one row, or of all that meet the conditions."""
    path, _, column = name.rpartition(".")
    rows = where(study_table(ROOT / "studies" / f"{path}.csv"), conditions)
    if how in OF_ROWS:
        return reduced(rows[[column]], how, "")
    if how not in ("", "interval") or len(rows) != 1:
        raise Wrong(f"{len(rows)} rows of {path}")
    columns = [column, "low", "high"] if how else [column]
    return [float(number) for number in rows.iloc[0][columns]]


def grid(name: str) -> str:
    """Return a table of `GRIDS`."""
    spec = yaml.safe_load(GRIDS.read_text("utf-8"))[name]
    columns, defaults = spec["columns"], spec.get("defaults", {}) | ({"run": spec["run"]} if "run" in spec else {})
    rows = [[*columns], ["---"] * len(columns)]
    for label, query in spec["rows"].items():
        texts = []
        for column in columns.values():
            if column == "label":
                texts.append(label)
            elif column == "models":
                models = re.search(r"model=(\S+)", query)
                texts.append(" and ".join(MODEL_NAMES[model] for model in models[1].split(",")) if models else "")
            elif column.startswith("claim "):  # of a row with one, as the table's `claims` say
                name = spec["claims"].get(label)
                texts.append(cell(f"claims.{name} {column.removeprefix('claim ')}", defaults, None) if name else "")
            else:
                ours, *other = re.split(r" (?=(?:minus|over) )", query)  # what a column says is of both sides
                texts.append(cell(" ".join([ours, column, *other]), defaults, spec.get("missing")))
        rows.append(texts)
    return "\n\n" + "\n".join(f"| {' | '.join(texts)} |" for texts in rows) + "\n\n"


def cell(query: str, defaults: Mapping[str, str], missing: str | None) -> str:
    """Return the text of a table's cell: what isn't in the published tables is `missing`, if the table allows it."""
    name, *tokens = query.split()
    latest = {token.partition("=")[0]: token for token in tokens}  # what a column says replaces what its row says
    chosen = list(latest.values()) if not {*COMPARE} & {*tokens} else tokens
    conditions = {} if name.startswith("claims.") else {k: v for k, v in defaults.items() if k != "run"}
    chosen = [*(f"{key}={value}" for key, value in conditions.items()), *chosen]
    try:
        return filled(" ".join([name, *chosen]), defaults)
    except Wrong:
        if missing is None:
            raise
        return missing


def records(folder: Path) -> dict[str, Any]:
    """Return a run's record of ``aggregate``, and the digests of the ``code`` of its cells by stage."""
    return json.loads((folder / "records.json").read_text())


def commit(record: Mapping[str, Any]) -> str:
    """Return the commit that a record names, and whether files had been edited since."""
    return record["commit"][:7] + " with edits" * record["commit"].endswith("-dirty")


def runs_table() -> str:
    """Return the table of published runs, from their records."""
    lines = ["| run | models | seeds | minutes on one core | finished | commit |", "|---|---|---|---|---|---|"]
    machines = []
    folders = sorted(path for path in PUBLISHED.iterdir() if path.is_dir())
    for folder in folders:
        record, runs = records(folder)["aggregate"], table(folder.name, "runs")
        low, high = (getattr(runs.groupby(["dataset", "model", "loss"])["seed"].nunique(), f)() for f in ("min", "max"))
        seeds = f"{low}" if low == high else f"{low} to {high}"
        minutes = math.ceil(table(folder.name, "jobs")["seconds"].sum() / 60)
        cells = [folder.name, len(runs), seeds, minutes, record["finished"][:10], commit(record)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
        hardware = record["hardware"]
        machines.append(f"{hardware['processor']}, {hardware['cores']} cores, {hardware.get('gpu', 'no GPU')}")
    lines += ["", f"Machines: {'; '.join(dict.fromkeys(machines))}."]
    return "\n\n" + "\n".join(lines) + "\n\n"


BLOCKS: dict[str, Callable[..., str]] = {"grid": grid, "runs": runs_table}  # of several lines


def written(text: str, typed: bool = True) -> tuple[str, list[tuple[int, str]]]:
    """Return a page with its numbers written, and what is wrong with it as (line, message): if `typed`, also typing."""
    done, at, problems, defaults = "", 0, [], {}
    for match in MARK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["kind"] == "numbers":
            defaults = dict(token.split("=", 1) for token in match["text"].split())
        end = text.find(END, match.end())
        block = match["kind"] == "numbers" or (match["kind"] == "n" and match["text"].partition(" ")[0] in BLOCKS)
        if not block and not text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip():
            problems.append((line, "a line that begins with a marker ends the paragraph: put a word before it"))
        if match["kind"] == "n":
            old = text[match.end() : end]
            if end < 0 or "<!--" in old:
                problems.append((line, f"no {END} ends this marker"))
                continue
            try:
                new = filled(match["text"], defaults)
            except (Wrong, KeyError, ValueError, TypeError) as error:
                problems.append((line, f"{match['text']}: {error}"))
                continue
            if new != old:
                problems.append((line, f"{match['text']}: the page says {old!r}, the table {new!r}"))
            done, at = done + text[at : match.end()] + new, end
    made = done + text[at:]
    bare = SKIPPED.sub(lambda skipped: "\n" * skipped[0].count("\n"), text)
    for match in TYPED.finditer(bare) if typed else ():
        problems.append((bare.count("\n", 0, match.start()) + 1, f"{match[0]} is typed: give its table or the reason"))
    return made, sorted(problems)


def damaged() -> Iterator[str]:
    """Yield a line for each published table that isn't the one in its record."""
    for folder in sorted(path for path in PUBLISHED.iterdir() if path.is_dir()):
        record = records(folder)["aggregate"]
        outputs = record["outputs"] if record == seal(record) else {}
        for path in sorted(folder.glob("*.parquet")):
            if hashlib.sha256(path.read_bytes()).hexdigest() != outputs.get(path.name):
                yield f"{path.relative_to(ROOT)}: not the table that the run's record names"


def add(results: Path, experiment: str) -> None:
    """Copy an experiment's tables and records, and the versions of the code that its cells ran."""
    source, folder = results / "tables" / experiment, PUBLISHED / experiment
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in (f"{name}.parquet" for name in TABLES):
        if len(pd.read_parquet(source / name)):
            shutil.copyfile(source / name, folder / name)
    code: dict[str, dict[str, Any]] = {}
    for row in pd.read_parquet(folder / "runs.parquet").to_dict("records"):
        cell = results / "runs" / "/".join(f"{row[key]}" for key in KEYS[:3]) / f"seed{row['seed']}"
        for stage in STAGES:
            if (path := cell / f"{stage}.json").exists():
                code.setdefault(stage, {}).update(json.loads(path.read_text())["code"])
    kept = {"aggregate": json.loads((source / "aggregate.json").read_text()), "code": code}
    (folder / "records.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def problems(write: bool = False) -> list[str]:
    """Return what is wrong in all pages, as PAGE:LINE: MESSAGE; with `write`, after writing their numbers."""
    lines = list(damaged())
    for page in (*PAGES, *BENCHMARKED):
        text = (ROOT / page).read_text(encoding="utf-8")
        made, wrong = written(text, page in PAGES)
        if write and made != text:
            (ROOT / page).write_text(made, encoding="utf-8")
            wrong = written(made, page in PAGES)[1]
        lines += [f"{page}:{line}: {message}" for line, message in wrong]
    return lines


if __name__ == "__main__":
    if sys.argv[1:2] == ["add"]:
        add(Path(sys.argv[2]), sys.argv[3])
    found = problems(write=bool(sys.argv[1:]))
    print(*found, sep="\n")
    sys.exit(bool(found))
