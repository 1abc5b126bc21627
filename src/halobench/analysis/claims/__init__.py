"""Judge the paper's claims, using an experiment's tables and the rules in ``workflow/claims.yaml``.

The rules, in short:

- *The seed is the unit.* A seed determines the split, the label noise and the initialisation, so seeds are the
  replicates, and intervals are 95% Student's t intervals over seeds. Seeds that resample the same samples are
  correlated, so the variance of a mean over n seeds has the factor 1 / n plus the correction of Nadeau and Bengio
  (2003), the ratio of test to training samples. ``runs.seed_correction`` has the correction for each data set.
- *Differences are paired* within each data set x model x seed, so the variation that two methods share cancels out.
- *Only cells that the claim is about count.* The paper's argument is about models that interpolate, so other cells are
  excluded and counted. A claim's ``interpolating`` lists the losses whose cells must interpolate (by default, all the
  claim's losses or, for a claim of your own, none). A loss that is not meant to fit hard labels (Mixup, focal, label
  smoothing) can be exempted, since excluding its cells would exclude the very method being compared. Two cells of a
  data set that were trained for different numbers of optimiser steps aren't compared; they are also excluded and
  counted.
- *Pairs come first.* Each pair of data set and model has its own row and verdict. Scope ``all`` averages, for each
  seed, over the pairs that are complete in every seed; its row gives the range of the pairs' estimates, and its note
  names the pairs that aren't in the mean, and why. The verdict of scope ``all`` is ``mixed`` if it holds for some pairs
  and not for others: their mean says nothing about any single pair. If it fails for some and holds for none, the
  verdict is ``no_pair``, unless all fail, and so does their mean after adjustment. Pairs' verdicts aren't adjusted for
  the number of pairs, so neither are these two.
- *A ratio is judged by its logarithm*, whose mean and interval are shown on the ratio's scale.
- *The margin is the claim's own threshold*, with its sign: ``below`` claims that estimate < margin, ``above`` that
  estimate > margin. The verdict is ``holds`` if the interval lies entirely on the claimed side of the margin,
  ``does_not`` if it lies entirely on the other side, and ``undecided`` if it contains the margin. ``holds`` and
  ``does_not`` are thus mirror images and require the same evidence, since each rejects the other at the 2.5% level. An
  effect whose whole interval falls short of the margin gets ``does_not``, even if the effect isn't 0, because the claim
  is about a larger effect.
- *A test must be able to come out either way.* There are four reasons why a pair is ``not_testable``. The margin of a
  difference is out of reach. Side b is at its bound, or a radius of side a is 0, in every seed, so the difference only
  repeats the other side. A side of a ratio isn't above 0. Radii are censored, so the truth may lie on the other side of
  the margin. The first two don't count if the whole interval shows an effect in the opposite direction. ``not_tested``
  means that the grid has too few seeds or is missing something else that the claim needs.
- *There are many tests.* ``holm`` is the p-value over all pairs, adjusted for all tests of an experiment by Holm's
  procedure, and ``adjusted`` is the resulting verdict at 5%, which summaries count.
"""

from __future__ import annotations

from halobench.analysis.claims.rules import Claim, check_computed, claims_digest, load_claims
from halobench.analysis.claims.verdicts import evaluate, verdict

__all__ = ["Claim", "check_computed", "claims_digest", "evaluate", "load_claims", "verdict"]
