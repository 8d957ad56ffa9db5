"""Posteriors of the masks that follow from the label and are not learned, and the objectives."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.dropmax import (
    ObjectiveOptions,
    binary_nll,
    given_objective,
    plugin_nll,
    prior_neg_entropy,
)
from dropmax.functional.masking import logsumexp
from dropmax.functional.targets import Label, Objective, axis_of


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
    _check.class_tensors(logits, axis, retain_logits=retain_logits)
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


@torch.no_grad()
def analytic_posterior(
    logits: Tensor, retain_logits: Tensor, target: Tensor, *, axis: ClassAxis = LOCAL
) -> Tensor:
    """Logits of the posterior that `analytic_correction` makes of the prior."""
    correction = analytic_correction(logits, retain_logits, target, axis=axis)
    return at_least_float32(retain_logits) + correction


def computed_posterior_objective(
    posterior_logits: Callable[..., Tensor],
    logits: Tensor,
    retain_logits: Tensor,
    label: Label,
    options: ObjectiveOptions,
    noise: Tensor | None,
) -> Objective:
    """The objective of each instance, its posterior computed by `posterior_logits`.

    That function takes logits, retain_logits, class indices and the axis. Where the label is one
    class it is called for this class, else for every class as the target once, which costs K times
    as much.

    Args:
        posterior_logits: Logits of the masks `[*, K]`.
        logits: Class scores `[*, K]`.
        retain_logits: Logits of the prior retain probabilities `[*, K]`.
        label: Of the instances `[*]`.
        options: As `posterior_objective` takes them.
        noise: Uniforms of the classes of this process `[*, K]`, or `[S, *, K]` for S samples > 1.
    """
    targets = label.target
    if not label.is_one_class:
        count = label.axis.num_classes(logits)
        targets = torch.arange(count, device=logits.device)
        targets = targets.reshape(-1, *[1] * (logits.ndim - 1)).expand(count, *logits.shape[:-1])
        logits, retain_logits = (x.expand(count, *x.shape) for x in (logits, retain_logits))
        if noise is not None:
            samples = noise.shape[: options.num_samples > 1]
            noise = noise.unsqueeze(len(samples)).expand(*samples, *logits.shape)
    # NaN where the target is a class of logit -inf: it has no weight, or the nll is infinite
    posterior = posterior_logits(logits, retain_logits, targets, axis=label.axis)
    posterior = posterior.nan_to_num(nan=0.0)
    plain = Label(targets, axis=label.axis)
    found = given_objective(logits, retain_logits, posterior, plain, options, noise)
    if label.is_one_class:
        return Objective(*(label.scaled(term) for term in found))
    whole = label.axis.spread(*(term.movedim(0, -1) for term in found[1:]))
    nll, kl, neg_entropy, aux = map(label.axis.shard, whole)
    return Objective.of_terms(
        label.nll(nll), label.expected(kl), label.expected(neg_entropy), label.expected(aux)
    )


def label_objective(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    target: Tensor | Label,
    *,
    floor: float = 1e-20,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    axis: ClassAxis = LOCAL,
) -> Objective:
    """DropMax without noise: the label itself is the posterior, and the plug-in is what learns it.

    The posterior retains the target and drops every rival. With rho = sigmoid(retain_logits):

        nll         = -log p_t,  p_k proportional to (rho_k + floor) exp(logits_k)
        kl          = -log rho_t - sum over k != t of log(1 - rho_k)
        neg_entropy = sum over k of rho_k log rho_k + (1 - rho_k) log(1 - rho_k)

    and aux = 0. `kl` is the divergence from this posterior to the prior of the masks. Gradients
    flow into rho from all three.

    Args:
        logits: Class scores `[*, K]`; a class of logit -inf is masked: no target, and no rival in
            the nll.
        retain_logits: Logits of the retain probabilities `[*, K]`.
        target: Class indices `[*]`, or class probabilities `[*, K]`: the expectation over them.
        floor: The weight that a class keeps at rho = 0, in [0, 1).
        weight: Class weights `[K]`, of at least 0; ones if None.
        label_smoothing: The share of the label that the nll spreads over all classes, in [0, 1].
        axis: Where the classes live.

    Returns:
        `Objective` of tensors `[*]` in nats, before any weights of the terms; float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Ours: the objective of Lee et al. 2018 with this posterior, and the plug-in in the place of
        the masked softmax.

    Examples:
        >>> import torch
        >>> from dropmax.functional import label_objective
        >>> objective = label_objective(torch.zeros(2), torch.zeros(2), torch.tensor(0))
        >>> for name, term in objective._asdict().items():
        ...     print(f"{name:11} {term.item():7.4f}")
        total        0.6931
        nll          0.6931
        kl           1.3863
        neg_entropy -1.3863
        aux          0.0000
    """
    _check.class_tensors(logits, axis_of(target, axis), retain_logits=retain_logits)
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    _check.number("floor", floor, low=0.0, high=1.0, open_high=True)
    logits, retain_logits = at_least_float32(logits), at_least_float32(retain_logits)
    return Objective.of_terms(
        label.reduced(plugin_nll(logits, retain_logits, label, floor=floor)),
        binary_nll(retain_logits, label),
        prior_neg_entropy(retain_logits, label),
        logits.new_zeros(logits.shape[:-1]),
    )
