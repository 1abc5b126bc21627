"""The loop of the paper's code: one step of LBFGS on T from 1, rate .01, 20 iterations (halobench.fit_paper)."""

from halobench import fit_paper

TITLE = "paper's fit"
REQUIRES = ()
SUPPORTS = ("soft targets",)


def fit(logits, targets):
    return fit_paper(logits, targets).T
