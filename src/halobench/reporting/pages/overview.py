"""What an experiment was and what came out, in a minute: its overview, and the part of it for a report's front page."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from halobench.core.formatting import count
from halobench.reporting import labels as names
from halobench.reporting import styles, table_views
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
    """What the pages show.

    Parameters
    ----------
    experiment : str
    runs, claims : DataFrame
        As aggregated and judged.
    jobs : sequence of Job
        Of `facts.read_jobs`.
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
    jobs: Sequence[run_costs.Job]
    config: Mapping[str, Any]
    figure: bytes = b""
    note: str = ""


def page(found: Overview) -> str:
    """The overview as a page of its own."""
    parts = [elements.note(found.note), f"<p>{html.escape(sentence(found.runs))}</p>", _facts(found)]
    parts += ["<h2>What came out</h2>", *_outcome(found)]
    parts += ["<h2>What was run</h2>", _grid(found.runs), _costs(found.jobs), _versions(found.jobs)]
    parts += ["<h2>The configuration that made it</h2>", _config(found)]
    return elements.document(
        f"Experiment {found.experiment}: what was run, and what came out", "\n".join(filter(None, parts))
    )


def front(found: Overview) -> str:
    """What of it stands on a report's front page: an element with its style, to be set into another page."""
    parts = [elements.note(found.note), f"<p>{html.escape(sentence(found.runs))}</p>", _facts(found)]
    parts += ["<h2>What came out</h2>", *_outcome(found), "<h2>What was run</h2>", _datasets(found.runs)]
    body = "\n".join(filter(None, parts))
    return elements.as_ascii(f'{FRONT_STYLE}<section class="front">\n{body}\n</section>\n')


def sentence(runs: pd.DataFrame) -> str:
    """The grid in a sentence."""
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
    """Whether every combination is there."""
    whole = 1
    for kind in ("dataset", "model", "loss", "seed"):
        whole *= runs[kind].nunique()
    return whole == len(runs)


# What was run ---------------------------------------------------------------------------------------------------------


def _facts(found: Overview) -> str:
    """Time, cost, machines, versions and commits, a line each."""
    jobs = found.jobs
    begun, ended = run_costs.span(jobs)
    cpu, gpu = (sum(getattr(cost, kind) for cost in run_costs.costs(jobs)) for kind in ("cpu", "gpu"))
    cost = f"{run_costs.duration(cpu)} of jobs on CPUs, {run_costs.duration(gpu) if gpu else 'none'} on GPUs; "
    cost += f"most memory of a job {max(job.peak for job in jobs):.0f} MiB"
    rows = {
        "Run": f"{begun} to {ended}",
        "Cost": cost,
        "Hardware": "; ".join(_shares(run_costs.machines(jobs))),
        "Commit": "; ".join(_shares(run_costs.commits(jobs))),
        "Versions": ", ".join(f"{name} {' and '.join(own)}" for name, own in run_costs.versions(jobs).items()),
    }
    shown = "".join(f"<dt>{key}</dt><dd>{html.escape(value)}</dd>" for key, value in rows.items())
    return f'<dl class="facts">{shown}</dl>'


