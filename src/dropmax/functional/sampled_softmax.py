"""Sampled softmax: cross-entropy against a random part of the rivals."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dropmax import _check, bernoulli
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.label import Label
from dropmax.functional.masking import cross_entropy, nll_of_each_class, retained_logits


def sampled_softmax_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor,
    *,
    sampled_share: float = 0.5,
    log_proposal: Tensor | None = None,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """Cross-entropy among the target and rivals drawn without replacement from a proposal Q.

    `-log p_t` of softmax(logits - log Q) over {t} and the negatives, drawn anew for each instance
    from Q without the target. A faithful baseline, not a fast one: all K logits are computed. A
    class of logit -inf may be drawn, and then there is one rival less.

    Args:
        logits: Class scores `[*, K]`.
        target: Class indices `[*]`, or class probabilities `[*, K]`: the expectation over them.
        sampled_share: The share of the K - 1 rivals that is drawn, in (0, 1]; rounded to a number
            of classes, at least one.
        log_proposal: log Q `[K]`, up to a constant; uniform if None.
        weight: Class weights `[K]`, of at least 0; ones if None.
        label_smoothing: The share of the label that is spread over all classes, in [0, 1].
        noise: Uniforms in (0, 1) `[*, K]`, float32 or float64; drawn if None.
        generator: The source of the noise; the default one if None.
        axis: Where the classes live.

    Returns:
        Loss `[*]` in nats, float32 at least; 0 where K = 1.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Jean et al. 2015, section 3; the draw by the Gumbel-top-k trick (Kool et al. 2019).

    Examples:
        >>> import torch
        >>> from dropmax.functional import sampled_softmax_loss
        >>> noise = torch.tensor([0.5, 0.9, 0.1])
        >>> sampled_softmax_loss(torch.tensor([0.0, 0.0, 9.0]), torch.tensor(0), noise=noise)
        tensor(0.6931)
    """
    _check.class_tensors(logits)
    num_classes = axis.num_classes(logits)
    label = Label.of(
        target,
        logits,
        weight=weight,
        label_smoothing=label_smoothing,
        axis=axis,
    )
    _check.number("sampled_share", sampled_share, low=0.0, high=1.0, open_low=True)
    if log_proposal is not None:
        _check.log_proposal(log_proposal, logits)
    logits = at_least_float32(logits)
    noise = bernoulli.uniforms_like(logits, noise, generator)
    keys = -torch.log(-torch.log(noise))
    if log_proposal is not None:
        logits = logits - log_proposal
        keys = keys + log_proposal
    num_negatives = min(num_classes - 1, max(1, round(sampled_share * (num_classes - 1))))
    if label.is_one_class:
        is_target = axis.one_hot(label.target, logits)
        drawn = _largest(keys.masked_fill(is_target, -math.inf), num_negatives, axis)
        retained = retained_logits(logits, drawn | is_target)
        return label.scaled(cross_entropy(retained, label.target, axis))
    drawn = _largest(keys, num_negatives, axis)
    # a target that would have been drawn as a rival leaves its place to the next class
    next_drawn = _largest(keys.masked_fill(drawn, -math.inf), 1, axis)
    next_logit = axis.sum(logits.masked_fill(~next_drawn, 0.0)).unsqueeze(-1)
    joining = torch.where(drawn, next_logit, logits)
    return label.nll(nll_of_each_class(retained_logits(logits, drawn), joining, logits, axis))


def _largest(
    keys: Float[Tensor, "*batch K"], count: int, axis: ClassAxis
) -> Bool[Tensor, "*batch K"]:
    """True at the `count` largest keys of each instance."""
    rows = axis.gather(keys)
    chosen = torch.zeros_like(rows, dtype=torch.bool)
    indices: Int[Tensor, "*batch count"] = rows.topk(count, dim=-1).indices
    return axis.shard(chosen.scatter(-1, indices, True))
