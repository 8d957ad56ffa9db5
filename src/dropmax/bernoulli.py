"""Independent Bernoulli masks, given by their logits: entropy, KL divergence, sampling.

A mask of K classes is z_k ~ Bernoulli(sigmoid(mask_logits_k)). Everything here is elementwise; the
callers sum over classes. Logits go in, logarithms come out: sigmoid is never followed by log.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dropmax import _check
from dropmax.axis import LOCAL, ClassAxis

__all__ = [
    "hard_mask",
    "kl",
    "neg_entropy",
    "relaxed_mask_logits",
]


def neg_entropy(mask_logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Negative entropy `rho log rho + (1 - rho) log(1 - rho)` with rho = sigmoid(mask_logits).

    In nats, from -log 2 to 0.

    Examples:
        >>> import torch
        >>> from dropmax.bernoulli import neg_entropy
        >>> neg_entropy(torch.tensor([0.0, 1e4]))
        tensor([-0.6931,  0.0000])
    """
    return torch.sigmoid(mask_logits) * F.logsigmoid(mask_logits) + torch.sigmoid(
        -mask_logits
    ) * F.logsigmoid(-mask_logits)


def kl(
    posterior_logits: Float[Tensor, "*shape"], prior_logits: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """KL divergence `KL[Bern(g) || Bern(rho)]`, g and rho the sigmoids of the two logits.

    `g (log g - log rho) + (1 - g) (log(1 - g) - log(1 - rho))` in nats.

    Examples:
        >>> import torch
        >>> from dropmax.bernoulli import kl
        >>> kl(torch.tensor([0.0, 3.0]), torch.tensor([0.0, -3.0]))
        tensor([0.0000, 2.7154])
    """
    retained = F.logsigmoid(posterior_logits) - F.logsigmoid(prior_logits)
    dropped = F.logsigmoid(-posterior_logits) - F.logsigmoid(-prior_logits)
    return torch.sigmoid(posterior_logits) * retained + torch.sigmoid(-posterior_logits) * dropped


def uniforms_like(
    logits: Float[Tensor, "*batch K"],
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    *,
    num_samples: int = 1,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "..."]:
    """Uniform noise strictly between 0 and 1: the caller's, checked, or drawn in float32.

    Of the shape of `logits`, after a leading dimension where `num_samples` > 1. The caller's is of
    all classes, wherever they live.
    """
    _check.random_source(noise, generator, logits.device)
    if noise is None:
        return axis.uniforms(logits, generator, num_samples)
    samples = () if num_samples == 1 else (num_samples,)
    shape = (*samples, *logits.shape[:-1], axis.num_classes(logits))
    _check.uniform_noise(noise, shape, logits.device)
    return axis.shard(noise)


def _logistic(noise: Float[Tensor, "*shape"], like: Tensor) -> Float[Tensor, "*shape"]:
    """Standard logistic noise `log u - log(1 - u)` of uniforms u."""
    return torch.logit(noise.to(like.dtype))


def relaxed_mask_logits(
    mask_logits: Float[Tensor, "*shape"], noise: Float[Tensor, "..."], temperature: float
) -> Float[Tensor, "..."]:
    """Logits of a relaxed mask, `(mask_logits + log u - log(1 - u)) / temperature`.

    Their sigmoid is the mask: the binary concrete distribution (Maddison et al. 2017). `noise`
    holds the uniforms u, with leading sample dimensions where there are more than one.
    """
    return (mask_logits + _logistic(noise, mask_logits)) / temperature


def hard_mask(
    mask_logits: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"]
) -> Bool[Tensor, "*shape"]:
    """A mask that is True with probability sigmoid(mask_logits): the limit of temperature 0.

    True where the uniform noise exceeds 1 - sigmoid(mask_logits).
    """
    return mask_logits + _logistic(noise, mask_logits) > 0
