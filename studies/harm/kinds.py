"""Kinds of validation data on which advice about calibration can do harm, for `measure.py`.

The kinds were written by someone who hadn't seen the code that is judged on them. `KINDS` maps a name to a `Kind`,
whose `draw(rng)` makes a fresh problem from that generator alone. Test targets are labels (n,), or rows (n, k) with
P(label | all that the generator knows and that is independent of the validation set). `unnoticeable` marks kinds whose
validation data alone can't show the harm: a shift, a selection, or hidden groups.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter
from scipy.special import expit, log_softmax, softmax

NTEST = 20000


class Draw(NamedTuple):
    logits: np.ndarray  # (n,k) float64
    labels: np.ndarray  # (n,) int
    test_logits: np.ndarray  # (NTEST,k) float64
    test_targets: np.ndarray  # (NTEST,) int labels or (NTEST,k) posterior
    groups: np.ndarray | None = None


class Kind(NamedTuple):
    draw: Callable[[np.random.Generator], Draw]
    unnoticeable: bool
    note: str = ""


KINDS = {}


def add(name, note, draw, unnoticeable=False):
    assert name not in KINDS, name
    KINDS[name] = Kind(draw, unnoticeable, note)


# ---------------------------------------------------------------- building blocks
def pick(rng, p):
    """One label a row from probability rows p."""
    c = np.cumsum(p, axis=1)
    u = rng.random(len(p))[:, None] * c[:, -1:]
    return (u >= c).sum(1).clip(0, p.shape[1] - 1).astype(int)


class Lda:
    """Gaussian classes with unit covariance; z() gives exact log posteriors up to a row constant."""

    def __init__(self, rng, k, d, sep, prior=None, mu=None):
        self.k, self.d = k, d
        self.mu = rng.normal(size=(k, d)) * sep if mu is None else mu
        self.prior = rng.dirichlet(np.full(k, 20.0)) if prior is None else np.asarray(prior, float)

    def z(self, x):
        z = x @ self.mu.T
        z += np.log(self.prior) - 0.5 * (self.mu**2).sum(1)
        return z - z.mean(1, keepdims=True)

    def ys(self, rng, m, prior=None):
        return rng.choice(self.k, size=m, p=self.prior if prior is None else prior)

    def xs(self, rng, y, noise=1.0):
        return self.mu[y] + noise * rng.normal(size=(len(y), self.d))

    def sample(self, rng, m, prior=None):
        y = self.ys(rng, m, prior)
        return self.z(self.xs(rng, y)), y


def two_pt(sep):
    """Binary means apart by sep."""
    return np.array([[-sep / 2, 0.0], [sep / 2, 0.0]])


def prior_one(k, big):
    p = np.full(k, (1 - big) / (k - 1))
    p[0] = big
    return p


def simple(n, k, d, sep, report=None, prior=None, mu=None, sort=False):
    """report(rng) -> deterministic function of the true z giving what the user's model says."""

    def draw(rng):
        pr = prior(rng) if callable(prior) else prior
        m = mu(rng) if callable(mu) else mu
        prob = Lda(rng, k, d, sep, pr, m)
        f = report(rng) if report else (lambda z: z)
        zv, y = prob.sample(rng, n)
        zt, _ = prob.sample(rng, NTEST)
        if sort:
            o = np.argsort(y, kind="stable")
            zv, y = zv[o], y[o]
        return Draw(f(zv), y, f(zt), softmax(zt, axis=1))

    return draw


def temp(lo, hi):
    """Logits too large by a factor between lo and hi (log-uniform); below 1 is underconfident."""

    def report(rng):
        a = np.exp(rng.uniform(np.log(lo), np.log(hi)))
        return lambda z: a * z

    return report


# ---------------------------------------------------------------- exactly calibrated
add("exact_k2_n20", "exactly calibrated, binary, 20 rows", simple(20, 2, 4, 0.7))
add("exact_k3_n50", "exactly calibrated, 3 classes", simple(50, 3, 4, 0.9))
add("exact_k10_n100", "exactly calibrated, 10 classes", simple(100, 10, 8, 1.0))
add("exact_k10_n1000", "exactly calibrated, 10 classes, plenty of rows", simple(1000, 10, 8, 1.0))
add("exact_k100_n500", "exactly calibrated, 100 classes, 5 rows a class", simple(500, 100, 30, 0.8))
add("exact_k200_n2000", "exactly calibrated, 200 classes", simple(2000, 200, 40, 0.7))
add(
    "exact_sorted_k6_n300",
    "exactly calibrated, rows sorted by class as folders are read",
    simple(300, 6, 6, 0.9, sort=True),
)


def heavy(n, k, df, scale, over=1.0):
    def draw(rng):
        b = rng.normal(size=k) * 0.5

        def mk(m):
            return scale * rng.standard_t(df, size=(m, k)) + b

        zv, zt = mk(n), mk(NTEST)
        return Draw(over * zv, pick(rng, softmax(zv, axis=1)), over * zt, softmax(zt, axis=1))

    return draw


add("exact_heavy_k5_n200", "exactly calibrated, logits student-t(1.5): some enormous", heavy(200, 5, 1.5, 1.5))
add("over_heavy_k8_n100", "heavy tails (t, 2 df) and overconfident by 1.5", heavy(100, 8, 2.0, 1.2, 1.5))

