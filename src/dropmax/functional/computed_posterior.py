"""DropMax's objective under a posterior that is computed from the target and not learned."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dropmax import bernoulli
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.correction import analytic_correction
from dropmax.functional.dropmax import posterior_objective
from dropmax.functional.label import Label
from dropmax.functional.objective import Objective


@torch.no_grad()
def analytic_posterior(
    logits: Tensor, retain_logits: Tensor, target: Tensor, *, axis: ClassAxis = LOCAL
) -> Tensor:
    """Logits of the posterior that `analytic_correction` makes of the prior."""
    correction = analytic_correction(logits, retain_logits, target, axis=axis)
    return at_least_float32(retain_logits) + correction


def computed_posterior_objective(
    posterior_logits: Callable[[Tensor, Tensor, Tensor], Tensor],
    logits: Tensor,
    retain_logits: Tensor,
    label: Label,
    *,
    noise: Tensor | None,
    generator: torch.Generator | None,
    num_samples: int = 1,
    **options: Any,
) -> Objective:
    """The objective of each instance, its posterior computed by `posterior_logits`.

    That function takes logits, retain_logits and class indices. Where the label is one class it is
    called for this class, else for every class as the target once, which costs K times as much.

    Args:
        function: The caller that an error names.
        posterior_logits: Logits of the masks `[*, K]`.
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the prior retain probabilities `[*, K]`.
        label: Of the instances `[*]`.
        noise: Uniforms `[*, K]`, or `[S, *, K]` for S samples > 1; drawn if None.
        generator: The source of the noise.
        num_samples: The number S of masks.
        **options: masks, temperature, floor and plugin_share, as `posterior_objective` takes them.
    """
    noise = bernoulli.uniforms_like(logits, noise, generator, num_samples=num_samples)
    options |= {"num_samples": num_samples, "axis": label.axis}
    targets = label.target
    if not label.is_one_class:
        count = label.axis.num_classes(logits)
        targets = torch.arange(count, device=logits.device)
        targets = targets.reshape(-1, *[1] * (logits.ndim - 1)).expand(count, *logits.shape[:-1])
        logits, retain_logits = (x.expand(count, *x.shape) for x in (logits, retain_logits))
        samples = noise.shape[: num_samples > 1]
        noise = noise.unsqueeze(len(samples)).expand(*samples, *logits.shape)
    # NaN where the target is a class of logit -inf: it has no weight, or the nll is infinite
    posterior = posterior_logits(logits, retain_logits, targets).nan_to_num(nan=0.0)
    found = posterior_objective(
        logits,
        retain_logits,
        posterior,
        targets,
        noise=noise,
        **options,
    )
    if label.is_one_class:
        return Objective(*(label.scaled(term) for term in found))
    nll, kl, neg_entropy, aux = (label.axis.shard(term.movedim(0, -1)) for term in found[1:])
    return Objective.of_terms(
        label.nll(nll), label.expected(kl), label.expected(neg_entropy), label.expected(aux)
    )
