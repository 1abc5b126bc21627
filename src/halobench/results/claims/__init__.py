"""Judge the paper's claims by an experiment's tables and the rules in ``workflow/claims.yaml``.

The rules, in short:

- *Seed is the unit.* A seed draws the split, the label noise and the initialisation, so seeds are the replicates;
  intervals are Student's t over seeds, at 95%.
- *Differences are paired* within data set x model x seed, so that what two methods share cancels.
- *Only what the claim is about counts.* The paper's argument is about models that interpolate: cells that don't are
  left out and counted. A claim's ``interpolating`` lists the losses of which that is asked (by default all that it
  names); a loss that is not meant to fit hard labels (Mixup, focal, label smoothing) can be exempted, since leaving out
  its cells would leave out the very method that is compared. Pairs with unequal optimiser steps are left out and
  counted too.
- *Scope ``all``* is, per seed, the mean over those data set x model pairs that are complete in every seed; the rest is
  counted as excluded. It is about these data sets and models, not of others. Each pair has a row of its own below it.
- *The margin is the claim's own threshold*, with its sign: ``below`` claims estimate < margin, ``above`` claims
  estimate > margin. ``holds``: the interval lies wholly on the claimed side of the margin; ``does_not``: wholly on the
  other side; ``undecided``: the margin lies within the interval; ``not_tested``: the grid is missing what the claim
  needs, or seeds. ``holds`` and ``does_not`` are thus mirror images and ask the same evidence: each rejects the other
  at 2.5%. An effect that was measured, but is smaller than the margin, is ``does_not``: it isn't what was claimed to
  matter.
- *A censored radius is a lower bound*, and a verdict that its true value could overturn is withheld (``undecided``).
"""

from __future__ import annotations

from halobench.results.claims.rules import COLUMNS, Claim, load_claims
from halobench.results.claims.verdicts import evaluate, verdict

__all__ = ["COLUMNS", "Claim", "evaluate", "load_claims", "verdict"]
