"""Show what temperature scaling and a richer map leave in families of networks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.core.formatting import count
from halobench.reporting import labels
from halobench.reporting.answers.answer import NLL
from halobench.reporting.answers.maps import maps
from halobench.reporting.plotting import artists
from halobench.reporting.plotting.panel_grid import PageText, draw_panels, empty_page
from halobench.reporting.plotting.style import FAINT, styled
from halobench.reporting.seed_statistics import seeds_note
from halobench.reporting.styles import calibrator_style
from studies.architectures import forest

SHORT = "Repair, by family of networks"
CATEGORY = "1 Answers"
CAPTION = """\
What TS (optimal) and partner scaling leave of the test NLL above that of the known posterior (of the NLL itself, if no
posterior is known). Each family of networks has its means over seeds with 95% t intervals. Only models that interpolate
when trained with the base loss are shown.
"""
SHOWS = ()  # only in experiments that name it, since it needs several families
TITLE = "What a temperature and partner scaling leave, by family of networks"
FITS = ("exact", "partner")


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per data set, with joined dots for what TS and partner scaling leave, below the take-away."""
    left, title = left_by_fit(metrics, runs), maps(metrics, runs).takeaway or TITLE
    if left.empty:
        return empty_page(title, f"No data set has {forest.FEWEST} models that interpolate and both fits.")
    datasets = labels.ordered(left["dataset"], labels.DATASETS)
    models = labels.ordered(left["model"], labels.MODELS)
    keys = [
        artists.key(labels.calibrator_label(fit), style.color, marker=style.marker, ls="")
        for fit in FITS
        for style in [calibrator_style(fit)]
    ]
    named = forest.scored(metrics, runs)[-1]
    note = f"With {named}; {count(len(models), 'family', 'families')}; {seeds_note(runs)}. At 0, nothing is left."
    text, size = PageText(title, note, keys, NLL.replace("\n", " "), shared=True), (3.2, 0.7 + 0.22 * len(models))
    figure, axes = draw_panels(text, {name: labels.dataset_label(name) for name in datasets}, size)
    for dataset, ax in axes.items():
        ax.axvline(0, color="#8a8a8a", lw=0.8, zorder=1)
        rows = left[left["dataset"] == dataset]
        ends = rows.groupby("model")["mean"].agg(["min", "max"])
        ax.hlines([models.index(model) for model in ends.index], ends["min"], ends["max"], color=FAINT, lw=2.5)
        for fit, of_fit in rows.groupby("fit"):
            style, y = calibrator_style(str(fit)), of_fit["model"].map(models.index)
            ax.hlines(y, of_fit["low"], of_fit["high"], color=style.color, lw=1, zorder=2)
            ax.plot(of_fit["mean"], y, style.marker, color=style.color, ms=5, zorder=3)
        ax.set(xlim=(-0.03, 1.03 * left["high"].max()), ylim=(len(models) - 0.4, -0.6))
        ax.set_yticks(range(len(models)), map(labels.model_label, models))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
    return figure


def left_by_fit(metrics: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return what each of `FITS` leaves by data set and model, of data sets with enough families."""
    _, base, _ = forest.scored(metrics, runs)
    if not {*FITS} <= {*base}:
        return pd.DataFrame()
    both = base[[*FITS]].dropna()
    left = pd.concat([forest.means_by_family(both[fit], runs).assign(fit=fit) for fit in FITS])
    return left[left.groupby("dataset")["model"].transform("nunique") >= forest.FEWEST]
