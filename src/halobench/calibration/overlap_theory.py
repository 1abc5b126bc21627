"""Compute the KL that temperature scaling (TS) and other remedies leave on the overlap distribution.

The distribution has k classes in groups of m. Each class has its own region, and each group shares another. With
probability beta, a sample falls into a shared region, where every class of the group is equally likely (or has a given
share). Otherwise, the sample falls into the own region of one of the k classes, all equally likely. The posterior is
therefore one-hot on own regions. With equal shares, it is 1/m for each class of the group on shared regions, and its
mean entropy is beta log m.

All divergences are E KL(P(y | x) || model), in nats; the expected NLL is the divergence plus the posterior's mean
entropy. See docs/theory.md for derivations. Values out of range raise SpecError. The setting is that of arXiv
2306.00740, section 4; two-level logits (`two_level_kl`) are our own addition.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from halobench.core.errors import SpecError, require

STEPS = 200  # doublings and then halvings in the search for a temperature; enough for the last bit of a float64


def posterior_entropy(beta: float, group: int, shares: np.ndarray | None = None) -> float:
    """Return the mean entropy of the posterior in nats: beta times the entropy of the shares.

    For equal shares, the mean entropy is beta log m. No classifier has a lower expected NLL. `nearest_neighbour_kl`
    describes the parameters.
    """
    _check(beta, group)
    p = _shares(group, shares)
    return float(-beta * np.sum(p * np.log(p)))


def uniform_kl(classes: int, beta: float, group: int) -> float:
    """Return the KL of the uniform prediction 1/k for equal shares, which is log k - beta log m, in nats."""
    _check(beta, group, classes)
    return float(np.log(classes) - posterior_entropy(beta, group))


def nearest_neighbour_kl(classes: int, beta: float, group: int, shares: np.ndarray | None = None) -> float:
    """Return the KL of the one-hot nearest-neighbour interpolator at its best temperature, in nats.

    The interpolator assigns 1 - e to the label of the nearest training sample and e / (k - 1) to each other class. If
    each region contains a training sample and regions are well separated, the nearest sample's label is wrong with
    probability b = beta (1 - sum of squared shares). With equal shares, b = beta (m - 1) / m for every training set;
    otherwise, b is a mean over training sets. The best e is b, which gives

        KL = H(b) + b log(k - 1) - beta H(shares),   H(b) = -b log b - (1 - b) log(1 - b).

    This KL grows like b log k. With equal shares and one shared region for all classes (m = k), the last term grows
    just as fast, and the KL tends to H(beta).

    Parameters
    ----------
    classes : int
        Number of classes k, a multiple of `group`.
    beta : float
        Mass of the shared regions, in (0, 1).
    group : int
        Number of classes m that share a region, at least 2.
    shares : (m,) array, optional
        P(class | shared region); equal shares by default.

    Examples
    --------
    >>> [round(nearest_neighbour_kl(k, 0.5, 2), 3) for k in (2, 16, 128)]
    [0.216, 0.893, 1.427]
    """
    _check(beta, group, classes)
    p = _shares(group, shares)
    wrong = beta * (1 - np.sum(p**2))
    binary = -wrong * np.log(wrong) - (1 - wrong) * np.log1p(-wrong)
    return float(binary + wrong * np.log(classes - 1) - posterior_entropy(beta, group, shares))


def partner_kl(classes: int, beta: float, group: int, shares: np.ndarray | None = None) -> float:
    """Return the KL of the one-hot nearest-neighbour interpolator after the best map of its logits, in nats.

    One-hot logits reveal only the neighbour's label a, so the best map predicts P(y | a). The best map assigns the mass
    of errors to the m - 1 partners, the classes that share a region with class a. For equal shares, with H and b as in
    `nearest_neighbour_kl`,

        KL = H(b) + b log(m - 1) - beta log m,

    whereas temperature scaling leaves `nearest_neighbour_kl`, with k - 1 in place of m - 1. The KL after the best map
    thus doesn't depend on k, and the difference is b log((k - 1) / (m - 1)). Only different training can repair the
    remaining KL.

    Parameters and errors are those of `nearest_neighbour_kl`.

    Examples
    --------
    >>> [round(partner_kl(k, 0.5, 2), 3) for k in (2, 16, 128)]
    [0.216, 0.216, 0.216]
    """
    _check(beta, group, classes)
    p = _shares(group, shares)
    # P(y, a) for a group's classes: y = a on own regions; on the shared one, y and a are independent draws.
    joint = (1 - beta) * np.eye(len(p)) / len(p) + beta * np.outer(p, p)
    given_neighbour = joint / joint.sum(axis=1, keepdims=True)
    return float(-np.sum(joint * np.log(given_neighbour)) - posterior_entropy(beta, group, shares))


def two_level_kl(
    classes: np.ndarray | float,
    beta: np.ndarray | float,
    group: np.ndarray | float,
    own_gap: np.ndarray | float,
    top_gap: np.ndarray | float,
    partner_gap: np.ndarray | float,
) -> np.ndarray | float:
    """Return KL*, the KL in nats of a classifier with two-level logits at its best temperature.

    On a class's own region, the class's logit exceeds all other logits by g0. On a shared region, the logits of the
    group's top class and of its m - 1 partners are g1 and g2 above those of the other k - m classes. With t = 1/T,

        KL(t) = (1 - beta) log(1 + (k - 1) exp(-t g0))
                + beta [log(exp(t g1) + (m - 1) exp(t g2) + k - m) - t (g1 + (m - 1) g2) / m - log m]

    is convex, and KL* is its infimum over t >= 0. Only the ratios g0 : g1 : g2 matter. `nearest_neighbour_kl` with
    equal shares is the case g0 = g1 > 0, g2 = 0. If g0 > 0 and g1 = g2 > 0 (partners level with the top), KL* is 0,
    approached as T falls to 0.

    Parameters
    ----------
    classes, beta, group
        The number of classes k, a multiple of m; the mass of the shared regions, in (0, 1); and the number m of classes
        in a group, at least 2.
    own_gap, top_gap, partner_gap
        g0, g1 and g2, in logits; finite, with g1 >= g2. For m = k there are no other classes, and g1 and g2 only
        matter by their difference. All parameters can be arrays that broadcast against one another.

    Returns
    -------
    float or array
        In nats.

    Examples
    --------
    >>> round(two_level_kl(16, 0.5, 2, 1.0, 1.0, 0.0), 3), round(two_level_kl(16, 0.5, 2, 1.0, 1.0, 0.8), 3)
    (0.893, 0.116)
    """
    values = _broadcast(classes, beta, group, own_gap, top_gap, partner_gap)
    _check(beta, group, classes)
    for key, gap in zip(("own_gap", "top_gap", "partner_gap"), values[3:], strict=True):
        _require(np.isfinite(gap), key, gap, "a finite gap")
    _require(values[5] <= values[4], "partner_gap", values[5], "a gap of at most top_gap")
    best = _least(lambda t: _two_level_slope_at(t, values), values[0].shape)
    # The optimum may be at infinity. The search then stops at the largest t that it tried, where the KL is flat.
    least = np.maximum(_two_level_at(best, values), 0.0)
    return float(least) if least.ndim == 0 else least


def mixup_kl_bound(foreign: np.ndarray | float) -> np.ndarray | float:
    """Return -log(1 - eta), in nats, a bound for any k on the KL of the ideal Mixup predictor at a point of a region.

    The ideal predictor is the expected mixed target at each point. `foreign` is eta, in [0, 1): the expected weight of
    training samples from other regions in a mixture that lands on the point. Labels of the region's own samples are
    drawn from its posterior p, independently of their position. The expected target is therefore (1 - eta) p plus a
    nonnegative rest, and KL(p || (1 - eta) p + rest) <= -log(1 - eta). The largest eta in a region yields a bound for
    the whole region. The mean eta over the mixtures in a region yields a bound only for the best prediction that is
    constant there. The mean KL of predictions that vary there may exceed this bound.

    Examples
    --------
    >>> round(mixup_kl_bound(0.05), 4)
    0.0513
    """
    eta = np.asarray(foreign, dtype=float)
    _require((eta >= 0) & (eta < 1), "foreign", eta, "a weight in [0, 1)")
    bound = -np.log1p(-eta)
    return float(bound) if bound.ndim == 0 else bound


# --- The two-level optimum -------------------------------------------------------------------------------------------


def _two_level_at(t: np.ndarray, values: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return KL(t); terms that grow with t are subtracted before taking logarithms, so large t costs no precision."""
    k, beta, m, own_gap, top, partner = values
    certain = np.logaddexp(0.0, np.log(k - 1) - t * own_gap)
    mean = t * (top + (m - 1) * partner) / m
    logits = _shared_logits(t, k, m, top, partner)
    return (1 - beta) * certain + beta * (np.logaddexp.reduce(logits - mean) - np.log(m))