# ---------------------------------------------------------------- one temperature
add("slight_over_k10_n300", "too large by 3 to 12 percent", simple(300, 10, 8, 1.0, temp(1.03, 1.12)))
add("slight_under_k4_n500", "too small by 3 to 12 percent", simple(500, 4, 5, 0.9, temp(0.89, 0.97)))
add("slight_over_k100_n1000", "100 classes, too large by 3 to 12 percent", simple(1000, 100, 30, 0.8, temp(1.03, 1.12)))
add("over_k10_n1000", "overconfident net, T 1.5 to 5", simple(1000, 10, 8, 1.0, temp(1.5, 5)))
add("over_k3_n50", "overconfident net, T 1.5 to 5, 50 rows", simple(50, 3, 4, 0.9, temp(1.5, 5)))
add("over_k100_n1000", "overconfident net, 100 classes", simple(1000, 100, 30, 0.8, temp(1.5, 4)))
add("over_k200_n500", "overconfident net, 200 classes, 2.5 rows a class", simple(500, 200, 40, 0.7, temp(1.5, 4)))
add("under_k10_n500", "underconfident (label smoothing, mixup), T 0.4 to 0.7", simple(500, 10, 8, 1.0, temp(0.4, 0.7)))
add("under_k2_n100", "underconfident binary", simple(100, 2, 4, 0.8, temp(0.3, 0.7)))
add("few_n20_k10", "20 rows, 10 classes, T 1.2 to 3", simple(20, 10, 8, 0.9, temp(1.2, 3)))
add("few_n30_k50_exact", "30 rows, 50 classes, exactly calibrated", simple(30, 50, 20, 0.8))
add("few_n50_k100", "50 rows, 100 classes, T 1.2 to 2", simple(50, 100, 30, 0.8, temp(1.2, 2)))
add("few_n60_k2", "60 rows, binary, T 0.8 to 1.6", simple(60, 2, 4, 0.7, temp(0.8, 1.6)))


# ---------------------------------------------------------------- few errors
def simplex_mu(k, dist):
    return lambda rng: np.eye(k) * dist / np.sqrt(2)


add(
    "acc99_exact_k10_n500",
    "accuracy 99+%, exactly calibrated, a handful of errors",
    simple(500, 10, 10, 0, mu=simplex_mu(10, 6.3)),
)
add(
    "acc99_over_k5_n200",
    "accuracy 99+%, overconfident by 1.5 to 4, 0 to 3 errors seen",
    simple(200, 5, 5, 0, temp(1.5, 4), mu=simplex_mu(5, 5.8)),
)
add(
    "acc999_exact_k4_n100",
    "accuracy 99.9%, exactly calibrated: mostly no error seen at all",
    simple(100, 4, 4, 0, mu=simplex_mu(4, 7.2)),
)


def separable(n, tight):
    """Validation is free of errors by rejection; in truth 0.6% of rows are errors."""

    def draw(rng):
        prob = Lda(rng, 2, 2, 0, [0.5, 0.5], two_pt(5.0))
        for _ in range(500):
            zv, y = prob.sample(rng, n)
            if (zv.argmax(1) == y).all():
                break
        zt, _ = prob.sample(rng, NTEST)
        a = tight(rng)
        return Draw(a * zv, y, a * zt, softmax(zt, axis=1))

    return draw


add(
    "separable_k2_n50",
    "no error among 50 (a set that happened to be so), logits right: T would run to 0",
    separable(50, lambda r: 1.0),
)
add(
    "separable_under_k2_n30",
    "no error among 30, logits 2 to 3 times too small",
    separable(30, lambda r: 1 / r.uniform(2, 3)),
)


def blunders(n, k, rate, margin):
    def draw(rng):
        prob = Lda(rng, k, 6, 1.3)

        def mk(m):
            z, y = prob.sample(rng, m)
            bad = rng.random(m) < rate
            q = softmax(z, axis=1)
            r = z.copy()
            w = rng.integers(k, size=m)
            r[bad, w[bad]] = z[bad].max(1) + margin
            return r, y, q

        rv, y, _ = mk(n)
        rt, _, q = mk(NTEST)
        return Draw(rv, y, rt, q)

    return draw


add(
    "rare_blunders_k5_n200",
    "calibrated, but 0.4% of rows wildly confident (margin 30) in a random class",
    blunders(200, 5, 0.004, 30.0),
)
add("rare_blunders_k5_n1000", "the same with 1,000 rows", blunders(1000, 5, 0.004, 30.0))


# ---------------------------------------------------------------- label noise
def label_noise(n, k, C_of, val_only=False, over=1.0, d=5, sep=1.2):
    def draw(rng):
        prob = Lda(rng, k, d, sep)
        C = C_of(rng, k)
        zv, y = prob.sample(rng, n)
        zt, _ = prob.sample(rng, NTEST)
        y = pick(rng, C[y])
        q = softmax(zt, axis=1)
        return Draw(over * zv, y, over * zt, q if val_only else q @ C)

    return draw


def sym(e):
    return lambda rng, k: (1 - e) * np.eye(k) + e / k


def asym(e):
    def C_of(rng, k):
        C = np.eye(k)
        a, b = rng.choice(k, 2, replace=False)
        C[a, a], C[a, b] = 1 - e, e
        return C

    return C_of


add("noise_sym_k5_n300", "10% of labels random, in validation and test", label_noise(300, 5, sym(0.10)))
add("noise_sym_k20_n1000", "5% of labels random, 20 classes", label_noise(1000, 20, sym(0.05), d=12, sep=1.1))
add("noise_asym_k4_n500", "30% of one class labelled as another, in both", label_noise(500, 4, asym(0.3)))
add(
    "noise_val_only_k5_n200",
    "8% of validation labels random, test labels clean",
    label_noise(200, 5, sym(0.08), val_only=True),
    unnoticeable=True,
)

# ---------------------------------------------------------------- imbalance
add("imb90_k2_n200", "one class at 90%, exactly calibrated", simple(200, 2, 2, 0, prior=[0.9, 0.1], mu=two_pt(2.2)))
add(
    "imb99_k2_n1000",
    "one class at 99%, exactly calibrated: 10 positives",
    simple(1000, 2, 2, 0, prior=[0.99, 0.01], mu=two_pt(2.5)),
)
add(
    "imb999_k2_n2000",
    "one class at 99.9%, logits 1.3 times too large: 0 to 5 positives",
    simple(2000, 2, 2, 0, temp(1.2, 1.4), prior=[0.999, 0.001], mu=two_pt(3.0)),
)
add(
    "imb99_k2_n50",
    "one class at 99%, 50 rows: mostly no positive",
    simple(50, 2, 2, 0, prior=[0.99, 0.01], mu=two_pt(2.5)),
)
add(
    "imb95_k8_n300",
    "one class at 95%, seven share the rest, exactly calibrated",
    simple(300, 8, 6, 1.0, prior=prior_one(8, 0.95)),
)
add(
    "longtail_k50_n500",
    "prior falls as 1/rank over 50 classes, T 1.0 to 1.6",
    simple(500, 50, 20, 0.8, temp(1.0, 1.6), prior=lambda r: (1 / np.arange(1, 51)) / (1 / np.arange(1, 51)).sum()),
)


