"""Draw docs/paper-fit.png, where the paper's temperature fit ends over a sweep of optima.

Logits are Gaussian and labels are drawn from their softmax, so that scaling the logits by c makes T = c optimal. The
fit equals torch's own LBFGS to 1e-6 over the same sweep (tests/unit/calibration/test_temperature.py).

With the argument `ends`, it instead prints where the fit ends on logits of other shapes and numbers of classes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from halobench import fit_paper, fit_temperature

PICTURE = Path(__file__).parents[2] / "docs/paper-fit.png"
# With sizes of marks, so that both show where they coincide, and the heights at which fits below 0 are marked.
SIZES = {400: ("#d55e00", 8, 0.025), 10_000: ("#0072b2", 3, 0.018)}
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)


def sweep(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Optimal temperatures from .2 to 20, and where the paper's fit ends, with `n` samples of ten classes."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(n, 10))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    scales = np.unique(np.concatenate([np.geomspace(0.2, 20, 120), np.linspace(0.53, 0.72, 120)]))
    return tuple(np.array([fit(scale * logits, labels).T for scale in scales]) for fit in (fit_temperature, fit_paper))


def shapes(rng: np.random.Generator, n: int, k: int) -> dict[str, np.ndarray]:
    """Return logits (n, k) of several shapes: different tails, sparse, and with clusters that are easy to classify."""
    at_class = np.eye(k)[rng.integers(k, size=n)]
    return {
        "Gaussian": 2 * rng.normal(size=(n, k)),
        "small": 0.5 * rng.normal(size=(n, k)),
        "heavy tails": rng.standard_t(3, size=(n, k)),
        "sparse": 4 * rng.normal(size=(n, k)) * (rng.random((n, k)) < 0.2),
        "clusters": 6 * at_class + rng.normal(size=(n, k)),
        "confidence varies": rng.lognormal(size=(n, 1)) * rng.normal(size=(n, k)),
    }


def ends() -> None:
    """Print, by the optimal temperature, where the paper's fit ends: quantiles over sets of logits."""
    found = []
    for seed, (n, k) in enumerate((n, k) for n in (300, 1000, 3000) for k in (2, 3, 10, 100)):
        rng = np.random.default_rng(seed)
        for logits in shapes(rng, n, k).values():
            labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
            for scale in (0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.6, 0.8, 1.25, 2.0, 5.0):
                best = fit_temperature(scale * logits, labels).T
                found.append((best, fit_paper(scale * logits, labels).T))
    best, ended = np.array(found).T
    for low, high in ((0.0, 0.5), (0.5, 0.54), (0.54, 0.7), (0.7, np.inf)):
        there = ended[(best > low) & (best <= high)]
        quantiles = np.quantile(there, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)).round(3).tolist()
        near, far = (np.abs(there - 0.91) < 0.03).sum(), (there <= 0).sum()
        print(
            f"optimum in ({low}, {high}]: {len(there)} sets, {near} end within .03 of .91, {far} at T <= 0; {quantiles}"
        )


def main() -> None:
    """Draw it."""
    figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    axes.plot([0.2, 20], [0.2, 20], color="0.6", lw=1.2, zorder=1)
    axes.annotate("the optimum", (6, 6), (-8, 6), textcoords="offset points", ha="right", color="0.35")
    for n, (colour, size, floor) in SIZES.items():
        best, ended = sweep(n)
        below = ended <= 0
        axes.plot(best[~below], ended[~below], ".", ms=size, color=colour, label=f"the paper's fit, {n:,} samples")
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
    said = "The paper's fit stays near T = 1, except for optima near 0.55, where it ends anywhere"
    axes.set_title(said, loc="left", size=10)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(PICTURE, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    ends() if sys.argv[1:] == ["ends"] else main()
