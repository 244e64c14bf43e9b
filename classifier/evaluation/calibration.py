"""Temperature scaling: probabilities that say how often they are right."""

import numpy as np

from classifier.prediction.verdict import HIGHEST, LOWEST

# Standard deviation of a temperature's logarithm, before any photograph is seen. Where all of a few
# are named rightly, the least loss alone has temperature 0; of 1,223 photographs the temperature
# is 0.2% another without it.
PRIOR = 0.5


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that logits are divided by for the least loss (Guo et al. 2017).

    No class becomes more probable than another by it. To the loss, summed, that of a normal prior
    is added (PRIOR), which decides where photographs are few.

    Args:
        logits: float array (N, classes) of photographs that were not trained on.
        labels: int array (N,), class numbers.

    Returns:
        LOWEST to HIGHEST; 1.0 of no photographs.
    """
    if len(labels) == 0:
        return 1.0
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(exponent):
        logs = log_softmax(logits / np.exp(exponent), axis=1)[np.arange(len(labels)), labels]
        prior = (exponent / PRIOR) ** 2 / 2
        return (prior - logs.sum()) / len(labels)

    found = minimize_scalar(loss, bounds=np.log([LOWEST, HIGHEST]), method="bounded")
    return float(np.exp(found.x))
