"""calikit's fit_temperature, on the probabilities of the second of two classes."""

from calikit.fit import fit_temperature

REQUIRES = ("calikit==0.1.0", "numpy")
TAKES = "probabilities"
CLASSES = 2
UPSTREAM = "https://github.com/mohammadi-hadi/calikit"


def fit(probabilities, labels):
    given = probabilities[:, 1].tolist()
    mapping = fit_temperature(given, labels.tolist())
    return {"T": mapping.params["T"], "probabilities": mapping.apply(given)}
