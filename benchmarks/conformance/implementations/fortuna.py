"""Fortuna's ClassificationTemperatureScaling, on probabilities."""

from fortuna.calibration import ClassificationTemperatureScaling

TITLE = "Fortuna"
REQUIRES = ("flax>=0.8.5,<0.9", "jax>=0.4.30,<0.5", "numpy<2", "scipy<1.15", "orbax-checkpoint<0.7")
ALONE = ("aws-fortuna==0.2.0",)
TAKES = "probabilities"
UPSTREAM = "https://github.com/awslabs/fortuna"
ADVICE = "scale the logits so that the best T is below 10, and pass no probability of 0."


def fit(probabilities, labels):
    scaling = ClassificationTemperatureScaling()
    scaling.fit(probabilities, labels)
    return {"T": float(scaling.temperature), "probabilities": scaling.predict_proba(probabilities)}
