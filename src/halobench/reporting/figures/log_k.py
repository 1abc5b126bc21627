"""Show how the KL after temperature scaling depends on the number of classes k, e.g. whether it grows like log k."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.core.formatting import within
from halobench.reporting import labels, table_views
from halobench.reporting.answers.answer import base_label, with_base
from halobench.reporting.plotting import class_families
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import styled
from halobench.reporting.seed_statistics import over_seeds, seeds_note
from halobench.reporting.styles import loss_styles
from halobench.storage.columns import REFERENCE

SHORT = "What TS leaves, by number of classes"
CATEGORY = "5 Theory"
CAPTION = """\
The figure shows the KL (in nats) from the known posterior to the model after TS (optimal), against the number of
classes k. The horizontal axis is logarithmic, so growth like log k is a straight rising line. The solid black line is
the closed form of the KL for a classifier that is sure of the nearest training point's label; crosses show its measured
KL. The dotted line is the KL of a uniform guess. A hollow mark means that for at least one seed, the model doesn't
interpolate its training labels, so the paper's argument doesn't apply.
"""

SHOWS = ("overlap", "image_overlap", "collage")
TITLE = "What temperature scaling leaves, by number of classes"
GROWS = "What temperature scaling leaves grows with the number of classes"
GROWS_FOR = "With k, what temperature scaling leaves grows for the {}, hardly for the {}"
LEAST_GROWTH = 0.05  # nats per unit of log k, of the slope's 95% interval over seeds


@styled
def draw(metrics: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Draw a panel per pair of distribution family and model, with a line per loss and 1-NN's closed form as a line."""
    table = class_families.scores(metrics, runs, {"kl": ("kl", "exact")})
    trained = table[(table["loss"] != REFERENCE) & (table["model"] != "nearest")]
    if trained.empty:
        return empty_page(TITLE, "No model was trained on a distribution of overlapping classes.")
    growing = trained.groupby("family").filter(class_families.shows_growth)
    growth = not growing.empty
    trained = growing if growth else trained
    styles = loss_styles(table_views.losses_in(trained))
    base = base_label(with_base(trained).set_index("base"))
    law = "A straight rising line is growth like log k. " if growth else "So few values of k can't show how it grows. "
    note = (
        f"KL from the known posterior to the model after {labels.calibrator_label('exact')}, against the number of "
        f"classes k ({seeds_note(trained)}). {law}Hollow: not all seeds interpolate the training labels. The title is "
        f"about {base}."
    )
    keys = class_families.legend_keys(styles, growth)
    figure, axes = draw_grid(
        PageText(
            growth_in_words(trained), note, keys, "number of classes k (logarithmic)", "KL (nats; lower is better)"
        ),
        {name: labels.dataset_label(name) for name in class_families.families(trained)},
        {name: labels.model_label(name) for name in labels.ordered(trained["model"], labels.MODELS)},
        set(trained[["family", "model"]].itertuples(index=False, name=None)),
        (2.3, 2.2),
    )
    for (family, model), ax in axes.items():
        class_families.draw_panel(ax, table[table["family"] == family], model, styles)
    return figure


def growth_in_words(trained: pd.DataFrame) -> str:
    """Say for which models the KL of the base loss grows with k, if all families of distributions agree."""
    base = with_base(trained)
    base = base[base["loss"] == base["base"]].groupby("family").filter(class_families.shows_growth)
    slopes = [(*cell, class_families.slope(rows)) for cell, rows in base.groupby(["family", "model", "seed"])]
    means = over_seeds(pd.DataFrame(slopes, columns=["family", "model", "seed", "slope"]), ["family", "model"], "slope")
    means = means[means["n"] > 1].assign(grows=means["low"] > LEAST_GROWTH, hardly=means["mean"] <= LEAST_GROWTH)
    all_of = means.groupby("model")[["grows", "hardly"]].all()
    grows, hardly = (labels.ordered(all_of.index[all_of[name]], labels.MODELS) for name in all_of)
    if not grows or {*grows, *hardly} != {*trained["model"]} or (hardly and len(all_of) > 2):
        return TITLE
    return GROWS_FOR.format(*(within(labels.model_label(name)) for name in (*grows, *hardly))) if hardly else GROWS