def reweighted(n, k, big):
    """Trained with class weights: the model believes a uniform prior; val and test are imbalanced."""

    def draw(rng):
        prob = Lda(rng, k, 5, 0.9, prior_one(k, big))
        zv, y = prob.sample(rng, n)
        zt, _ = prob.sample(rng, NTEST)
        b = np.log(prob.prior)
        return Draw(zv - b, y, zt - b, softmax(zt, axis=1))

    return draw


add(
    "classweights_k4_n200",
    "trained with balanced class weights, validation and test 85% one class",
    reweighted(200, 4, 0.85),
)


def unseen(n, k, rare, over):
    def draw(rng):
        p = rng.dirichlet(np.full(k, 20.0)) * (1 - rare)
        p[-1] = 0
        p = p / p.sum() * (1 - rare)
        p[-1] = rare
        prob = Lda(rng, k, 6, 1.1, p)
        keep = p.copy()
        keep[-1] = 0
        keep /= keep.sum()
        zv, y = prob.sample(rng, n, keep)  # a draw conditioned on no rare label
        zt, _ = prob.sample(rng, NTEST)
        a = over(rng)
        return Draw(a * zv, y, a * zt, softmax(zt, axis=1))

    return draw


add(
    "unseen_class_k5_n200",
    "a class at 1% that validation happens not to hold, logits exact",
    unseen(200, 5, 0.01, lambda r: 1.0),
)
add(
    "unseen_class_over_k10_n100",
    "a class at 2% not in validation, T 1.3 to 2.5",
    unseen(100, 10, 0.02, lambda r: r.uniform(1.3, 2.5)),
)


# ---------------------------------------------------------------- class structure
def hier(n, supers, subs, within, d=20, sep=1.0, subsep=0.45):
    """Superclass scores right, scores within the superclass too large by `within`."""

    def draw(rng):
        k = supers * subs
        mu = np.repeat(rng.normal(size=(supers, d)) * sep, subs, axis=0) + rng.normal(size=(k, d)) * subsep
        prob = Lda(rng, k, d, 0, None, mu)

        def rep(z):
            lp = log_softmax(z, axis=1).reshape(len(z), supers, subs)
            s = np.logaddexp.reduce(lp, axis=2, keepdims=True)
            w = within * (lp - s)
            w -= np.logaddexp.reduce(w, axis=2, keepdims=True)
            return (s + w).reshape(len(z), k)

        zv, y = prob.sample(rng, n)
        zt, _ = prob.sample(rng, NTEST)
        return Draw(rep(zv), y, rep(zt), softmax(zt, axis=1))

    return draw


add("hier_k20_n500", "5 superclasses of 4: overconfident (x3) within the superclass only", hier(500, 5, 4, 3.0))
add("hier_k100_n2000", "20 superclasses of 5: overconfident (x2.5) within only", hier(2000, 20, 5, 2.5))


def ordinal(n, k, over):
    """Ordered-logit truth; the net says a * log posterior. Errors fall on the neighbours."""

    def draw(rng):
        cuts = np.linspace(-3, 3, k - 1)

        def lp(m):
            u = 2.2 * rng.normal(size=(m, 1))
            F = np.concatenate([np.zeros((m, 1)), expit(1.7 * (cuts - u)), np.ones((m, 1))], 1)
            return np.log(np.maximum(np.diff(F, axis=1), 1e-9))

        zv, zt = lp(n), lp(NTEST)
        a = over(rng)
        return Draw(a * zv, pick(rng, softmax(zv, axis=1)), a * zt, softmax(zt, axis=1))

    return draw


add("ordinal_exact_k5_n100", "grades 1 to 5, neighbours confused, exactly calibrated", ordinal(100, 5, lambda r: 1.0))
add(
    "ordinal_over_k7_n500",
    "grades 1 to 7, neighbours confused, overconfident",
    ordinal(500, 7, lambda r: r.uniform(1.3, 2.5)),
)


def pairs(n, k, frac):
    """A share of one class is confidently given to another: whole sub-type missed in training."""

    def draw(rng):
        mu = np.eye(k) * 4.2
        prob = Lda(rng, k, k, 0, np.full(k, 1 / k), mu)
        a, b = rng.choice(k, 2, replace=False)

        def mk(m):
            y0 = prob.ys(rng, m)
            z = prob.z(prob.xs(rng, y0))
            C = np.eye(k)
            C[b, b], C[b, a] = 1 - frac, frac  # what looks like b is an a with share frac
            return z, pick(rng, C[y0]), softmax(z, axis=1) @ C

        zv, y, _ = mk(n)
        zt, _, q = mk(NTEST)
        return Draw(zv, y, zt, q)

    return draw


add("confusion_pair_k6_n300", "what looks like b is an a in 35%, all else exact", pairs(300, 6, 0.35))
add("confusion_pair_k30_n500", "the same among 30 classes: 6 rows show it", pairs(500, 30, 0.35))


def classwise(n, k):
    def report(rng):
        a = rng.uniform(0.6, 1.8, size=k)
        b = rng.normal(size=k) * 0.7
        return lambda z: z * a + b

    return simple(n, k, 7, 0.9, report)


add("classwise_k5_n1000", "each class its own scale and bias", classwise(1000, 5))
add("classwise_k12_n100", "each class its own scale and bias, 8 rows a class", classwise(100, 12))


def matrixed(n, k, s):
    def report(rng):
        W = np.eye(k) + s * rng.normal(size=(k, k)) / np.sqrt(k)
        return lambda z: 1.4 * z @ W.T

    return simple(n, k, k, 0.9, report)


add("matrix_k6_n2000", "logits mixed by a full matrix (a richer map truly pays)", matrixed(2000, 6, 0.5))
add("matrix_k10_n200", "logits mixed by a full matrix, too few rows to learn it", matrixed(200, 10, 0.5))


