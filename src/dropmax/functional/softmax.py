"""The softmax loss: cross-entropy, with label smoothing."""

from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.masking import cross_entropy


def softmax_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor,
    *,
    label_smoothing: float = 0.0,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of the softmax, per instance: `torch.nn.functional.cross_entropy` unreduced.

    `-(1 - e) log p_t - e/K sum_k log p_k` with label smoothing e.

    Args:
        logits: Class scores `[*, K]`.
        target: Class indices `[*]`.
        label_smoothing: The share e of the label that is spread over all classes, in [0, 1].
        axis: Where the classes live.

    Returns:
        Loss `[*]` in nats, float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Label smoothing after Szegedy et al. 2016, as in torch.

    Examples:
        >>> import torch
        >>> from dropmax.functional import softmax_loss
        >>> softmax_loss(torch.tensor([2.0, 0.0, 0.0]), torch.tensor(0))
        tensor(0.2395)
    """
    _check.class_tensors("softmax_loss", logits)
    _check.class_target("softmax_loss", target, logits, axis.num_classes(logits))
    _check.number("softmax_loss", "label_smoothing", label_smoothing, low=0.0, high=1.0)
    logits = at_least_float32(logits)
    target = target.long()
    if label_smoothing == 0.0:
        return cross_entropy(logits, target, axis)
    log_probs = axis.log_softmax(logits)
    mean_log_prob = axis.sum(log_probs) / axis.num_classes(logits)
    nll = -axis.pick(log_probs, target)
    return (1.0 - label_smoothing) * nll - label_smoothing * mean_log_prob
