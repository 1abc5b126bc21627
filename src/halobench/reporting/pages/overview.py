"""Write an experiment's overview, what was run and what came out, and its part for the report's front page."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from halobench.core.formatting import count
from halobench.reporting import labels, styles, table_views
from halobench.reporting.pages import cells, elements, run_costs
from halobench.reporting.pages.claims_page import claimed, counted
from halobench.reporting.pages.elements import Column, Entry, Line

FITS = ("none", "released", "exact", "oracle")
SIGNS = {name: style.marker for name, style in styles.VERDICT_STYLES.items()}
SECTIONS = ("experiments", "sources", "datasets", "models", "losses", "recipes", "probes", "calibrate")
FRONT_STYLE = """
<style>
.front { color: #1a1a1a; } .front h2 { margin: 1.2rem 0 .3rem; }
.front table { border-collapse: collapse; width: auto; margin: .4rem 0; }
.front caption { text-align: left; }
.front th, .front td { padding: .15rem .6rem .15rem 0; text-align: left; vertical-align: top; font-weight: normal; }
.front thead th { font-weight: 600; border-bottom: 1px solid #767676; }
.front tbody th { color: inherit; }
.front dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1rem; margin: .4rem 0; }
.front dt { font-weight: 600; margin: 0; } .front dd { margin: 0; padding: 0; }
.front .number { text-align: right; } .front .small { font-size: 12px; color: #4a4a4a; white-space: nowrap; }
.front .word { white-space: nowrap; font-weight: 600; }
.front .scroll { overflow-x: auto; }
.front img { max-width: 100%; height: auto; margin: .4rem 0; }
.front .holds { color: #006647; } .front .does_not { color: #a84300; }
.front .undecided, .front .not_tested { color: #4a4a4a; }
@media (max-width: 640px) { .front dl { grid-template-columns: 1fr; } .front dd { margin-bottom: .3rem; } }
</style>
"""


@dataclass(frozen=True)
class Overview:
    """The contents of the pages.

    Parameters
    ----------
    experiment : str
    runs, claims : DataFrame
        As aggregated and judged.
    jobs : sequence of Job
        As `run_costs.read_jobs` returns them.
    config : mapping
        The part of the configuration that made it.
    figure : bytes
        The figure that sums it up, as PNG; empty for none.
    note : str
        E.g. that cells are missing.
    """

    experiment: str
    runs: pd.DataFrame
    claims: pd.DataFrame
    jobs: Sequence[run_costs.FinishedJob]
    config: Mapping[str, Any]
    figure: bytes = b""
    note: str = ""


def overview_page(overview: Overview) -> str:
    """Return the overview as a page of its own."""
    parts = [elements.note(overview.note), f"<p>{html.escape(sentence(overview.runs))}</p>", _facts(overview)]
    parts += ["<h2>What came out</h2>", *_outcome(overview)]
    parts += ["<h2>What was run</h2>", _grid(overview.runs), _costs(overview.jobs), _versions(overview.jobs)]
    parts += ["<h2>The configuration that made it</h2>", _config(overview)]
    return elements.document(
        f"Experiment {overview.experiment}: what was run, and what came out", "\n".join(filter(None, parts))
    )


def front(overview: Overview) -> str:
    """Return the part for the report's front page: an element with its style, to be set into another page."""
    parts = [elements.note(overview.note), f"<p>{html.escape(sentence(overview.runs))}</p>", _facts(overview)]
    parts += ["<h2>What came out</h2>", *_outcome(overview), "<h2>What was run</h2>", _datasets(overview.runs)]
    body = "\n".join(filter(None, parts))
    return elements.as_ascii(f'{FRONT_STYLE}<section class="front">\n{body}\n</section>\n')


def sentence(runs: pd.DataFrame) -> str:
    """Describe the grid in a sentence or two."""
    here = runs[table_views.trained_here(runs)]
    sets, models = (count(runs[kind].nunique(), word) for kind, word in (("dataset", "data set"), ("model", "model")))
    losses = count(runs["loss"].nunique(), "loss", "losses")
    seeds = ", ".join(map(str, sorted(runs["seed"].unique())))
    part = "" if _is_full(runs) else ", not in all combinations"
    return (
        f"{count(len(runs), 'cell')} (trained models) of {sets}, {models} and {losses}{part}, with seeds {seeds}."
        f" Of {len(here)} that were trained here {int(here['interpolates'].sum())} interpolate, that is, predict at "
        "least 99% of the labels trained on, noise included."
    )


def _is_full(runs: pd.DataFrame) -> bool:
    """Return whether the grid holds every combination."""
    whole = 1
    for kind in ("dataset", "model", "loss", "seed"):
        whole *= runs[kind].nunique()
    return whole == len(runs)


# What was run ---------------------------------------------------------------------------------------------------------


def _facts(overview: Overview) -> str:
    """Return time, cost, machines, versions and commits, one line each."""
    jobs = overview.jobs
    begun, ended = run_costs.span(jobs)
    cpu, gpu = (sum(getattr(cost, kind) for cost in run_costs.costs(jobs)) for kind in ("cpu", "gpu"))
    cost = f"{run_costs.duration(cpu)} of jobs on CPUs, {run_costs.duration(gpu) if gpu else 'none'} on GPUs; "
    cost += f"most memory of a job {max(job.peak for job in jobs):.0f} MiB"
    rows = {
        "Run": f"{begun} to {ended}",
        "Cost": cost,
        "Hardware": "; ".join(_shares(run_costs.machines(jobs))),
        "Commit": "; ".join(_shares(run_costs.commits(jobs))),
        "Versions": ", ".join(
            f"{name} {' and '.join(versions)}" for name, versions in run_costs.versions(jobs).items()
        ),
    }
    shown = "".join(f"<dt>{key}</dt><dd>{html.escape(value)}</dd>" for key, value in rows.items())
    return f'<dl class="facts">{shown}</dl>'


def _shares(counts: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Yield names with their numbers of jobs, if there are several; of many the first."""
    if len(counts) == 1:
        yield counts[0][0]
        return
    for name, jobs in counts[:6]:
        yield f"{name} ({count(jobs, 'job')})"
    if len(counts) > 6:
        yield f"and {len(counts) - 6} more"


def _datasets(runs: pd.DataFrame) -> str:
    """Return the grid by data set, for the front page."""
    rows = []
    for dataset in labels.ordered(runs["dataset"], labels.DATASETS):
        grid = runs[runs["dataset"] == dataset]
        here = grid[table_views.trained_here(grid)]
        fit = f"{int(here['interpolates'].sum())} of {len(here)}"
        texts = (
            cells.listed(grid["model"], "model"),
            cells.listed(grid["loss"], "loss"),
            str(grid["seed"].nunique()),
        )
        shown = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
        numbers = "".join(f'<td class="number">{text}</td>' for text in (str(len(grid)), fit))
        rows.append(f'<tr><th scope="row">{html.escape(labels.dataset_label(dataset))}</th>{shown}{numbers}</tr>')
    heads = ("Data set", "Models", "Losses", "Seeds", "Cells", "Interpolate")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    table = f"<table><caption>The grid</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return elements.scrolling(table, "The grid")


def _grid(runs: pd.DataFrame) -> str:
    """Return the grid by data set, model and loss, with filters."""
    columns = (
        *(Column("Data set"), Column("Model"), Column("Loss"), Column("Seeds"), Column("Cells", number=True)),
        *(Column("Interpolate", number=True), Column("Mean train accuracy", number=True)),
    )
    lines = []
    for row in cells.count_cells(runs):
        keys = {kind: row[kind] for kind in ("dataset", "model", "loss")}
        share = f"{row['interpolate']} of {row['trained']}"
        fit = Entry(share, row["interpolate"] / row["trained"]) if row["trained"] else Entry("–")
        seeds = Entry(", ".join(map(str, row["seeds"])), len(row["seeds"]))
        entries = (*cells.named(keys), seeds, elements.number(row["cells"], "d"), fit)
        lines.append(Line(keys, (*entries, elements.number(row["accuracy"]))))
    selects = elements.filters(elements.choices(line.keys for line in lines), "grid", "rows")
    return f'{selects}<div id="grid">{elements.table("The grid", columns, lines, wide=True)}</div>'


def _costs(jobs: Sequence[run_costs.FinishedJob]) -> str:
    """Return the cost of each stage."""
    columns = (
        *(Column("Stage"), Column("Jobs", number=True), Column("Time on CPUs", number=True)),
        *(Column("Time on GPUs", number=True), Column("Longest job", number=True)),
        Column("Peak memory of a job", number=True),
    )
    lines = [
        Line(
            {},
            (
                elements.words(cost.stage),
                elements.number(cost.jobs, "d"),
                *(Entry(run_costs.duration(value), value) for value in (cost.cpu, cost.gpu, cost.longest)),
                Entry(f"{cost.peak:.0f} MiB", cost.peak),
            ),
        )
        for cost in run_costs.costs(jobs)
    ]
    caption = (
        "Cost by stage: wall time of its jobs, added up. Figures and tables for print are made later and not counted."
    )
    return elements.table(caption, columns, lines)


def _versions(jobs: Sequence[run_costs.FinishedJob]) -> str:
    """Return the versions of all packages that jobs recorded."""
    columns = (Column("Package"), Column("Version"))
    lines = [
        Line({}, (elements.words(name), elements.words(", ".join(versions))))
        for name, versions in run_costs.versions(jobs).items()
    ]
    return f"<details><summary>Versions of packages</summary>{elements.table('Versions', columns, lines)}</details>"


def _config(overview: Overview) -> str:
    """Return the part of the configuration as YAML, the grid first."""
    first = [key for key in SECTIONS if key in overview.config]
    parts = {key: overview.config[key] for key in [*first, *sorted(overview.config.keys() - set(first))]}
    text = yaml.safe_dump(parts, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    what = f"What of the configuration experiment {overview.experiment} uses, default values left out"
    return f'<details><summary>{html.escape(what)}</summary><pre tabindex="0">{html.escape(text)}</pre></details>'


# What came out --------------------------------------------------------------------------------------------------------


def _outcome(overview: Overview) -> Iterator[str]:
    """Yield how many claims hold, the figure, and the claims."""
    whole = overview.claims[overview.claims["scope"] == "all"]
    if len(whole):
        yield f"<p><b>Claims: {counted(whole)}.</b></p>"
    yield _figure(overview)
    yield _verdicts(whole[whole["verdict"] != "not_tested"], len(whole))


def _verdicts(tested: pd.DataFrame, claims: int) -> str:
    """Return the claims that were tested with their verdicts: a row per claim and a column per fit."""
    if not len(tested):
        return ""
    fits = [fit for fit in FITS if fit in set(tested["fit"])] + sorted(set(tested["fit"]) - set(FITS))
    rows: dict[str, dict[str, Any]] = {}
    claimed: Iterable[Any] = tested.itertuples()
    for claim in claimed:
        rows.setdefault(labels.claim_label(claim.claim, claim.fit), {})[claim.fit] = claim
    head = "".join(f'<th scope="col">{html.escape(labels.calibrator_label(fit))}</th>' for fit in fits)
    body = "\n".join(_verdict_row(label, verdicts, fits) for label, verdicts in rows.items())
    caption = (
        "Verdicts, a column for each temperature that claims speak of. Below each: the estimate over all data sets and "
        "models, and what is claimed of it. A claim holds, or does not, where the 95% interval over seeds lies wholly "
        "on one side of that, and else is undecided."
    )
    if claims > len(tested):
        left = claims - len(tested)
        caption += f" Not shown: {left} that this grid can't test, for want of what they ask for."
    table = (
        f'<table><caption><span>{html.escape(caption)}</span></caption><thead><tr><th scope="col">Claim</th>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table>"
    )
    return elements.scrolling(table, "Verdicts")


def _verdict_row(label: str, verdicts: Mapping[str, Any], fits: Iterable[str]) -> str:
    """Return the row of a claim."""
    shown = "".join(f"<td>{_verdict(verdicts[fit]) if fit in verdicts else ''}</td>" for fit in fits)
    return f'<tr><th scope="row">{html.escape(label)}</th>{shown}</tr>'


def _verdict(claim: Any) -> str:
    """Return a verdict as a sign and words, with the estimate and what is claimed."""
    basis = f"{elements.number(claim.estimate).shown}, claimed {claimed(claim)}"
    word = f'<span class="word {claim.verdict}">{SIGNS[claim.verdict]} {labels.VERDICTS[claim.verdict]}</span>'
    return f'{word}<br><span class="small">{basis}</span>'


def _figure(overview: Overview) -> str:
    """Return the figure that sums the experiment up."""
    if not overview.figure:
        return ""
    data = base64.b64encode(overview.figure).decode()
    alternative = (
        f"Summary figure of experiment {overview.experiment}; its numbers are in the tables on the other pages."
    )
    return f'<p><img src="data:image/png;base64,{data}" alt="{html.escape(alternative)}"></p>'
