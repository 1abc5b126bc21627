"""Draw docs/paper-fit.png, where the paper's temperature fit ends over a sweep of optima: ``python docs/paper_fit.py``.

Logits are Gaussian and labels are drawn from their softmax, so that scaling the logits by c makes T = c optimal. The
fit equals torch's own LBFGS to 1e-6 over the same sweep (tests/unit/calibration/test_temperature.py).
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from halobench import fit_paper, fit_temperature

HERE = Path(__file__).parent
SIZES = {400: ("#d55e00", 0.025), 10_000: ("#0072b2", 0.018)}  # with the heights at which fits below 0 are marked
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


def sweep(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Optimal temperatures from .2 to 20, and where the paper's fit ends, with `n` samples of ten classes."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(n, 10))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    scales = np.unique(np.concatenate([np.geomspace(0.2, 20, 120), np.linspace(0.53, 0.72, 120)]))
    return tuple(np.array([fit(scale * logits, labels).T for scale in scales]) for fit in (fit_temperature, fit_paper))


def main() -> None:
    """Draw it."""
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    axes.plot([0.2, 20], [0.2, 20], color="0.6", lw=1.2, zorder=1)
    axes.annotate("the optimum", (6, 6), (-8, 6), textcoords="offset points", ha="right", color="0.35")
    for n, (colour, floor) in SIZES.items():
        best, ended = sweep(n)
        below = ended <= 0
        axes.plot(best[~below], ended[~below], ".", ms=4, color=colour, label=f"the paper's fit, {n:,} samples")
        axes.plot(best[below], np.full(below.sum(), floor), "v", ms=4, color=colour)
        print(f"{n}: {below.sum()} of {len(best)} below 0, for optima of {best[below].round(3).tolist()}")
    axes.annotate("ended at a T below 0", (0.6, 0.02), (8, -3), textcoords="offset points", color="0.35")
    axes.set(xscale="log", yscale="log", ylim=(0.014, 25), xlabel="optimal temperature", ylabel="fitted temperature")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([tick for tick in TICKS if axis is axes.yaxis or tick >= 0.2])
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(color="0.92", lw=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(HERE / "paper-fit.png", dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
