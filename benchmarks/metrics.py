"""Compare binned calibration errors with netcal's and torch_uncertainty's, and bootstrap intervals with recomputation.

Usage: `python benchmarks/metrics.py [--quick]`. Values are compared first, so both sides of a ratio give equal results.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

import harness

harness.one_thread()

import numpy as np  # noqa: E402
import peers_calibration as peers  # noqa: E402
from harness import Row  # noqa: E402
from temperature import peak  # noqa: E402

from halobench.calibration.metrics import brier  # noqa: E402
from halobench.calibration.scores import metric, sample_scores  # noqa: E402
from halobench.calibration.scores.resampling import bootstrap_intervals  # noqa: E402

DRAWS = 1000


def rows(quick: bool) -> Iterator[Row]:
    """Yield rows for ECE + ACE + MCE and classwise ECE, on float64 and float32 probabilities, and for the bootstrap."""
    n, k = (2_000, 100) if quick else (50_000, 1000)
    logits, labels = peers.made(n, k)
    probabilities = metric.softmax(logits)
    del logits
    count = harness.QUICK_TURNS if quick else 7
    yield binned(probabilities, labels, count)
    single = probabilities.astype(np.float32)
    yield binned(single, labels, count)
    yield classwise(probabilities, labels, harness.QUICK_TURNS if quick else 5)
    del probabilities, single
    yield bootstrap(1_000 if quick else 10_000, 100 if quick else DRAWS, harness.QUICK_TURNS if quick else 5)


def three(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compute ECE, ACE (average) and MCE from one diagram."""
    count, gaps = metric.reliability(probabilities, labels).gaps()
    return {"ece": float(count @ gaps / count.sum()), "ace_average": float(gaps.mean()), "mce": float(gaps.max())}


def binned(probabilities: np.ndarray, labels: np.ndarray, count: int) -> Row:
    """Compare ECE + ACE + MCE with netcal."""
    what = f"ECE + ACE + MCE, {probabilities.shape} {probabilities.dtype}"
    ours, theirs = three(probabilities, labels), peers.netcal_errors(probabilities, labels)
    for name in theirs:
        peers.agree(f"{what}: {name}", ours[name], theirs[name], 1e-9)
    mine, other, alone = harness.turns(
        partial(three, probabilities, labels),
        partial(peers.netcal_errors, probabilities, labels),
        lambda: [function(probabilities, labels) for function in (metric.ece, metric.ace, metric.mce)],
        count=count,
    )
    times = f"{statistics.median(harness.over(other, alone)):.3g} times"
    note = f"{ms(mine)} for one diagram, which gives all three, against {ms(other)}; "
    note += f"{ms(alone)} ({times}) for our three functions one by one"
    return Row(what, "netcal", harness.over(other, mine), least=10, note=note)


def classwise(probabilities: np.ndarray, labels: np.ndarray, count: int) -> Row:
    """Compare classwise ECE with torch_uncertainty, in float64, where both agree to the last digits."""
    what = f"classwise ECE, {probabilities.shape} {probabilities.dtype}"
    found: list[float] = []

    def theirs() -> None:
        found.append(peers.torch_uncertainty_classwise(probabilities, labels))

    peers.torch_uncertainty_classwise(probabilities[:2], labels[:2])  # imports the library
    mine, other = harness.turns(partial(metric.classwise_ece, probabilities, labels), theirs, count=count, warm=0)
    peers.agree(what, metric.classwise_ece(probabilities, labels), found[0], 1e-9)
    note = f"{ms(mine)} against {ms(other)}"
    return Row(what, "torch_uncertainty", harness.over(other, mine), least=20, note=note)


def bootstrap(n: int, draws: int, count: int) -> Row:
    """Compare intervals for the error, NLL and Brier score of n points in 10 classes."""
    what = f"bootstrap intervals, {draws} draws, n = {n}"
    logits, labels = peers.made(n, 10)
    probabilities = metric.softmax(logits)
    values = scores(logits, probabilities, labels)
    ours = partial(bootstrap_intervals, values, draws)
    recomputed = partial(peers.plain_bootstrap, logits, probabilities, labels, draws)
    for mine, theirs in zip(ours(rng()), recomputed(rng()), strict=True):
        for one, other in zip(mine, theirs, strict=True):  # the same seed draws the same points
            peers.agree(what, one, other, 1e-12)
    mine, again = harness.turns(lambda: ours(rng()), lambda: recomputed(rng()), count=count)
    note = f"{ms(mine)} against {ms(again)}"
    return Row(what, "drawing and recomputing", harness.over(again, mine), least=20, note=note)


def scores(logits: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the error, NLL and Brier score of each point, (n, 3)."""
    columns = [
        probabilities.argmax(axis=1) != labels,
        sample_scores.cross_entropy(logits, labels),
        brier.score(probabilities, labels),
    ]
    return np.stack(columns, axis=1)


def rng() -> np.random.Generator:
    """Return a generator that gives the same draws each time."""
    return np.random.default_rng(0)


def ms(seconds: list[float]) -> str:
    """Format the median in milliseconds."""
    return f"{1e3 * statistics.median(seconds):.3g} ms"


def growth(quick: bool) -> list[tuple[str, float, float, float]]:
    """Return (stage, points, seconds, peak bytes besides the data) for metrics on growing data with 100 classes."""
    found = []
    for n in (1_000, 4_000, 16_000) if quick else (5_000, 20_000, 80_000):
        logits, labels = peers.made(n, 100)
        probabilities = metric.softmax(logits).astype(np.float32)
        values = scores(logits, probabilities, labels)
        stages = {
            "ECE + ACE + MCE, k = 100": partial(three, probabilities, labels),
            "classwise ECE, k = 100": partial(metric.classwise_ece, probabilities, labels),
            "NLL, k = 100": partial(metric.nll, logits, labels),
            "bootstrap, 100 draws": lambda values=values: bootstrap_intervals(values, 100, rng()),
        }
        for stage, run in stages.items():
            (seconds,) = harness.turns(run, count=harness.QUICK_TURNS if quick else 5)
            found.append((f"{stage}, by points", float(n), statistics.median(seconds), float(peak(run))))
    return found


if __name__ == "__main__":
    harness.main(rows, __doc__, growth)
