"""netcal.scaling.TemperatureScaling with its defaults, on probabilities as its documentation describes."""

from netcal.scaling import TemperatureScaling

REQUIRES = ("netcal==1.4.0", "torch<2.14")
TAKES = "probabilities"
UPSTREAM = "https://github.com/EFS-OpenSource/calibration-framework"
ADVICE = "pass float64 probabilities; the finite differences of its optimiser vanish in float32."


def fit(probabilities, labels):
    scaling = TemperatureScaling()
    # For two classes, it takes the probability of the second one.
    given = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    scaling.fit(given, labels)
    return {"T": 1 / float(scaling.temperature[0]), "probabilities": scaling.transform(given)}
