"""Judge the paper's claims, using an experiment's tables and the rules in ``workflow/claims.yaml``.

The rules, in short:

- *The seed is the unit.* A seed determines the split, the label noise and the initialisation, so seeds are the
  replicates, and intervals are 95% Student's t intervals over seeds. Seeds that resample the same samples are
  correlated, so the variance of their mean has the correction of Nadeau and Bengio (2003), the ratio of test to
  training samples, added to 1 / n. ``runs.seed_correction`` has it for each data set.
- *Differences are paired* within each data set x model x seed, so whatever two methods share cancels out.
- *Only cells that the claim is about count.* The paper's argument is about models that interpolate, so other cells are
  excluded, and counted as such. A claim's ``interpolating`` lists the losses whose cells must interpolate (by default,
  all the claim's losses). A loss that is not meant to fit hard labels (Mixup, focal, label smoothing) can be exempted,
  since excluding its cells would exclude the very method being compared. Pairs trained for different numbers of
  optimiser steps are also excluded and counted.
- *Scope ``all``* averages, for each seed, over the data set x model pairs that are complete in every seed; the rest are
  counted as excluded. The result is a statement about these data sets and models, not about others. Each pair has its
  own row below, and pairs with the opposite verdict are counted (``opposite``). The mean over data sets is reported
  as well, with its interval.
- *A ratio is judged by its logarithm*, whose mean and interval are shown on the ratio's scale. If a side isn't above 0,
  neither its pair nor the whole is tested, since leaving out such cells would select by the outcome.
- *The margin is the claim's own threshold*, with its sign: ``below`` claims that estimate < margin, ``above`` that
  estimate > margin. The verdict is ``holds`` if the interval lies entirely on the claimed side of the margin,
  ``does_not`` if it lies entirely on the other side, ``undecided`` if it contains the margin, and ``not_tested`` if
  the grid has too few seeds or is missing something else that the claim needs. ``holds`` and ``does_not`` are thus
  mirror images and require the same evidence, since each rejects the other at the 2.5% level. A measured effect that is
  smaller than the margin gets ``does_not``, because it isn't the effect that was claimed to matter.
- *There are many tests.* ``holm`` is the p-value over all pairs, adjusted for all tests of a run by Holm's procedure,
  and ``adjusted`` is the resulting verdict at 5%. ``holm_theme`` is adjusted only for the tests of the theme.
- *A censored radius is a lower bound*, and a verdict that its true value could overturn is withheld (``undecided``).
"""

from __future__ import annotations

from halobench.results.claims.rules import COLUMNS, Claim, check_computed, claims_digest, load_claims
from halobench.results.claims.verdicts import evaluate, verdict

__all__ = ["COLUMNS", "Claim", "check_computed", "claims_digest", "evaluate", "load_claims", "verdict"]
