"""Fortuna's ClassificationTemperatureScaling, on probabilities."""

from fortuna.calibration import ClassificationTemperatureScaling

TITLE = "Fortuna"
REQUIRES = ("flax>=0.8.5,<0.9", "jax>=0.4.30,<0.5", "numpy<2", "scipy<1.15", "orbax-checkpoint<0.7")
ALONE = ("aws-fortuna==0.2.0",)
TAKES = "probabilities"
UPSTREAM = "https://github.com/awslabs/fortuna"
ADVICE = (
    "divide the logits by their mean gap to the largest of each row, in float64, pass their softmax, with no "
    "probability below 1e-37, and multiply T by the gap."
)


def fit(probabilities, labels):
    scaling = ClassificationTemperatureScaling()
    scaling.fit(probabilities, labels)
    return {"T": float(scaling.temperature), "probabilities": scaling.predict_proba(probabilities)}