# ---------------------------------------------------------------- mixtures
def subpop(n, k, share, t1, t2, d=6, sep=1.0):
    def draw(rng):
        prob = Lda(rng, k, d, sep)

        def mk(m):
            z, y = prob.sample(rng, m)
            a = np.where(rng.random(m) < share, t1, t2)[:, None]
            return a * z, y, softmax(z, axis=1)

        rv, y, _ = mk(n)
        rt, _, q = mk(NTEST)
        return Draw(rv, y, rt, q)

    return draw


add("subpop_k5_n300", "80% exact, 20% overconfident by 4", subpop(300, 5, 0.8, 1.0, 4.0))
add("subpop_k10_n1000", "half underconfident (0.5), half overconfident (2.5)", subpop(1000, 10, 0.5, 0.5, 2.5))
add("subpop_rare_k4_n100", "97% exact, 3% overconfident by 10: 3 rows show it", subpop(100, 4, 0.97, 1.0, 10.0))


def multimodal(n, k):
    """10% out-of-domain rows get a confident label at random; 10% are left dull though clear; 80% exact."""

    def draw(rng):
        prob = Lda(rng, k, 7, 1.3)

        def mk(m):
            y = prob.ys(rng, m)
            z = prob.z(prob.xs(rng, y))
            q = softmax(z, axis=1)
            r = z.copy()
            t = rng.random(m)
            ood, dull = t < 0.1, (t >= 0.1) & (t < 0.2)
            zz, _ = prob.sample(rng, m)
            r[ood] = zz[ood]
            q[ood] = prob.prior
            y = np.where(ood, prob.ys(rng, m), y)
            r[dull] *= 0.15
            return r, y, q

        rv, y, _ = mk(n)
        rt, _, q = mk(NTEST)
        return Draw(rv, y, rt, q)

    return draw


add("multimodal_k8_n500", "10% out of domain and confident, 10% dull, 80% exact", multimodal(500, 8))


def nonmonotone(n, k):
    """Too sharp where confident, too flat where not: no temperature mends both."""

    def report(rng):
        def f(z):
            m = z.max(1, keepdims=True) - np.partition(z, -2, axis=1)[:, -2:-1]
            return z * (0.5 + 1.8 * m / (m + 3))

        return f

    return simple(n, k, 6, 1.0, report)


add("sharp_top_flat_low_k6_n500", "overconfident at wide margins, underconfident at narrow ones", nonmonotone(500, 6))


# ---------------------------------------------------------------- number formats
def via(n, k, d, sep, g, a=1.0):
    return simple(n, k, d, sep, lambda rng: lambda z: g(a * z))


def round_probs(dec, floor):
    def g(z):
        return np.log(np.maximum(np.round(softmax(z, axis=1), dec), floor))

    return g


def f32_softmax(z):
    p = softmax(z.astype(np.float32), axis=1)
    return np.log(np.maximum(p, np.float32(1e-38))).astype(np.float64)


add(
    "float16_k10_n300",
    "exact logits stored in float16",
    via(300, 10, 8, 1.0, lambda z: z.astype(np.float16).astype(np.float64)),
)
add("rounded_int_k5_n200", "exact logits rounded to whole numbers", via(200, 5, 5, 1.0, np.round))
add(
    "probs_2dec_floor_k4_n300",
    "probabilities rounded to 2 decimals, then log with floor 1e-12",
    via(300, 4, 5, 1.3, round_probs(2, 1e-12)),
)
add(
    "probs_3dec_floor_k10_n50",
    "probabilities rounded to 3 decimals, then log with floor 1e-6",
    via(50, 10, 8, 1.0, round_probs(3, 1e-6)),
)
add(
    "float32_saturated_k5_n100",
    "overconfident by 6, float32 softmax then log: many equal at -87",
    via(100, 5, 5, 1.2, f32_softmax, 6.0),
)
add(
    "row_offset_k5_n200",
    "exact logits plus a large constant a row (softmax ignores it)",
    simple(200, 5, 5, 1.0, lambda rng: lambda z: z + 500 * np.sin(1e3 * z[:, :1])),
)
add("huge_scale_k3_n100", "scores in the hundreds: too large by 100", simple(100, 3, 4, 0.9, temp(80, 120)))
add(
    "tiny_scale_k5_n100",
    "cosine similarities: too small by 20, nearly uniform",
    simple(100, 5, 5, 1.0, temp(1 / 25, 1 / 15)),
)


# ---------------------------------------------------------------- constant and useless
def constant(n, k, right):
    def draw(rng):
        p = rng.dirichlet(np.full(k, 1.5))
        z = np.log(np.maximum(p, 1e-4)) if right else np.zeros(k)
        p = softmax(np.log(np.maximum(p, 1e-4)))
        return Draw(np.tile(z, (n, 1)), rng.choice(k, n, p=p), np.tile(z, (NTEST, 1)), np.tile(p, (NTEST, 1)))

    return draw


add("constant_right_k5_n100", "every row the same logits, equal to the true prior", constant(100, 5, True))
add("constant_zero_k4_n50", "all logits zero, labels skewed", constant(50, 4, False))


def useless(n, k, s):
    def draw(rng):
        p = rng.dirichlet(np.full(k, 5.0))
        return Draw(
            s * rng.normal(size=(n, k)), rng.choice(k, n, p=p), s * rng.normal(size=(NTEST, k)), np.tile(p, (NTEST, 1))
        )

    return draw


add("useless_k10_n200", "confident logits unrelated to the labels", useless(200, 10, 3.0))
add("useless_mild_k3_n30", "weak logits unrelated to the labels", useless(30, 3, 0.7))


def anti(n, k):
    return simple(n, k, 4, 0.6, lambda rng: lambda z: -z)


add("swapped_sign_k2_n100", "class columns swapped by mistake: worse than chance", anti(100, 2))


# ---------------------------------------------------------------- annotators
def majority3(p):
    s2 = (p**2).sum(1, keepdims=True) - p**2
    e2 = np.maximum((1 - p) ** 2 - s2, 0) / 2
    return p**3 + 3 * p**2 * (1 - p) + 2 * p * e2


