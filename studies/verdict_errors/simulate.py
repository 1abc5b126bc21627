"""Simulate how often the rule for claims errs if the truth lies at the margin.

At the margin, nothing should be decided, so each decided verdict is an error. The rule aims at 5%. docs/judging.md has
what this prints. Everything is drawn from a fixed seed, and takes half a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from halobench.analysis.claims.verdicts import adjusted
from halobench.analysis.t_intervals import LEVEL, p_values, t_intervals

TRIALS, FAMILY_TRIALS = 40_000, 20_000
SEEDS = (3, 5, 10)  # numbers of seeds
SHARED = 0.45  # test samples over training samples of the demo's digits
TESTS = 17  # made in the demo

Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def normal(rho: float) -> Draw:
    """Return a function that draws normal values (trials, n), of mean 0, whose seeds correlate by rho."""

    def draw(rng: np.random.Generator, trials: int, n: int) -> np.ndarray:
        return np.sqrt(rho) * rng.normal(size=(trials, 1)) + np.sqrt(1 - rho) * rng.normal(size=(trials, n))

    return draw


def log_normal(sigma: float, logs: bool) -> Draw:
    """Return a function that draws ratios, or their logarithms, minus their true means."""

    def draw(rng: np.random.Generator, trials: int, n: int) -> np.ndarray:
        values = sigma * rng.normal(size=(trials, n))
        return values if logs else np.exp(values) - np.exp(sigma**2 / 2)

    return draw


def errors(draw: Draw, correction: float) -> Iterator[str]:
    """Yield, for each number of seeds, the shares of intervals entirely below and entirely above the true mean, 0."""
    for n in SEEDS:
        _, low, high = t_intervals(draw(np.random.default_rng(n), TRIALS, n), correction).T
        below, above = 100 * np.mean(high < 0), 100 * np.mean(low > 0)
        yield f"{below + above:.1f}% ({below:.1f}, {above:.1f})"


def family_errors(rho: float, holm: bool) -> Iterator[str]:
    """Yield, for each number of seeds, how often any of `TESTS` tests at their margins is decided.

    The values of different tests correlate by rho in each seed, since tests share cells.
    """
    for n in SEEDS:
        rng, wrong = np.random.default_rng(n), 0
        for _ in range(FAMILY_TRIALS):
            values = np.sqrt(rho) * rng.normal(size=n) + np.sqrt(1 - rho) * rng.normal(size=(TESTS, n))
            p = p_values(values, 0.0)
            wrong += bool(((adjusted(p) if holm else p) < 1 - LEVEL).any())
        yield f"{100 * wrong / FAMILY_TRIALS:.1f}%"


def table() -> list[tuple[str, ...]]:
    """Return the rows of the table: what was simulated, and the share of errors for each number of seeds."""
    rows = [("independent seeds", *errors(normal(0.0), 0.0))]
    for rho in (0.1, 0.3, 0.57):
        rows.append((f"seeds that correlate by {rho:g}", *errors(normal(rho), 0.0)))
        rows.append((f"the same, corrected by {SHARED:g}", *errors(normal(rho), SHARED)))
    for sigma in (0.5, 1.0):
        for logs, scale in ((False, "as they are"), (True, "by their logarithms")):
            rows.append((f"log-normal ratios, sigma {sigma:g}, {scale}", *errors(log_normal(sigma, logs), 0.0)))
    for rho in (0.0, 0.5):
        for holm, words in ((False, "each by itself"), (True, "with Holm's correction")):
            what = f"any of {TESTS} tests that correlate by {rho:g}, {words}"
            rows.append((what, *family_errors(rho, holm)))
    return rows


def main() -> None:
    """Print the table."""
    print("| decided at the margin (below, above) |", " | ".join(f"{n} seeds" for n in SEEDS), "|")
    print("|---|---|---|---|")
    for row in table():
        print("|", " | ".join(row), "|")


if __name__ == "__main__":
    main()
