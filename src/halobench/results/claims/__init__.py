"""Judge the paper's claims, using an experiment's tables and the rules in ``workflow/claims.yaml``.

The rules, in short:

- *The seed is the unit.* A seed determines the split, the label noise and the initialisation, so seeds are the
  replicates; intervals are 95% Student's t intervals over seeds. If seeds resample the same samples, they are
  correlated, so the variance of their mean has the correction of Nadeau and Bengio (2003), the ratio of test to
  training samples, added to 1 / n. Each data set's is in ``runs.seed_correction``.
- *Differences are paired* within each data set x model x seed, so whatever two methods share cancels out.
- *Only what the claim is about counts.* The paper's argument is about models that interpolate, so cells that don't are
  excluded and counted as such. A claim's ``interpolating`` lists the losses whose cells must interpolate (by default,
  all the claim's losses); a loss that is not meant to fit hard labels (Mixup, focal, label smoothing) can be exempted,
  since leaving out its cells would leave out the very method being compared. Pairs trained for different numbers of
  optimiser steps are also excluded and counted.
- *Scope ``all``* averages, for each seed, over the data set x model pairs that are complete in every seed; the rest are
  counted as excluded. The result is a statement about these data sets and models, not about others. Each pair has its
  own row below it, and pairs that are decided the other way are counted (``opposite``). The mean over data sets, with
  its interval, is reported next to it.
- *A ratio is judged by its logarithm*, whose mean and interval are shown on the ratio's scale. If a side isn't above 0,
  neither its pair nor the whole is tested, since leaving out such cells would select by the outcome.
- *The margin is the claim's own threshold*, with its sign: ``below`` claims that estimate < margin, ``above`` that
  estimate > margin. The verdict is ``holds`` if the interval lies entirely on the claimed side of the margin,
  ``does_not`` if it lies entirely on the other side, ``undecided`` if the margin lies within it, and ``not_tested`` if
  the grid doesn't have enough seeds or something else that the claim needs. ``holds`` and ``does_not`` are thus mirror
  images and require the same evidence, since each rejects the other at the 2.5% level. An effect that was measured but
  is smaller than the margin gets ``does_not``, because it isn't the effect that was claimed to matter.
- *Many tests are made.* ``holm`` is the p-value over all pairs adjusted for all tests of a run by Holm's procedure, and
  ``adjusted`` is the verdict by it at 5%. ``holm_theme`` is adjusted for the tests of the theme alone.
- *A censored radius is a lower bound*, and a verdict that its true value could overturn is withheld (``undecided``).
"""

from __future__ import annotations

from halobench.results.claims.rules import COLUMNS, Claim, check_computed, claims_digest, load_claims
from halobench.results.claims.verdicts import evaluate, verdict

__all__ = ["COLUMNS", "Claim", "check_computed", "claims_digest", "evaluate", "load_claims", "verdict"]