def annotators(n, k, test_single):
    def draw(rng):
        prob = Lda(rng, k, 5, 0.8)
        zv, _ = prob.sample(rng, n)
        zt, _ = prob.sample(rng, NTEST)
        pt = softmax(zt, axis=1)
        y = pick(rng, majority3(softmax(zv, axis=1)))
        return Draw(zv, y, zt, pt if test_single else majority3(pt))

    return draw


add(
    "majority_k4_n300",
    "labels are the majority of 3 annotators (in both): model of one annotator looks dull",
    annotators(300, 4, False),
)
add(
    "majority_val_single_test_k4_n300",
    "validation labels by majority of 3, test by one annotator",
    annotators(300, 4, True),
    unnoticeable=True,
)


# ---------------------------------------------------------------- ensembles
def ensemble(n, k, M, s, probs=True):
    def draw(rng):
        prob = Lda(rng, k, 8, 1.0)
        W = [1.3 * (np.eye(k) + s * rng.normal(size=(k, k)) / np.sqrt(k)) for _ in range(M)]
        B = rng.normal(size=(M, k)) * 0.5

        def rep(z):
            if probs:
                members = [softmax(z @ w + b, axis=1) for w, b in zip(W, B, strict=True)]
                return np.log(np.mean(members, axis=0) + 1e-300)
            return np.mean([z @ w + b for w, b in zip(W, B, strict=True)], axis=0)

        zv, y = prob.sample(rng, n)
        zt, _ = prob.sample(rng, NTEST)
        return Draw(rep(zv), y, rep(zt), softmax(zt, axis=1))

    return draw


add("ensemble_probs_k10_n500", "mean probability of 5 disagreeing nets", ensemble(500, 10, 5, 0.7))
add("ensemble_logits_k6_n100", "mean logits of 3 nets", ensemble(100, 6, 3, 0.3, False))


# ---------------------------------------------------------------- near-copies
def shuffle_rows(rng, lo, y, g):
    o = rng.permutation(len(y))
    return lo[o], y[o], g[o]


def copies(m, r, k, eps, over, known, shuffled, d=6, sep=1.0):
    """m originals times r perturbed versions; the label is the original's."""

    def draw(rng):
        prob = Lda(rng, k, d, sep)
        a = over(rng)

        def mk(m_, r_):
            y = prob.ys(rng, m_)
            x = prob.xs(rng, y)
            q = softmax(prob.z(x), axis=1)
            xx = np.repeat(x, r_, axis=0)
            xx = xx + eps * rng.normal(size=xx.shape)
            return a * prob.z(xx), np.repeat(y, r_), np.repeat(np.arange(m_), r_), q

        lo, y, g, _ = mk(m, r)
        lt, _, _, q = mk(NTEST, 1)
        if shuffled:
            lo, y, g = shuffle_rows(rng, lo, y, g)
        return Draw(lo, y, lt, q, g if known else None)

    return draw


def one(r):
    return 1.0


add(
    "copies_eps0_k5_n500",
    "50 originals x 10 exact copies (oversampled), logits exact, no ids",
    copies(50, 10, 5, 0.0, one, False, True),
)
for eps, tag in ((0.03, "tiny"), (0.3, "mid"), (1.0, "big")):
    for known, shuf, sfx in ((True, False, "ids"), (False, False, "noids_ordered"), (False, True, "noids_shuffled")):
        add(
            f"copies_{tag}_k5_n300_{sfx}",
            f"30 originals x 10 perturbed versions (noise {eps}), logits of an original exact, "
            + ("groups passed" if known else "no groups, " + ("shuffled" if shuf else "in order")),
            copies(30, 10, 5, eps, one, known, shuf),
            unnoticeable=(shuf and eps >= 0.3),
        )
add(
    "copies_mid_over_k10_n1000_ids",
    "100 originals x 10 versions (noise 0.3), T 1.3 to 2.5, groups passed",
    copies(100, 10, 10, 0.3, lambda r: r.uniform(1.3, 2.5), True, False),
)
add(
    "copies_mid_over_k10_n1000_noids",
    "the same without groups, in order",
    copies(100, 10, 10, 0.3, lambda r: r.uniform(1.3, 2.5), False, False),
)
add(
    "copies_few_k3_n2000_noids",
    "20 originals x 100 versions (noise 0.5), in order, no groups",
    copies(20, 100, 3, 0.5, one, False, False),
)


