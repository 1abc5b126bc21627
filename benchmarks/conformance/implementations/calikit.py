"""calikit's fit_temperature, on the probabilities of the second of two classes."""

from calikit.fit import fit_temperature

REQUIRES = ("calikit==0.1.0", "numpy")
TAKES = "probabilities"
CLASSES = 2


def fit(probabilities, labels):
    return fit_temperature(probabilities[:, 1].tolist(), labels.tolist()).params["T"]
