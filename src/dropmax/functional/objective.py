"""A loss and its terms."""

from typing import NamedTuple

from torch import Tensor


class Objective(NamedTuple):
    """A loss and its terms, in nats; `total` is their sum and a term that is absent is zeros.

    Attributes:
        total: What is minimized.
        nll: Negative log-likelihood of the target under the sampled masks.
        kl: KL divergence from the posterior of the masks to their prior.
        neg_entropy: Negative entropy of the prior, which keeps it from collapsing.
        aux: Cross-entropy of the correction to the label.
    """

    total: Tensor
    nll: Tensor
    kl: Tensor
    neg_entropy: Tensor
    aux: Tensor

    @classmethod
    def of_terms(cls, nll: Tensor, kl: Tensor, neg_entropy: Tensor, aux: Tensor) -> "Objective":
        """The objective whose total is the sum of these terms."""
        return cls(nll + kl + neg_entropy + aux, nll, kl, neg_entropy, aux)
