"""halobench.fit_temperature, from this repository."""

from halobench import fit_temperature

REQUIRES = ()
SUPPORTS = ("soft targets",)


def fit(logits, targets):
    fitted = fit_temperature(logits, targets)
    return {"T": fitted.T, "converged": fitted.converged, "separable": fitted.separable}
