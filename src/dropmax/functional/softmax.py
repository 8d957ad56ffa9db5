"""The softmax loss: cross-entropy, with label smoothing."""

from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.label import Label


def softmax_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of the softmax, per instance: `torch.nn.functional.cross_entropy` unreduced.

    `- sum over k of W_k ((1 - e) w_k + e/K) log p_k` with the class probabilities w of the label,
    class weights W and label smoothing e.

    Args:
        logits: Class scores `[*, K]`; -inf masks a class, to which nothing is spread.
        target: Class indices `[*]`, or class probabilities `[*, K]` of a floating-point dtype.
        weight: Class weights `[K]`, of at least 0; ones if None.
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
    _check.class_tensors(logits)
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    return label.nll(-axis.log_softmax(at_least_float32(logits)))