def _two_level_slope_at(t: np.ndarray, values: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the derivative dKL/dt."""
    k, beta, m, own_gap, top, partner = values
    log_odds = np.log(k - 1) - t * own_gap
    missing = np.exp(log_odds - np.logaddexp(0.0, log_odds))
    logits = _shared_logits(t, k, m, top, partner)
    of_top, of_partners, _ = np.exp(logits - np.logaddexp.reduce(logits))
    expected = top * of_top + partner * of_partners
    return -(1 - beta) * own_gap * missing + beta * (expected - (top + (m - 1) * partner) / m)


def _shared_logits(t: np.ndarray, k: np.ndarray, m: np.ndarray, top: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """Return the logs of the unnormalised masses of the top class, of all its partners, and of all other classes."""
    with np.errstate(divide="ignore"):  # log 0 = -inf if m = k, because there are no other classes
        return np.stack([t * top, t * partner + np.log(m - 1), np.log(k - m) + np.zeros_like(t)])


def _least(slope: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return, for each of several convex functions, the t >= 0 that minimises it, by bisection on its slope's sign.

    If a function keeps decreasing, return a large t.
    """
    low, high = np.zeros(shape), np.ones(shape)
    for _ in range(64):
        falling = slope(high) < 0
        low, high = np.where(falling, high, low), np.where(falling, 2 * high, high)
    for _ in range(STEPS):
        middle = (low + high) / 2
        falling = slope(middle) < 0
        low, high = np.where(falling, middle, low), np.where(falling, high, middle)
    return low


# --- Checks ----------------------------------------------------------------------------------------------------------


def _broadcast(*values: np.ndarray | float) -> tuple[np.ndarray, ...]:
    """Broadcast values to float64 arrays of the same shape."""
    return tuple(np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in values)))


