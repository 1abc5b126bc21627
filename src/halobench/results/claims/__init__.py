"""Judge the paper's claims from an experiment's tables, by the rules in ``workflow/claims.yaml``.

The rules, in short:

- *The seed is the unit.* A seed determines the split, the label noise and the initialisation, so seeds are the
  replicates; intervals are 95% Student's t intervals over seeds.
- *Differences are paired* within data set x model x seed, so whatever two methods share cancels out.
- *Only what the claim is about counts.* The paper's argument is about models that interpolate, so cells that don't are
  left out and counted. A claim's ``interpolating`` lists the losses whose cells must interpolate (by default, all the
  claim's losses); a loss that is not meant to fit hard labels (Mixup, focal, label smoothing) can be exempted, since
  leaving out its cells would leave out the very method being compared. Pairs with different numbers of optimiser steps
  are also left out and counted.
- *Scope ``all``* is, per seed, the mean over those data set x model pairs that are complete in every seed; the rest are
  counted as excluded. It is a statement about these data sets and models, not about others. Each pair has its own row
  below it.
- *The margin is the claim's own threshold*, with its sign: ``below`` claims that estimate < margin, ``above`` that
  estimate > margin. ``holds``: the interval lies entirely on the claimed side of the margin; ``does_not``: entirely on
  the other side; ``undecided``: the margin lies within the interval; ``not_tested``: the grid doesn't have enough seeds
  or something else that the claim needs. ``holds`` and ``does_not`` are thus mirror images and require the same
  evidence: each rejects the other at 2.5%. An effect that was measured but is smaller than the margin is ``does_not``,
  because it isn't the effect that was claimed to matter.
- *A censored radius is a lower bound*, and a verdict that its true value could overturn is withheld (``undecided``).
"""

from __future__ import annotations

from halobench.results.claims.rules import COLUMNS, Claim, load_claims
from halobench.results.claims.verdicts import evaluate, verdict

__all__ = ["COLUMNS", "Claim", "evaluate", "load_claims", "verdict"]
