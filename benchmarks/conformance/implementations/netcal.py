"""netcal.scaling.TemperatureScaling with its defaults, on probabilities as its documentation describes."""

from netcal.scaling import TemperatureScaling

REQUIRES = ("netcal==1.4.0", "torch<2.14")
TAKES = "probabilities"
SHOW = "number types: float32, T near .5"
NOTE = (
    "It clips probabilities at the precision of their type, by design. In float64 and for T from .33 to 1e6, its T is "
    "the optimum of the probabilities clipped at 2.2e-16; from T near 10 on, the clipping moves that optimum, to 15.5 "
    "at most, so these sets show what clipping costs, not a fault of the fit. In float32, the fit fails: SciPy's "
    "`minimize` gets no `jac`, and its steps of 1.5e-8 don't change an objective in float32, so T stays at 1."
)
UPSTREAM = "https://github.com/EFS-OpenSource/calibration-framework"
ADVICE = "pass float64 probabilities; the finite differences of its optimiser vanish in float32."


def fit(probabilities, labels):
    scaling = TemperatureScaling()
    # For two classes, it takes the probability of the second one.
    given = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    scaling.fit(given, labels)
    return {"T": 1 / float(scaling.temperature[0]), "probabilities": scaling.transform(given)}
