"""Define scores of predictions, one per file; ``module:object`` refers to a score outside the package.

Each file defines ``score``, whose parameters name the arrays that it takes; options are keyword-only, with defaults.

================= ===================================================================================================
``logits``        (n, k), finite or -inf; a metric takes either logits or arrays made of probabilities
``probabilities`` (n, k), rows that sum to 1
``confidence``    (n,), the largest probability of each row; if several classes tie, the first is predicted
``correct``       (n,), the probability that the predicted class is right: 0 or 1 for labels
``labels``        (n,) integers; the metric isn't computed if targets are a posterior
``posterior``     (n, k), P(label | sample); the metric isn't computed if targets are labels
``targets``       labels or posterior; under a posterior, a metric should take expectations and draw no labels
================= ===================================================================================================

A metric takes at least one of ``correct``, ``labels``, ``posterior`` and ``targets``, even if it uses none of them.

A score is a number for all samples, or an array (n,), whose mean is then reported with a bootstrap interval. In runs,
an option ``bins`` is by default the configuration's number of bins. Optional constants, which are read without
importing the file, are ``TITLE``, ``ABOUT`` (a description), ``UNIT``, ``RANGE`` (the smallest and the largest value,
or None for an unknown end, as in ``(0, None)``), ``LOWER_IS_BETTER``, ``SOURCE``, and ``ORDER`` (the position among the
rows of a table). The metrics of the package are public as ``halobench.NAME``. `halobench.testing.check_metric` checks a
metric.
"""

from halobench.core.plugins.constants import TOPICS
from halobench.core.plugins.kinds import Kind

KIND = Kind("metrics", __file__, "score", (*TOPICS, "UNIT", "RANGE", "LOWER_IS_BETTER"))
