from matplotlib.figure import Figure

from halobench.figures import loss_label, loss_styles, losses_in, styled

TITLE = "Temperatures by loss"
CAPTION = "The exact temperature of each cell. Above 1 the model was too sure."


@styled
def temperatures(runs):
    """One point per cell: the exact temperature, by loss."""
    losses = losses_in(runs)
    looks = loss_styles(losses)
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    for place, loss in enumerate(losses):
        values = runs.loc[runs["loss"] == loss, "temperature_exact"]
        axes.plot([place] * len(values), values, "o", color=looks[loss].color)
    axes.set_xticks(range(len(losses)), [loss_label(loss) for loss in losses])
    axes.set_ylabel("exact T")
    axes.set_title(TITLE)
    return figure
