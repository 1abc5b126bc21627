"""Draw part F of the summary page: what temperature scaling leaves as the number of classes grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from halobench.reporting import labels, table_views
from halobench.reporting.plotting import class_families, kl_by_classes, page_layout
from halobench.reporting.styles import Style
from halobench.reporting.summary_page.page import WIDTH, heading

MOST_MODELS = 4
HEIGHT = 2.75  # of the part, inches


def growth_models(overlap: pd.DataFrame) -> list[str]:
    """Return the models of part F: those trained on the first family of overlap distributions, at most `MOST_MODELS`.

    There is none if the family has one number of classes alone.
    """
    trained = overlap[(overlap["loss"] != "reference") & (overlap["model"] != "nearest")]
    if trained.empty:
        return []
    first = trained[trained["family"] == class_families.families(trained)[0]]
    return labels.ordered(first["model"], labels.MODELS)[:MOST_MODELS] if first["classes"].nunique() > 1 else []


def draw_growth(
    figure: Figure, overlap: pd.DataFrame, models: Sequence[str], styles: Mapping[str, Style], top: float
) -> None:
    """Draw the KL after TS against the number of classes, a panel per model.

    Parameters
    ----------
    figure : Figure
    overlap : DataFrame
        As `class_families.scores` returns it, with a column ``kl``.
    models : sequence of str
        As `growth_models` returns them.
    styles : mapping of str to Style
        Of all losses.
    top : float
        In inches.
    """
    family = class_families.families(overlap[overlap["loss"] != "reference"])[0]
    rows = overlap[overlap["family"] == family]
    name = class_families.family_label(family).lower()
    more = f"KL to the exact posterior after exact TS, by number of classes; {name}"
    heading(figure, 0.15, top, "F", "Where classes overlap, does TS fail more as classes grow?", more)
    styles = {loss: styles[loss] for loss in table_views.losses_in(rows[rows["model"].isin(models)])}
    keys = page_layout.legend_lines(kl_by_classes.legend_keys(styles, styles), WIDTH - 0.6)
    page_layout.draw_legend(figure, keys, 0.32, top + 0.42)
    for j, model in enumerate(models):
        ax = page_layout.place(figure, 0.75 + 2.55 * j, top + 0.82, 2.1, 1.45)
        kl_by_classes.draw_panel(ax, rows[rows["model"].isin((model, "nearest"))], model, styles)
        ax.set_title(labels.model_label(model), pad=3)
        ax.set_xlabel("classes k")
        if not j:
            ax.set_ylabel("KL (nats)")
