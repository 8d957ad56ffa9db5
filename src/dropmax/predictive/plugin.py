"""The predictive of the paper: the retain probability in place of the mask."""

from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.masking import gated_logits


def plugin(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    *,
    floor: float = 1e-20,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch K"]:
    """Log-probabilities with the retain probability rho in place of the mask.

    `log_softmax(logits + log(rho + floor))`, rho = sigmoid(retain_logits).

    Args:
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the retain probabilities `[*, K]`.
        floor: The weight that a class keeps at rho = 0, in [0, 1).
        axis: Where the classes live.

    Returns:
        Log-probabilities `[*, K]` in nats, in the dtype of `logits`.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Lee et al. 2018, prediction, and the authors' code.

    Examples:
        >>> import torch
        >>> from dropmax.predictive import plugin
        >>> plugin(torch.zeros(2), torch.tensor([50.0, 0.0])).exp()
        tensor([0.6667, 0.3333])
    """
    _check.class_tensors(logits, retain_logits=retain_logits)
    _check.number("floor", floor, low=0.0, high=1.0, open_high=True)
    gated = gated_logits(at_least_float32(logits), at_least_float32(retain_logits), floor)
    return axis.log_softmax(gated).to(logits.dtype)