# ---------------------------------------------------------------- patients, sites
def patients(G, per, k, how, size, known, shuffled, over=one, d=5, sep=0.9):
    """how: 'label'  each group tilts its own labels: P = softmax(z + b_g), logits say z;
    'logit'  each group shifts the logits: logits say z + b_g, P = softmax(z);
    'same'   all rows of a group share one label and part of their noise, marginally exact;
    'scale'  each group has its own temperature."""

    def draw(rng):
        prob = Lda(rng, k, d, sep)
        a = over(rng)

        def mk(G_, per_):
            g = np.repeat(np.arange(G_), per_)
            m = len(g)
            if how == "same":
                y = prob.ys(rng, G_)[g]
                u = rng.normal(size=(G_, d))[g]
                x = prob.mu[y] + np.sqrt(size) * u + np.sqrt(1 - size) * rng.normal(size=(m, d))
                z = prob.z(x)
                return a * z, y, g, softmax(z, axis=1)
            z, y = prob.sample(rng, m)
            if how == "logit":
                return a * z + size * rng.normal(size=(G_, k))[g], y, g, softmax(z, axis=1)
            if how == "scale":
                return a * z * np.exp(size * rng.normal(size=G_))[g][:, None], y, g, softmax(z, axis=1)
            q = softmax(z + size * rng.normal(size=(G_, k))[g], axis=1)
            return a * z, pick(rng, q), g, q

        lo, y, g, _ = mk(G, per)
        lt, _, _, q = mk(NTEST // 5, 5) if how != "same" else mk(NTEST, 1)
        if shuffled:
            lo, y, g = shuffle_rows(rng, lo, y, g)
        return Draw(lo, y, lt, q, g if known else None)

    return draw


MODES = ((True, False, "ids"), (False, False, "noids_ordered"), (False, True, "noids_shuffled"))
SPECS = (
    ("patients_label_k4_n500", (25, 20, 4, "label", 1.0), one, "25 patients x 20, each tilts its labels (sd 1)"),
    ("patients_logit_k3_n200", (10, 20, 3, "logit", 1.2), one, "10 patients x 20, each shifts its logits (sd 1.2)"),
    (
        "patients_same_k5_n1000",
        (20, 50, 5, "same", 0.6),
        one,
        "20 patients x 50, one label a patient, row by row exactly calibrated",
    ),
    ("sites_scale_k4_n1000", (5, 200, 4, "scale", 0.5), one, "5 hospitals x 200, each its own temperature"),
)
for nm, args, ov, txt in SPECS:
    for known, shuf, sfx in MODES:
        add(
            f"{nm}_{sfx}",
            txt + (", groups passed" if known else ", no groups, " + ("shuffled" if shuf else "in order")),
            patients(*args, known, shuf, ov),
            unnoticeable=shuf,
        )
add(
    "patients_shuffled_ids_k4_n300",
    "15 patients x 20, labels tilted (sd 1), shuffled but groups passed",
    patients(15, 20, 4, "label", 1.0, True, True),
)
add(
    "groups_idle_k5_n300",
    "30 groups passed that mean nothing, T 1.5",
    patients(30, 10, 5, "logit", 0.0, True, False, lambda r: 1.5),
)
add(
    "groups_singletons_k5_n200",
    "every row its own group, T 1.5",
    patients(200, 1, 5, "logit", 0.0, True, False, lambda r: 1.5),
)
add(
    "groups_two_k3_n100",
    "2 groups only, labels tilted (sd 0.8), groups passed",
    patients(2, 50, 3, "label", 0.8, True, False),
)
add(
    "pixels_k3_n2000_ids",
    "8 images x 250 pixels, image tilts its labels, T 1.2, groups passed",
    patients(8, 250, 3, "label", 0.8, True, False, lambda r: 1.2),
)
add(
    "pixels_k3_n2000_noids_shuffled",
    "the same, pixels sampled at random from all images, no groups",
    patients(8, 250, 3, "label", 0.8, False, True, lambda r: 1.2),
    unnoticeable=True,
)


# ---------------------------------------------------------------- time series
def ar1(rng, m, d, rho):
    e = rng.normal(size=(m, d)) * np.sqrt(1 - rho**2)
    e[0] = rng.normal(size=d)
    return lfilter([1.0], [1.0, -rho], e, axis=0)


def sticky(n, k, stay, rho, shuffled, over=one):
    """Markov states, AR noise; the frame-wise classifier is exact at each frame."""

    def draw(rng):
        prob = Lda(rng, k, 5, 0.9)
        a = over(rng)
        new = rng.random(n) > stay
        new[0] = True
        y = prob.ys(rng, n)[np.maximum.accumulate(np.where(new, np.arange(n), 0))]
        z = prob.z(prob.mu[y] + ar1(rng, n, 5, rho))
        if shuffled:
            o = rng.permutation(n)
            z, y = z[o], y[o]
        zt, _ = prob.sample(rng, NTEST)
        return Draw(a * z, y, a * zt, softmax(zt, axis=1))

    return draw


def drift(n, k, rho, sd, shuffled):
    def draw(rng):
        prob = Lda(rng, k, 5, 0.9)
        z, _ = prob.sample(rng, n)
        y = pick(rng, softmax(z + sd * ar1(rng, n, k, rho), axis=1))
        if shuffled:
            o = rng.permutation(n)
            z, y = z[o], y[o]
        zt, _ = prob.sample(rng, NTEST)
        return Draw(z, y, zt, softmax(zt + sd * rng.normal(size=zt.shape), axis=1))

    return draw


def trend(n, k):
    """Model decays: the logits' factor climbs from 1 to 1.3 in validation, 1.3 to 2.5 in test."""

    def draw(rng):
        prob = Lda(rng, k, 6, 1.0)
        z, y = prob.sample(rng, n)
        zt, _ = prob.sample(rng, NTEST)
        return Draw(
            z * np.linspace(1, 1.3, n)[:, None], y, zt * np.linspace(1.3, 2.5, NTEST)[:, None], softmax(zt, axis=1)
        )

    return draw


add(
    "series_sticky_k4_n500",
    "time series: states last 25 frames, noise autocorrelated, marginally exact, in order",
    sticky(500, 4, 0.96, 0.9, False),
)
add(
    "series_sticky_over_k3_n300",
    "the same, states last 20 frames, T 1.5",
    sticky(300, 3, 0.95, 0.8, False, lambda r: 1.5),
)
add(
    "series_sticky_shuffled_k4_n500",
    "the same exact series shuffled",
    sticky(500, 4, 0.96, 0.9, True),
    unnoticeable=True,
)
add(
    "series_drift_k3_n300",
    "class tilt drifts slowly (AR 0.99), in order; test over all times",
    drift(300, 3, 0.99, 0.9, False),
)
add("series_drift_shuffled_k3_n300", "the same shuffled", drift(300, 3, 0.99, 0.9, True), unnoticeable=True)
add(
    "series_trend_k6_n1000",
    "overconfidence grows: slight in validation, strong in test",
    trend(1000, 6),
    unnoticeable=True,
)


# ---------------------------------------------------------------- shift and selection
def prior_shift(n, k, a_of, to_uniform):
    def draw(rng):
        skew = rng.permutation(0.6 ** np.arange(k))
        skew /= skew.sum()
        uni = np.full(k, 1 / k)
        pv, pt = (skew, uni) if to_uniform else (uni, skew)
        prob = Lda(rng, k, 6, 0.9, pv)
        a = a_of(rng)
        zv, y = prob.sample(rng, n)
        zt, _ = prob.sample(rng, NTEST, pt)
        return Draw(a * zv, y, a * zt, softmax(zt + np.log(pt / pv), axis=1))

    return draw


add(
    "prior_shift_to_skew_k6_n500",
    "validation balanced, test skewed; logits exact on validation",
    prior_shift(500, 6, one, False),
    unnoticeable=True,
)
add(
    "prior_shift_to_uniform_k6_n200",
    "validation skewed, test balanced; T 1.5",
    prior_shift(200, 6, lambda r: 1.5, True),
    unnoticeable=True,
)


def balanced_val(n, big):
    """Model exact for the real (imbalanced) world; the user balanced the validation set by hand."""

    def draw(rng):
        prob = Lda(rng, 2, 2, 0, [big, 1 - big], two_pt(2.2))
        y = np.repeat([0, 1], n // 2)
        y = rng.permutation(y)
        zv = prob.z(prob.xs(rng, y))
        zt, _ = prob.sample(rng, NTEST)
        return Draw(zv, y, zt, softmax(zt, axis=1))

    return draw


add(
    "balanced_val_real99_k2_n100",
    "logits exact in a 99:1 world, validation balanced 50:50 by hand",
    balanced_val(100, 0.99),
    unnoticeable=True,
)


def cov_shift(n, k, s_val, s_test):
    """The factor by which logits are too large depends on one feature that moves."""

    def draw(rng):
        prob = Lda(rng, k, 6, 1.0)

        def mk(m, s):
            z, y = prob.sample(rng, m)
            a = np.exp(0.3 * (rng.normal(size=m) + s))[:, None]
            return a * z, y, softmax(z, axis=1)

        rv, y, _ = mk(n, s_val)
        rt, _, q = mk(NTEST, s_test)
        return Draw(rv, y, rt, q)

    return draw


add(
    "cov_shift_over_to_exact_k5_n300",
    "validation overconfident, test domain not",
    cov_shift(300, 5, 2.5, 0.0),
    unnoticeable=True,
)
add(
    "cov_shift_under_to_over_k5_n500",
    "validation underconfident, test domain overconfident",
    cov_shift(500, 5, -2.0, 1.5),
    unnoticeable=True,
)


def early_stop(n, k, C, by, wob):
    """C checkpoints, each its own mixing, scale and bias; the one that looks best on validation is kept."""

    def draw(rng):
        prob = Lda(rng, k, 6, 1.0)
        zv, y = prob.sample(rng, n)
        best = None
        for _c in range(C):
            W = rng.uniform(0.8, 1.6) * (np.eye(k) + wob * rng.normal(size=(k, k)) / np.sqrt(k))
            b = rng.normal(size=k) * wob
            r = zv @ W + b
            s = -log_softmax(r, axis=1)[np.arange(n), y].mean() if by == "nll" else -(r.argmax(1) == y).mean()
            if best is None or s < best[0]:
                best = (s, W, b, r)
        zt, _ = prob.sample(rng, NTEST)
        return Draw(best[3], y, zt @ best[1] + best[2], softmax(zt, axis=1))

    return draw


add(
    "early_stop_nll_k5_n100",
    "best of 60 checkpoints by NLL on this same validation set",
    early_stop(100, 5, 60, "nll", 0.6),
    unnoticeable=True,
)
add(
    "early_stop_acc_k4_n50",
    "best of 100 checkpoints by accuracy on this same validation set",
    early_stop(50, 4, 100, "acc", 0.6),
    unnoticeable=True,
)


def leaked(n, k, share):
    """A share of the validation rows was trained on: their logits lean to their labels."""

    def draw(rng):
        prob = Lda(rng, k, 6, 0.9)
        zv, y = prob.sample(rng, n)
        zt, _ = prob.sample(rng, NTEST)
        rv = 1.8 * zv
        hit = rng.random(n) < share
        rv[np.flatnonzero(hit), y[hit]] += 8.0
        return Draw(rv, y, 1.8 * zt, softmax(zt, axis=1))

    return draw


add(
    "leaked_val_k5_n300",
    "half the validation rows were trained on; the net is overconfident by 1.8",
    leaked(300, 5, 0.5),
    unnoticeable=True,
)


def pseudo(n, k, share):
    def draw(rng):
        prob = Lda(rng, k, 5, 0.8)
        zv, y = prob.sample(rng, n)
        zt, _ = prob.sample(rng, NTEST)
        y = np.where(rng.random(n) < share, zv.argmax(1), y)
        return Draw(zv, y, zt, softmax(zt, axis=1))

    return draw


add(
    "pseudo_labels_k5_n300",
    "40% of validation labels are the model's own guess (active labelling)",
    pseudo(300, 5, 0.4),
    unnoticeable=True,
)


def hard_val(n, k):
    """Errors are three times as likely to be kept in validation (users' complaints)."""

    def draw(rng):
        prob = Lda(rng, k, 6, 1.1)
        z, y = prob.sample(rng, 8 * n)
        keep = (z.argmax(1) != y) | (rng.random(8 * n) < 1 / 3)
        z, y = z[keep][:n], y[keep][:n]
        zt, _ = prob.sample(rng, NTEST)
        return Draw(z, y, zt, softmax(zt, axis=1))

    return draw


add(
    "hard_val_k6_n200",
    "validation over-samples errors threefold (complaints), logits exact",
    hard_val(200, 6),
    unnoticeable=True,
)


# ---------------------------------------------------------------- scikit-learn models
def sk_make(rng, total, k, nf=12, info=6, sep=1.0, flip=0.02, weights=None):
    from sklearn.datasets import make_classification

    return make_classification(
        total,
        nf,
        n_informative=info,
        n_redundant=2,
        n_classes=k,
        n_clusters_per_class=2,
        class_sep=sep,
        flip_y=flip,
        weights=weights,
        random_state=int(rng.integers(2**31 - 1)),
    )


def log_floor(p, f):
    return np.log(np.maximum(p, f))


def dec(d):
    d = np.asarray(d, float)
    return np.stack([np.zeros_like(d), d], 1) if d.ndim == 1 else d


def widen(lo, classes, k, fill):
    """Place the columns of the classes a model saw; others get fill."""
    if lo.shape[1] == k:
        return lo
    out = np.full((len(lo), k), fill)
    out[:, classes] = lo
    return out


def sk(n, k, make_model, out, ntrain=400, **kw):
    def draw(rng):
        X, y = sk_make(rng, ntrain + n + NTEST, k, **kw)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            m = make_model(int(rng.integers(2**31 - 1))).fit(X[:ntrain], y[:ntrain])
            lo = widen(out(m, X[ntrain:]), m.classes_, k, np.log(1e-6))
        yy = y[ntrain:].astype(int)
        return Draw(lo[:n], yy[:n], lo[n:], yy[n:])

    return draw


_DATA = {}


def bundled(name):
    if name not in _DATA:
        from sklearn import datasets

        _DATA[name] = getattr(datasets, "load_" + name)(return_X_y=True)
    return _DATA[name]


def sk_bundled(name, ntrain, n, make_model, out):
    """Test rows are drawn with replacement from the rows held out of training and validation."""

    def draw(rng):
        X, y = bundled(name)
        k = int(y.max()) + 1
        o = rng.permutation(len(y))
        tr, va, te = o[:ntrain], o[ntrain : ntrain + n], o[ntrain + n :]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            m = make_model(int(rng.integers(2**31 - 1))).fit(X[tr], y[tr])
            lv, lt = (widen(out(m, X[i]), m.classes_, k, np.log(1e-6)) for i in (va, te))
        j = rng.integers(len(te), size=NTEST)
        return Draw(lv, y[va].astype(int), lt[j], y[te][j].astype(int))

    return draw


def probs(f):
    return lambda m, X: log_floor(m.predict_proba(X), f)


def logprobs(m, X):
    return np.maximum(m.predict_log_proba(X), -700.0)


def decision(m, X):
    return dec(m.decision_function(X))


def rf(trees, leaf=1):
    def f(s):
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(trees, min_samples_leaf=leaf, random_state=s, n_jobs=1)

    return f


def nb(s):
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB(var_smoothing=1e-4)


def gb(trees, lr=0.2, depth=3):
    def f(s):
        from sklearn.ensemble import GradientBoostingClassifier

        return GradientBoostingClassifier(n_estimators=trees, learning_rate=lr, max_depth=depth, random_state=s)

    return f


def knn(q):
    def f(s):
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(q, n_jobs=1)

    return f


def svc(C=1.0):
    def f(s):
        from sklearn.svm import SVC

        return SVC(C=C, decision_function_shape="ovr", random_state=s)

    return f


def logreg(C):
    def f(s):
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=C, max_iter=500)

    return f


def mlp(s):
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((32,), alpha=0.0, learning_rate_init=0.01, max_iter=80, n_iter_no_change=200, random_state=s)


def tree(s):
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(min_samples_leaf=3, random_state=s)


add("sk_rf_k3_n300", "random forest of 50, log vote shares, floor 1e-3", sk(300, 3, rf(50), probs(1e-3)))
add("sk_rf_floor12_k4_n100", "random forest of 30, log vote shares, floor 1e-12", sk(100, 4, rf(30), probs(1e-12)))
add(
    "sk_rf_imb_k2_n500", "random forest, 95:5 binary, floor 1e-4", sk(500, 2, rf(50), probs(1e-4), weights=[0.95, 0.05])
)
add("sk_nb_k4_n500", "naive Bayes, log posteriors", sk(500, 4, nb, logprobs))
add("sk_nb_k2_n30", "naive Bayes, binary, 30 rows", sk(30, 2, nb, logprobs))
add("sk_gb_k3_n200", "gradient boosting, raw scores, over-fitted", sk(200, 3, gb(40), decision, ntrain=300))
add(
    "sk_gb_k2_n1000",
    "gradient boosting binary, stopped early: somewhat underconfident",
    sk(1000, 2, gb(40, 0.1, 2), decision, ntrain=800),
)
add("sk_knn_k5_n300", "7-NN votes, floor 1e-2: few distinct rows of logits", sk(300, 5, knn(7), probs(1e-2)))
add("sk_knn1_k3_n100", "1-NN: one-hot, floor 1e-6", sk(100, 3, knn(1), probs(1e-6)))
add("sk_svm_k2_n100", "SVM decision values, binary (0, d)", sk(100, 2, svc(), decision))
add("sk_svm_k4_n500", "SVM one-versus-rest decision values, 4 classes", sk(500, 4, svc(), decision))
add("sk_logreg_k3_n200", "logistic regression, nearly calibrated", sk(200, 3, logreg(1.0), decision, ntrain=1000))
add(
    "sk_logreg_strongreg_k2_n50",
    "over-regularised logistic regression: underconfident",
    sk(50, 2, logreg(1e-3), decision),
)
add("sk_mlp_k3_n300", "MLP over-fitted to 300 rows", sk(300, 3, mlp, probs(1e-30), ntrain=300))
add("sk_tree_k4_n200", "decision tree leaf shares, floor 1e-3", sk(200, 4, tree, probs(1e-3)))
add(
    "sk_nb_digits_k10_n500",
    "naive Bayes on digits (test resampled from held-out rows)",
    sk_bundled("digits", 400, 500, nb, logprobs),
)
add(
    "sk_rf_digits_k10_n200",
    "random forest on digits, floor 1e-3: accurate and underconfident",
    sk_bundled("digits", 500, 200, rf(40), probs(1e-3)),
)
add(
    "sk_svm_digits_k10_n300",
    "SVM scores on digits, 97% right, scores far too flat",
    sk_bundled("digits", 500, 300, svc(), decision),
)
add("sk_nb_cancer_k2_n100", "naive Bayes on breast cancer", sk_bundled("breast_cancer", 150, 100, nb, logprobs))
add(
    "sk_logreg_wine_k3_n30",
    "logistic regression on wine (unscaled), 30 rows",
    sk_bundled("wine", 60, 30, logreg(0.01), decision),
)
add("sk_gb_iris_k3_n20", "gradient boosting on iris, 20 rows", sk_bundled("iris", 60, 20, gb(30, 0.3), decision))


# ---------------------------------------------------------------- judging helpers and main
