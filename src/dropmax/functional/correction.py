"""The pull of the label on the masks, in closed form to first order."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.masking import logsumexp


@torch.no_grad()
def analytic_correction(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    target: Tensor,
    *,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch K"]:
    """What the label adds to the logits of the masks, to first order; without gradient.

    Given that the target is retained, a rival's posterior log-odds differ from its prior ones by
    log E[1 / (B + a_k)] - log E[1 / B], B the sum of a_j = exp(logits_j) over the other retained
    classes. With E B in the place of B:

        correction_k = -softplus(logits_k - log A_k),
        A_k = a_t + sum over j not in {k, t} of rho_j a_j

    Args:
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the retain probabilities `[*, K]`.
        target: Class indices `[*]`.
        axis: Where the classes live.

    Returns:
        Correction `[*, K]` in nats, never above 0, float32 at least; 0 at the target.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Ours, from the exact posterior `dropmax.predictive.mask_posterior`.

    Examples:
        A rival as likely as the target was probably dropped, an unlikely one says nothing:

        >>> import torch
        >>> from dropmax.functional import analytic_correction
        >>> logits = torch.tensor([4.0, 4.0, -4.0])
        >>> analytic_correction(logits, torch.zeros(3), torch.tensor(0)).exp()
        tensor([1.0000, 0.5000, 0.9998])
    """
    _check.class_tensors(logits, retain_logits=retain_logits)
    _check.class_target(target, logits, axis.num_classes(logits))
    logits, retain_logits = at_least_float32(logits), at_least_float32(retain_logits)
    is_target = axis.one_hot(target.long(), logits)
    weighted = logits + F.logsigmoid(retain_logits).masked_fill(is_target, 0.0)
    log_total = logsumexp(weighted, axis).unsqueeze(-1)
    share = weighted - log_total
    # log(total - own) without cancellation: at most one class has more than 3/4 of the total
    large = share > math.log(0.75)
    others = logsumexp(weighted.masked_fill(large, -math.inf), axis).unsqueeze(-1)
    log_rest = torch.where(large, others, log_total + torch.log1p(-share.exp()))
    return F.logsigmoid(log_rest - logits).masked_fill(is_target, 0.0)
