"""Minimise a convex sum plus a ridge in a few numbers by Newton's method, with a certificate. Only numpy is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

RIDGE = 0.3
"""Strength of the ridge, against a sum over samples, so that it fades as samples grow.

On cells with overlap or label noise .1 is better by .003 nats on average, and 1 worse by as much; where classes are
nearly separate, and a map fitted to some ten errors can only do harm, it is the other way round by some more."""

STEPS, HALVINGS = 100, 60

Objective = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]
"""Takes weights (d,); returns a convex sum over samples, its gradient (d,) and its Hessian (d, d)."""


class Optimum(NamedTuple):
    """The weights found, the value there, the loss (the value without its ridge), and the norm of the value's gradient.

    That is the gradient in weights times units, in which the value is strongly convex with constant `RIDGE`. So it lies
    above the least one by at most gradient^2 / (2 RIDGE): a proof that needs no trust in how the weights were found.
    """

    weights: np.ndarray
    value: float
    loss: float
    gradient: float

    @property
    def excess(self) -> float:
        """By how much the value lies above the least one at most, rounding aside."""
        return self.gradient**2 / (2 * RIDGE)


def minimise(
    objective: Objective,
    centre: np.ndarray,
    units: np.ndarray | float = 1.0,
    start: np.ndarray | None = None,
    tolerance: float = 1e-14,
) -> Optimum:
    """Minimise objective(w) + RIDGE / 2 |units (w - centre)|^2 by Newton's method with backtracking.

    The optimum exists and is unique whatever the data, separable ones included; its value is at most objective(centre).

    Parameters
    ----------
    objective : callable
    centre : (d,) array
    units : (d,) array, optional
        Positive: how much a weight of 1 moves scores, say the root mean square of what it multiplies.
    start : (d,) array, optional
        The weights to begin with, by default `centre`.
    tolerance : float
        What Newton's step promises to gain when the search ends, relative to the value if that is above 1.
    """

    ridge = RIDGE * np.broadcast_to(units, centre.shape) ** 2

    def penalised(weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        value, gradient, hessian = objective(weights)
        away = weights - centre
        return value + float(ridge @ away**2) / 2, gradient + ridge * away, hessian + np.diag(ridge)

    weights = centre if start is None else start
    value, gradient, hessian = penalised(weights)
    for _ in range(STEPS):
        step = np.linalg.solve(hessian, gradient)
        decrement = float(gradient @ step)
        if decrement <= tolerance * max(1.0, abs(value)):
            break
        length = 1.0
        for _ in range(HALVINGS):
            proposal = weights - length * step
            proposed = penalised(proposal)
            if proposed[0] <= value - length * decrement / 4:
                break
            length /= 2
        else:  # rounding hides what is left to gain
            break
        weights, (value, gradient, hessian) = proposal, proposed
    loss = value - float(ridge @ (weights - centre) ** 2) / 2
    return Optimum(weights, value, loss, float(np.linalg.norm(gradient / units)))