def _shares(counts: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Names with their numbers of jobs, where there are several; of many the first."""
    if len(counts) == 1:
        yield counts[0][0]
        return
    for name, jobs in counts[:6]:
        yield f"{name} ({count(jobs, 'job')})"
    if len(counts) > 6:
        yield f"and {len(counts) - 6} more"


def _datasets(runs: pd.DataFrame) -> str:
    """The grid by data set, for the front page."""
    rows = []
    for dataset in names.ordered(runs["dataset"], names.DATASETS):
        own = runs[runs["dataset"] == dataset]
        here = own[table_views.trained_here(own)]
        fit = f"{int(here['interpolates'].sum())} of {len(here)}"
        told = (cells.listed(own["model"], "model"), cells.listed(own["loss"], "loss"), str(own["seed"].nunique()))
        shown = "".join(f"<td>{html.escape(text)}</td>" for text in told)
        numbers = "".join(f'<td class="number">{text}</td>' for text in (str(len(own)), fit))
        rows.append(f'<tr><th scope="row">{html.escape(names.dataset_label(dataset))}</th>{shown}{numbers}</tr>')
    heads = ("Data set", "Models", "Losses", "Seeds", "Cells", "Interpolate")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    made = f"<table><caption>The grid</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return elements.scrolling(made, "The grid")


def _grid(runs: pd.DataFrame) -> str:
    """The grid by data set, model and loss, sorted and filtered at will."""
    columns = (
        *(Column("Data set"), Column("Model"), Column("Loss"), Column("Seeds"), Column("Cells", number=True)),
        *(Column("Interpolate", number=True), Column("Mean train accuracy", number=True)),
    )
    lines = []
    for own in cells.grid(runs):
        keys = {kind: own[kind] for kind in ("dataset", "model", "loss")}
        told = f"{own['interpolate']} of {own['trained']}"
        fit = Entry(told, own["interpolate"] / own["trained"]) if own["trained"] else Entry("–")
        seeds = Entry(", ".join(map(str, own["seeds"])), len(own["seeds"]))
        entries = (*cells.named(keys), seeds, elements.number(own["cells"], "d"), fit)
        lines.append(Line(keys, (*entries, elements.number(own["accuracy"]))))
    selects = elements.filters(elements.choices(line.keys for line in lines), "grid", "rows")
    return f'{selects}<div id="grid">{elements.table("The grid", columns, lines, wide=True)}</div>'


def _costs(jobs: Sequence[run_costs.Job]) -> str:
    """What each stage took."""
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


def _versions(jobs: Sequence[run_costs.Job]) -> str:
    """Versions of all packages that jobs told of."""
    columns = (Column("Package"), Column("Version"))
    lines = [
        Line({}, (elements.words(name), elements.words(", ".join(found))))
        for name, found in run_costs.versions(jobs).items()
    ]
    return f"<details><summary>Versions of packages</summary>{elements.table('Versions', columns, lines)}</details>"


def _config(found: Overview) -> str:
    """The configuration's part as YAML, the grid first."""
    known = [key for key in SECTIONS if key in found.config]
    parts = {key: found.config[key] for key in [*known, *sorted(found.config.keys() - set(known))]}
    text = yaml.safe_dump(parts, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    what = f"What of the configuration experiment {found.experiment} uses, default values left out"
    return f'<details><summary>{html.escape(what)}</summary><pre tabindex="0">{html.escape(text)}</pre></details>'


# What came out --------------------------------------------------------------------------------------------------------


def _outcome(found: Overview) -> Iterator[str]:
    """How many claims hold, the figure, and the claims."""
    whole = found.claims[found.claims["scope"] == "all"]
    if len(whole):
        yield f"<p><b>Claims: {counted(whole)}.</b></p>"
    yield _figure(found)
    yield _verdicts(whole[whole["verdict"] != "not_tested"], len(whole))


def _verdicts(tested: pd.DataFrame, claims: int) -> str:
    """The claims that were tested, of so many, with their verdicts: a row a claim and a column a fit."""
    if not len(tested):
        return ""
    fits = [fit for fit in FITS if fit in set(tested["fit"])] + sorted(set(tested["fit"]) - set(FITS))
    rows: dict[str, dict[str, Any]] = {}
    claimed: Iterable[Any] = tested.itertuples()
    for claim in claimed:
        rows.setdefault(names.claim_label(claim.claim, claim.fit), {})[claim.fit] = claim
    head = "".join(f'<th scope="col">{html.escape(names.calibrator_label(fit))}</th>' for fit in fits)
    body = "\n".join(_verdict_row(label, own, fits) for label, own in rows.items())
    caption = (
        "Verdicts, a column for each temperature that claims speak of. Below each: the estimate over all data sets and "
        "models, and what is claimed of it. A claim holds, or does not, where the 95% interval over seeds lies wholly "
        "on one side of that, and else is undecided."
    )
    if claims > len(tested):
        left = claims - len(tested)
        caption += f" Not shown: {left} that this grid can't test, for want of what they ask for."
    made = (
        f'<table><caption><span>{html.escape(caption)}</span></caption><thead><tr><th scope="col">Claim</th>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table>"
    )
    return elements.scrolling(made, "Verdicts")


def _verdict_row(label: str, own: Mapping[str, Any], fits: Iterable[str]) -> str:
    """A claim's verdicts."""
    shown = "".join(f"<td>{_verdict(own[fit]) if fit in own else ''}</td>" for fit in fits)
    return f'<tr><th scope="row">{html.escape(label)}</th>{shown}</tr>'


def _verdict(claim: Any) -> str:
    """A verdict in a sign and words, with what it rests on."""
    told = f"{elements.number(claim.estimate).shown}, claimed {claimed(claim)}"
    word = f'<span class="word {claim.verdict}">{SIGNS[claim.verdict]} {names.VERDICTS[claim.verdict]}</span>'
    return f'{word}<br><span class="small">{told}</span>'


def _figure(found: Overview) -> str:
    """The figure that sums it up."""
    if not found.figure:
        return ""
    data = base64.b64encode(found.figure).decode()
    alternative = f"Summary figure of experiment {found.experiment}; its numbers are in the tables on the other pages."
    return f'<p><img src="data:image/png;base64,{data}" alt="{html.escape(alternative)}"></p>'
