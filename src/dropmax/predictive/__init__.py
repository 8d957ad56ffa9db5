"""The predictive distribution of DropMax, log p(y | x), and the posterior of its masks.

`plugin` puts the retain probability in place of the mask, as the paper does; `monte_carlo` averages
the softmax over sampled hard masks; `exact` is that average itself, a one-dimensional integral. All
return log-probabilities `[*, K]`, which are ordinary logits to every tool that takes logits. From
the same integral: `log_marginal`, the likelihood to train on; `mask_posterior`, which classes were
retained once the label is known; `expected_log_normalizer`, from which the bound and the mutual
information follow; `error_bound`, what the quadrature may be off.
"""

from dropmax.predictive.approximate import monte_carlo, plugin
from dropmax.predictive.marginal import exact, log_marginal
from dropmax.predictive.posterior import expected_log_normalizer, mask_posterior
from dropmax.predictive.quadrature import error_bound

__all__ = [
    "error_bound",
    "exact",
    "expected_log_normalizer",
    "log_marginal",
    "mask_posterior",
    "monte_carlo",
    "plugin",
]