def _require(fine: np.ndarray, key: str, values: np.ndarray, expected: str) -> None:
    """Raise SpecError for the first value that isn't `fine`."""
    if not np.all(fine):
        raise SpecError(key, float(np.broadcast_to(values, np.shape(fine))[~np.asarray(fine)].flat[0]), expected)


def _check(beta: np.ndarray | float, group: np.ndarray | float, classes: np.ndarray | float | None = None) -> None:
    beta, group = _broadcast(beta, group)
    _require((beta > 0) & (beta < 1), "beta", beta, "a probability mass in (0, 1)")
    _require((group >= 2) & (group == np.floor(group)), "group", group, "a whole number of at least 2")
    if classes is not None:
        classes, group = _broadcast(classes, group)
        _require((classes >= group) & (classes % group == 0), "classes", classes, "a multiple of group")


def _shares(group: int, shares: np.ndarray | None) -> np.ndarray:
    """Check and return P(class | shared region), (m,); shares are equal if `shares` is None."""
    if shares is None:
        return np.full(int(group), 1 / group)
    checked = np.asarray(shares, dtype=float)
    fine = checked.shape == (int(group),) and (checked > 0).all() and abs(checked.sum() - 1) < 1e-9
    require(fine, "shares", np.asarray(shares).tolist(), f"{int(group)} shares above 0 that add up to 1")
    return checked
