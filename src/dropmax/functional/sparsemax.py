"""Sparsemax: the projection of the logits onto the simplex, and its loss."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.label import Label


def _shifted(logits: Float[Tensor, "*batch K"], axis: ClassAxis) -> Float[Tensor, "*batch K"]:
    """Logits with their maximum moved to 0, so that large ones lose no digits."""
    return logits - axis.amax(logits).unsqueeze(-1)


def _support(logits: Float[Tensor, "*batch K"], axis: ClassAxis) -> Bool[Tensor, "*batch K"]:
    """The classes of positive probability: Algorithm 1 of Martins & Astudillo 2016."""
    rows = axis.gather(logits)
    descending = rows.sort(-1, descending=True).values
    count = torch.arange(1, rows.shape[-1] + 1, dtype=rows.dtype, device=rows.device)
    inside = 1.0 + count * descending > descending.cumsum(-1)
    size = inside.sum(-1, keepdim=True).clamp(min=1)  # 0 where no logit is finite
    threshold = (descending.cumsum(-1).gather(-1, size - 1) - 1.0) / size
    return axis.shard(rows > threshold)


def _threshold(
    logits: Float[Tensor, "*batch K"], support: Bool[Tensor, "*batch K"], axis: ClassAxis
) -> Float[Tensor, "*batch"]:
    """The threshold tau with `sum over the support of (logits - tau) = 1`, differentiable."""
    total = axis.sum(torch.where(support, logits, 0.0))
    return (total - 1.0) / axis.sum(support.to(logits.dtype))


def sparsemax(
    logits: Float[Tensor, "*batch K"], *, axis: ClassAxis = LOCAL
) -> Float[Tensor, "*batch K"]:
    """Sparsemax probabilities: the point of the simplex nearest to the logits.

    `p_k = max(0, logits_k - tau)`, tau such that they sum to 1; many are exactly 0.

    Args:
        logits: Class scores `[*, K]`.
        axis: Where the classes live.

    Returns:
        Probabilities `[*, K]`, float32 at least.

    Raises:
        ValueError: If logits are not a floating-point tensor with classes.

    Source:
        Martins & Astudillo 2016, section 2.

    Examples:
        >>> import torch
        >>> from dropmax.functional import sparsemax
        >>> sparsemax(torch.tensor([1.0, 0.6, -1.0]))
        tensor([0.7000, 0.3000, 0.0000])
    """
    _check.class_tensors(logits)
    logits = _shifted(at_least_float32(logits), axis)
    support = _support(logits, axis)
    return torch.where(support, logits - _threshold(logits, support, axis).unsqueeze(-1), 0.0)


def sparsemax_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """The sparsemax loss, the convex loss whose gradient is `sparsemax(logits) - one_hot(target)`.

    `1/2 sum over the support of (logits_k^2 - tau^2) + 1/2 - logits_t`. It is 0 where the target
    leads by 1, and no likelihood: its unit is not the nat.

    Args:
        logits: Class scores `[*, K]`.
        target: Class indices `[*]`, or class probabilities `[*, K]`: the expectation over them.
        weight: Class weights `[K]`, of at least 0; ones if None.
        label_smoothing: The share of the label that is spread over all classes, in [0, 1].
        axis: Where the classes live.

    Returns:
        Loss `[*]`, float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Martins & Astudillo 2016, section 3.2.

    Examples:
        >>> import torch
        >>> from dropmax.functional import sparsemax_loss
        >>> sparsemax_loss(torch.tensor([1.0, 0.6, -1.0]), torch.tensor(0))
        tensor(0.0900)
    """
    _check.class_tensors(logits)
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    logits = _shifted(at_least_float32(logits), axis)
    support = _support(logits, axis)
    threshold = _threshold(logits, support, axis).unsqueeze(-1)
    excess = torch.where(support, logits - threshold, 0.0)
    conjugate = 0.5 * axis.sum(excess * (excess + 2.0 * threshold)) + 0.5
    return label.nll(conjugate.unsqueeze(-1) - logits)
