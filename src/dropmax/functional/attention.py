"""Deterministic attention over classes: the gate of DropMax without masks or inference."""

from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.label import Label
from dropmax.functional.terms import plugin_nll


def attention_loss(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    target: Tensor,
    *,
    floor: float = 1e-20,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of the softmax whose exponentials are multiplied by the retain probability.

    `-log p_t` with p_k proportional to (rho_k + floor) exp(logits_k), rho = sigmoid(retain_logits).

    Args:
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the retain probabilities `[*, K]`.
        target: Class indices `[*]`, or class probabilities `[*, K]`: the expectation over them.
        floor: The weight that a class keeps at rho = 0, in [0, 1).
        weight: Class weights `[K]`, of at least 0; ones if None.
        label_smoothing: The share of the label that is spread over all classes, in [0, 1].
        axis: Where the classes live.

    Returns:
        Loss `[*]` in nats, float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        The paper's rival "deterministic attention".

    Examples:
        >>> import torch
        >>> from dropmax.functional import attention_loss
        >>> attention_loss(torch.zeros(2), torch.tensor([50.0, 0.0]), torch.tensor(0))
        tensor(0.4055)
    """
    _check.class_tensors(logits, retain_logits=retain_logits)
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    _check.number("floor", floor, low=0.0, high=1.0, open_high=True)
    logits, retain_logits = at_least_float32(logits), at_least_float32(retain_logits)
    return label.reduced(plugin_nll(logits, retain_logits, label, floor=floor))
