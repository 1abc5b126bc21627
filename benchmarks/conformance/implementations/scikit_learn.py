"""CalibratedClassifierCV(method="temperature") around a frozen classifier, as its documentation describes."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

TITLE = "scikit-learn"
REQUIRES = ("scikit-learn==1.9.1",)
UPSTREAM = "https://github.com/scikit-learn/scikit-learn"
NOTE = (
    "The IndexError is about 144 of the 1,000 classes that are absent from the labels: with the columns of the 856 "
    "others alone, the fit is right. The ValueError with 10,000 classes is about classes with fewer than 5 labels."
)
ADVICE = (
    "divide the logits by their mean gap to the largest of each row, in float64, and multiply T by it, since T is "
    "searched from 5e-5 to 22,000; replace logits of -inf by the lowest finite one minus 1,000; and pass labels of "
    "every class."
)


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its logits; for two classes, its decision function is their difference."""

    def fit(self, logits, labels=None):
        self.classes_ = np.arange(logits.shape[1])
        return self

    def decision_function(self, logits):
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, logits):
        return logits.argmax(axis=1)


def fit(logits, labels):
    classifier = CalibratedClassifierCV(FrozenEstimator(Given().fit(logits)), method="temperature")
    classifier.fit(logits, labels)
    beta = float(np.mean([each.calibrators[0].beta_ for each in classifier.calibrated_classifiers_]))
    return 1 / beta if logits.shape[1] > 2 else 1 / (2 * beta)  # two classes count as logits (-x, x)
