"""Show each model's NLL, split into noise and the parts that training, a richer map or a temperature could repair."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from halobench.core.formatting import within
from halobench.reporting import labels
from halobench.reporting.plotting import repair_bars
from halobench.reporting.plotting.panel_grid import PageText, draw_grid, empty_page
from halobench.reporting.plotting.style import styled

SHORT = "What could repair it"
CATEGORY = "3 Calibration"
CAPTION = """\
Each bar shows a model's NLL on test samples, a mean over seeds, split by what could repair it. Models were trained with
cross-entropy (if no model was, with the first loss), or elsewhere. From left to right, the parts are noise, which no
classifier can get below; what only different training can repair (orange); what a richer map of the logits can repair
(dark green); and what a temperature can repair. If the dark green part grows with the number of classes k while the
orange part doesn't, a temperature leaves ever more NLL, but a richer map could repair it without retraining. The orange
part tends to be too long: it ends at the lowest NLL that any map reached on samples held out from its fit, and a better
map may exist. A black line spans the 95% range of the best map's NLL; if there are too few samples for a lower
estimate, the line starts at the noise or, if the posterior isn't known, at 0. If the posterior isn't known, the orange
part includes the noise.
"""

SHOWS = ()  # drawn only if an experiment lists it; its cells then get repair ladders
TITLE = "How much of each model's NLL a temperature repairs, a richer map, or only other training"
HEAD, WIDE = 0.7, 2.8  # inches: height around a panel, width of a panel


@styled
def draw(metrics: pd.DataFrame) -> Figure:
    """Draw a panel per model with a stacked bar per data set, for cross-entropy or, if missing, the first loss."""
    parts, loss = repair_bars.ladders(metrics)
    if parts.empty:
        return empty_page(TITLE, "No cell has a repair ladder.")
    datasets = labels.ordered(parts["dataset"], labels.DATASETS)
    models = labels.ordered(parts["model"], dict.fromkeys(("nearest", "attention", *labels.MODELS)))
    note = (
        f"Mean test NLL over seeds after {within(labels.loss_label(loss))} training; arrows give it for bars that are "
        "cut off. Orange may be too long: it ends at the lowest NLL that any map reached."
    )
    figure, axes = draw_grid(
        PageText(TITLE, note, repair_bars.repair_keys(), "test NLL (nats)", shared=True),
        {"": ""},
        {name: labels.model_label(name) for name in models},
        {("", name) for name in models},
        (WIDE, HEAD + repair_bars.BAR * len(datasets)),
    )
    end = repair_bars.axis_end(parts)
    for (_, model), ax in axes.items():
        repair_bars.draw_bars(ax, parts[parts["model"] == model], datasets, end)
    return figure
