"""Predict labels from validation samples with similar logits: nearest neighbours and trees, mixed with smooth maps.

If the logits identify the region that a sample comes from, the labels of validation samples with similar logits are
more informative than the confusions of the top class, which partner scaling uses. The map is a mixture of TS, partner
scaling, nearest neighbours and extremely randomised trees (`halobench.calibration.repair.families`). The mixture's
weights are fitted by cross-fitting, so without local structure, the mixture is close to its smooth parts. The weights
have no ridge penalty, so with only a dozen samples, they may be far off; with fewer than ten, the map is TS alone.
Samples must be independent draws, since copies of a sample in several folds would favour local maps.
"""

from __future__ import annotations

import numpy as np

from halobench.calibration.calibrator import Calibrator, scored
from halobench.calibration.calibrators import partner
from halobench.calibration.repair import mixture
from halobench.calibration.repair.families import fit_families
from halobench.calibration.scores.sample_scores import logarithm, softmax
from halobench.core.seeding import generator

TITLE = "local calibration"
ABOUT = "a mixture of TS, partner scaling, nearest neighbours and trees; the last two use labels of similar samples"
SOURCE = (
    "halobench, from parts: C. Stone, *Consistent Nonparametric Regression*, Annals of Statistics 1977; P. "
    "Geurts, D. Ernst and L. Wehenkel, *Extremely Randomized Trees*, Machine Learning 2006; weights by "
    "cross-fitting as in D. Wolpert, *Stacked Generalization*, Neural Networks 1992; see [related "
    "methods](references.md#related-methods)"
)
ORDER = 19
STYLE = ("#C2408C", (3, 1, 0), (0, (3, 1)))

LIBRARIES = ("scikit-learn", "scipy")
REFITTED = True

LOCAL_FAMILIES = ("temperature", "partner", "neighbours", "trees")

FOLDS = 5


def fit(logits: np.ndarray, labels: np.ndarray) -> Calibrator:
    """Fit the four maps and the mixture's weights; the mixture is finite even on separable data."""
    n = len(logits)
    weights = np.eye(len(LOCAL_FAMILIES))[0]
    if n >= 2 * FOLDS:
        fold = generator(0, "local", "folds").permutation(n) % FOLDS
        held_out = mixture.predict_held_out(
            lambda chosen: fit_families(
                logits[chosen], labels[chosen], labels[chosen], 0, partner.fit_checked, LOCAL_FAMILIES
            ),
            logits,
            fold,
        )
        weights = mixture.weights(np.stack(list(held_out.values())), labels)
    maps = fit_families(logits, labels, labels, 0, partner.fit_checked, LOCAL_FAMILIES)

    def transform(z: np.ndarray) -> np.ndarray:
        return logarithm(
            sum(weight * softmax(maps[name](z)) for name, weight in zip(LOCAL_FAMILIES, weights, strict=True))
        )

    return scored(transform, logits, labels)
