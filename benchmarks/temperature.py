"""Compare exact temperature scaling with scikit-learn's and probmetrics': `python benchmarks/temperature.py [--quick]`.

The fits are to float32 logits (n, k). For scikit-learn, they are converted to float64 before the clock starts, since
its search stops early in float32. A row's note says how far above the minimum NLL, in nats, each of the three ends.
"""

from __future__ import annotations

import statistics
import tracemalloc
from collections.abc import Iterator
from functools import partial

import harness

harness.one_thread()

import numpy as np  # noqa: E402
import peers_calibration as peers  # noqa: E402
from harness import Row  # noqa: E402

from halobench.calibration.calibrators.exact import fit_temperature  # noqa: E402

SIZES = ((10_000, 10), (10_000, 100), (50_000, 1000))
QUICK = ((2_000, 10), (2_000, 100), (4_000, 1000))
GAP = 1e-12
"""The most by which the NLL at our optimum may exceed the minimum, in nats."""


def rows(quick: bool) -> Iterator[Row]:
    """Yield rows for the time, the NLL gap and the memory at each size."""
    for n, k in QUICK if quick else SIZES:
        logits, labels = peers.made(n, k)
        yield from measured(logits, labels, harness.QUICK_TURNS if quick else 15 if n * k < 10**7 else 5)


def measured(logits: np.ndarray, labels: np.ndarray, count: int) -> Iterator[Row]:
    """Yield the rows of one size."""
    n, k = logits.shape
    what = f"exact TS, ({n}, {k})"
    double, torch_peer = logits.astype(np.float64), peers.Probmetrics(logits, labels)
    fits = {
        "ours": lambda: fit_temperature(logits, labels).beta,
        "scikit-learn (float64)": lambda: peers.sklearn_beta(double, labels),
        "probmetrics (bisection, float32)": torch_peer.beta,
    }
    betas = {name: fit() for name, fit in fits.items()}
    for name, beta in betas.items():
        peers.agree(f"{what}: beta by {name}", betas["ours"], beta, 1e-4)
    least = peers.least_nll(logits, labels, betas["ours"])
    gaps = {name: peers.mean_nll(logits, labels, beta) - least for name, beta in betas.items()}
    told = fit_temperature(logits, labels).nll - least  # according to the fit itself
    if not max(abs(gaps["ours"]), abs(told)) <= GAP:
        raise SystemExit(f"{what}: our NLL lies {gaps['ours']:.2g} above the least, and we tell {told:.2g}")

    seconds = harness.turns(*fits.values(), count=count)
    median = {name: statistics.median(taken) for name, taken in zip(fits, seconds, strict=True)}
    faster = min(list(fits)[1:], key=median.get)
    told = "; ".join(f"{name} {1e3 * median[name]:.3g} ms, NLL gap {gaps[name]:.1g}" for name in fits)
    yield Row(what, faster, harness.over(seconds[0], seconds[list(fits).index(faster)]), most=0.5, note=told)
    yield Row(f"{what}, NLL gap", f"{GAP:g} nats", [abs(gaps["ours"]) / GAP], most=1.0)
    taken = peak(lambda: fit_temperature(logits, labels))
    told = f"{taken / 2**20:.3g} MiB in addition to logits of {logits.nbytes / 2**20:.3g} MiB"
    small = logits.nbytes < 2**21  # below this size, the work space doesn't shrink with the logits
    note = f"{told}{': blocks of work space are no smaller than 0.4 MiB' if small else ''}"
    ratio = (logits.nbytes + taken) / logits.nbytes
    yield Row(f"{what}, peak memory", "the logits", [ratio], most=1.2, note=note)


def peak(function) -> int:
    """Return the bytes that a call takes at its peak, beyond what was in use before it."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def growth(quick: bool) -> list[tuple[str, float, float, float]]:
    """Return (stage, points, seconds, peak bytes besides the data) for fits to growing data with 100 classes."""
    found = []
    for n in (1_000, 4_000, 16_000) if quick else (5_000, 20_000, 80_000):
        logits, labels = peers.made(n, 100)
        (seconds,) = harness.turns(partial(fit_temperature, logits, labels), count=harness.QUICK_TURNS if quick else 5)
        taken = peak(partial(fit_temperature, logits, labels))
        found.append(("exact TS, k = 100, by points", float(n), statistics.median(seconds), float(taken)))
    return found


if __name__ == "__main__":
    harness.main(rows, __doc__, growth)
