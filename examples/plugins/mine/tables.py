from halobench.figures import loss_label
from halobench.tables import Part, Table, Value, grid

TITLE = "Temperatures by loss"


def temperatures(runs):
    """One line per loss: the temperatures of both fits, mean and deviation over its cells."""
    fits = {"temperature_paper": "paper's code", "temperature_exact": "optimum"}
    numbers = runs.groupby("loss")[list(fits)].agg(["mean", "std"])
    values = {
        (loss, fit): Value(means[fit, "mean"], means[fit, "std"]) for loss, means in numbers.iterrows() for fit in fits
    }
    rows = {loss: ("", loss_label(loss)) for loss in numbers.index}
    columns = {fit: ("temperature", label) for fit, label in fits.items()}
    part = Part("fits", "Temperatures by loss, mean ± standard deviation.", grid(values, rows, columns))
    numbers.columns = [" ".join(pair) for pair in numbers.columns]
    return Table(TITLE, numbers.reset_index(), (part,))
