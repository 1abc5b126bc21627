"""Fit temperature scaling (TS) as the code released with arXiv 2306.00740 does; such a fit may miss the optimum."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from halobench.calibration.arrays import check_logits, check_targets, check_unscaled
from halobench.calibration.calibrator import Calibrator
from halobench.calibration.calibrators.exact import TemperatureFit, scaling
from halobench.calibration.temperature.nll_curve import Curve, derivatives

TITLE = "TS (paper's code)"
ABOUT = "temperature scaling fitted by the paper's published code, which may stop short of the optimum"
SOURCE = (
    "the code released with arXiv 2306.00740: [2014mchidamb/temp-scaling-limitations, commit f851f05,"
    " models/temperature_scaled_model.py, line 29](https://github.com/2014mchidamb/temp-scaling-limitations/blob/"
    "f851f05789339102b2300cd0e1b5b220ccc95e96/models/temperature_scaled_model.py#L29)"
)
ORDER = 1
STYLE = ("#E69F00", "s", (0, (4, 1.5)))
MASKED = True
VOTES = True


def fit(logits: np.ndarray, targets: np.ndarray) -> Calibrator:
    """Return the calibrator that divides logits by the temperature at which the paper's code stops, even below 0."""
    return scaling(fit_as_paper(logits, targets))


def fit_paper(logits: np.ndarray, targets: np.ndarray) -> TemperatureFit:
    """Return the temperature at which the paper's released code stops, which may be far from the optimum.

    The paper's code runs one step of torch's LBFGS on T from T = 1, with learning rate 0.01, 20 iterations, no line
    search, history 100 and tolerances 1e-7 (gradient) and 1e-9 (change). For a single parameter, the two-loop recursion
    reduces to the secant step through the latest accepted pair, which is computed here in float64. T moves by about 1%
    of a secant step per iteration. With a few hundred samples or more and an optimum anywhere above about 0.7, T ends
    between 0.88 and 1.11. With a lower optimum, as for an underconfident model, T mostly ends between 0.6 and 1. T can
    then end far below 0, since secant steps are huge if the NLL as a function of T has its inflection point near T = 1.
    The NLL may be so flat at such a T that `converged` is True. `studies/paper_fit` measures where T ends.

    Parameters
    ----------
    logits : (n, k) array
    targets : (n,) integers or (n, k) array
        As for `fit_temperature`.

    Returns
    -------
    TemperatureFit
        The optimiser's final T. T may be negative, and dividing by a negative T reverses the ranking of classes. As in
        the paper's code, T is NaN if a logit is -inf, because the gradient is NaN. `separable` describes the data, as
        in the exact fit. Invalid logits and targets raise the same errors as in `fit_temperature`.
    """
    logits = check_logits(logits, masked=True)
    check_unscaled(logits)
    return fit_as_paper(logits, check_targets(targets, logits.shape))


def fit_as_paper(logits: np.ndarray, targets: np.ndarray, start: float = 1.0, iterations: int = 20) -> TemperatureFit:
    """Fit the temperature as `fit_paper` does, to arrays that have already been checked.

    Another `start` and number of `iterations` reproduce other programs that use the same optimiser and learning rate.
    """
    curve = Curve.of(logits, targets)
    if curve.masked:
        return TemperatureFit(math.nan, math.nan, math.nan, math.nan, False, curve.separable)
    linear = curve.summary.linear

    def loss_and_slope(T: float) -> tuple[float, float]:
        at = derivatives(logits, curve.weights, linear, 1 / T)
        return at.nll, -at.slope / T  # d NLL / d T, derived from the slope with respect to a relative step of 1 / T

    T = _lbfgs(loss_and_slope, start, max_iter=iterations)
    at = derivatives(logits, curve.weights, linear, 1 / T)
    return TemperatureFit(T, 1 / T, at.nll, at.slope * T, abs(at.slope / T) <= 1e-7, curve.separable)


def _lbfgs(
    loss_and_slope: Callable[[float], tuple[float, float]], x: float, lr: float = 0.01, max_iter: int = 20
) -> float:
    """Return `x` after one ``torch.optim.LBFGS.step``, without line search and with torch's default tolerances."""
    loss, slope = loss_and_slope(x)
    if abs(slope) <= 1e-7:
        return x
    inverse_curvature = 1.0
    direction, rate, slope_before = -slope, min(1.0, 1 / abs(slope)) * lr, slope
    for iteration in range(1, max_iter + 1):
        if iteration > 1:
            change, step = slope - slope_before, direction * rate
            if change * step > 1e-10:  # a pair with less curvature is not stored
                inverse_curvature = step / change
            direction, rate, slope_before = -inverse_curvature * slope, lr, slope
        if slope * direction > -1e-9:
            break
        x += rate * direction
        if iteration == max_iter:
            break
        loss_before = loss
        loss, slope = loss_and_slope(x)
        if abs(slope) <= 1e-7 or abs(rate * direction) <= 1e-9 or abs(loss - loss_before) < 1e-9:
            break
    return x
