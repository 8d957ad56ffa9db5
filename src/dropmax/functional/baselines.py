"""The losses of the baselines: what DropMax is compared with, per instance, without state."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dropmax import _check, bernoulli
from dropmax._check import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.dropmax import binary_nll, plugin_nll
from dropmax.functional.masking import nll_of_each_class, retained_logits, self_gated_logits
from dropmax.functional.targets import Label, axis_of


def softmax_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor | Label,
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
    _check.class_tensors(logits, axis_of(target, axis))
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    logits = at_least_float32(logits)
    if label.is_one_class:
        return label.scaled(label.axis.cross_entropy(logits, label.target))
    return label.nll(-label.axis.log_softmax(logits))


def _shifted(logits: Float[Tensor, "*batch K"], axis: ClassAxis) -> Float[Tensor, "*batch K"]:
    """Logits with their maximum moved to 0, so that large ones lose no digits."""
    return logits - axis.amax(logits).unsqueeze(-1)


def _support(logits: Float[Tensor, "*batch K"], axis: ClassAxis) -> Bool[Tensor, "*batch K"]:
    """The classes of positive probability: Algorithm 1 of Martins & Astudillo 2016."""
    rows = axis.gather(logits.detach())
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
    _check.class_tensors(logits, axis)
    logits = _shifted(at_least_float32(logits), axis)
    support = _support(logits, axis)
    (threshold,) = axis.spread(_threshold(logits, support, axis).unsqueeze(-1))
    return torch.where(support, logits - threshold, 0.0)


def sparsemax_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor | Label,
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
    _check.class_tensors(logits, axis_of(target, axis))
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    axis = label.axis
    logits = _shifted(at_least_float32(logits), axis)
    support = _support(logits, axis)
    (threshold,) = axis.spread(_threshold(logits, support, axis).unsqueeze(-1))
    excess = torch.where(support, logits - threshold, 0.0)
    conjugate = 0.5 * axis.sum(excess * (excess + 2.0 * threshold)) + 0.5
    (conjugate,) = axis.spread(conjugate.unsqueeze(-1))
    return label.nll(conjugate - logits)


def sampled_softmax_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor | Label,
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
    _check.class_tensors(logits, axis_of(target, axis))
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    axis = label.axis
    _check.number("sampled_share", sampled_share, low=0.0, high=1.0, open_low=True)
    if log_proposal is not None:
        _check.log_proposal(log_proposal, logits, axis.num_classes(logits))
        log_proposal = axis.shard(log_proposal)
    logits = at_least_float32(logits)
    noise = bernoulli.uniforms_like(logits, noise, generator, axis=axis)
    keys = -torch.log(-torch.log(noise))
    if log_proposal is not None:
        logits = logits - log_proposal
        keys = keys + log_proposal
    num_classes = axis.num_classes(logits)
    num_negatives = min(num_classes - 1, max(1, round(sampled_share * (num_classes - 1))))
    if label.is_one_class:
        is_target = axis.one_hot(label.target, logits)
        drawn = _largest(keys.masked_fill(is_target, -math.inf), num_negatives, axis)
        retained = retained_logits(logits, drawn | is_target)
        return label.scaled(axis.cross_entropy(retained, label.target))
    drawn = _largest(keys, num_negatives, axis)
    # a target that would have been drawn as a rival leaves its place to the next class
    next_drawn = _largest(keys.masked_fill(drawn, -math.inf), 1, axis)
    (next_logit,) = axis.spread(axis.sum(logits.masked_fill(~next_drawn, 0.0)).unsqueeze(-1))
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


def class_dropout_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor | Label,
    *,
    retain_prob: float = 0.5,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """Cross-entropy among the target and the rivals that a random mask retains.

    `-log p_t` of the softmax over {t} and {k : z_k = 1}, z_k ~ Bernoulli(retain_prob), which is
    z_k = [u_k > 1 - retain_prob] under uniform noise u, as in DropMax.

    Args:
        logits: Class scores `[*, K]`.
        target: Class indices `[*]`, or class probabilities `[*, K]`: the expectation over
            them. The target is always retained.
        retain_prob: The probability with which a rival is retained, in (0, 1].
        weight: Class weights `[K]`, of at least 0; ones if None.
        label_smoothing: The share of the label that is spread over all classes, in [0, 1].
        noise: Uniforms in (0, 1) `[*, K]`, float32 or float64; drawn if None.
        generator: The source of the noise; the default one if None.
        axis: Where the classes live.

    Returns:
        Loss `[*]` in nats, float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        The paper's baseline "class dropout" (random masks at a fixed rate).

    Examples:
        >>> import torch
        >>> from dropmax.functional import class_dropout_loss
        >>> noise = torch.tensor([0.1, 0.9, 0.1])
        >>> class_dropout_loss(torch.zeros(3), torch.tensor(0), noise=noise)
        tensor(0.6931)
    """
    _check.class_tensors(logits, axis_of(target, axis))
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    axis = label.axis
    _check.number("retain_prob", retain_prob, low=0.0, high=1.0, open_low=True)
    logits = at_least_float32(logits)
    noise = bernoulli.uniforms_like(logits, noise, generator, axis=axis)
    kept = noise > 1.0 - retain_prob
    if label.is_one_class:
        kept = kept | axis.one_hot(label.target, logits)
        return label.scaled(axis.cross_entropy(retained_logits(logits, kept), label.target))
    masked, dropped = retained_logits(logits, kept), retained_logits(logits, ~kept)
    return label.nll(nll_of_each_class(masked, dropped, logits, axis))


def attention_loss(
    logits: Float[Tensor, "*batch K"],
    retain_logits: Float[Tensor, "*batch K"],
    target: Tensor | Label,
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
        The paper's baseline "deterministic attention".

    Examples:
        >>> import torch
        >>> from dropmax.functional import attention_loss
        >>> attention_loss(torch.zeros(2), torch.tensor([50.0, 0.0]), torch.tensor(0))
        tensor(0.4055)
    """
    _check.class_tensors(logits, axis_of(target, axis), retain_logits=retain_logits)
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    _check.number("floor", floor, low=0.0, high=1.0, open_high=True)
    logits, retain_logits = at_least_float32(logits), at_least_float32(retain_logits)
    return label.reduced(plugin_nll(logits, retain_logits, label, floor=floor))


def sigsoftmax_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor | Label,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of sigsoftmax, whose exponentials are multiplied by the sigmoid of the logit.

    `-log p_t` with p_k proportional to exp(logits_k) sigmoid(logits_k): the attention loss with
    retain_logits = logits, so the gate is tied to the score. A shift of the logits changes it.

    Args:
        logits: Class scores `[*, K]`; -inf masks a class, to which nothing is spread.
        target: Class indices `[*]`, or class probabilities `[*, K]`: the expectation over them.
        weight: Class weights `[K]`, of at least 0; ones if None.
        label_smoothing: The share of the label that is spread over all classes, in [0, 1].
        axis: Where the classes live.

    Returns:
        Loss `[*]` in nats, float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Kanai et al. 2018, "Sigsoftmax: Reanalysis of the Softmax Bottleneck", arXiv 1805.10829.

    Examples:
        >>> import torch
        >>> from dropmax.functional import sigsoftmax_loss
        >>> sigsoftmax_loss(torch.tensor([1.0, 0.0]), torch.tensor(0))
        tensor(0.2244)
    """
    _check.class_tensors(logits, axis_of(target, axis))
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    return softmax_loss(self_gated_logits(at_least_float32(logits)), label)


def as_softmax_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor | Label,
    *,
    delta: float = 0.1,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """Cross-entropy among the target and the rivals that are not far less probable than it.

    `-log p_t` of the softmax over {k : z_k = 1}, with z_k = [p_k > p_t - delta] of the plain
    softmax p, which is held fixed. So the loss is 0 where the target leads every rival by delta.

    Args:
        logits: Class scores `[*, K]`; -inf masks a class, to which nothing is spread.
        target: Class indices `[*]`, or class probabilities `[*, K]`: the expectation over them,
            each with its own masks, in O(K log K).
        delta: How far below the target's the probability of a rival is at which it is dropped, in
            (0, 1]; 1 is softmax.
        weight: Class weights `[K]`, of at least 0; ones if None.
        label_smoothing: The share of the label that is spread over all classes, in [0, 1].
        axis: Where the classes live.

    Returns:
        Loss `[*]` in nats, float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Lv et al. 2025, "Adaptive Sparse Softmax", arXiv 2508.03175.

    Examples:
        The last class is dropped, and the first two are alike:

        >>> import torch
        >>> from dropmax.functional import as_softmax_loss
        >>> as_softmax_loss(torch.tensor([2.0, 2.0, 0.0]), torch.tensor(0))
        tensor(0.6931)
    """
    _check.class_tensors(logits, axis_of(target, axis))
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    axis = label.axis
    _check.number("delta", delta, low=0.0, high=1.0, open_low=True)
    logits = at_least_float32(logits)
    probs = axis.log_softmax(logits.detach()).exp()
    # a delta that rounding would lose would drop the target, too
    least = probs - max(delta, torch.finfo(probs.dtype).eps)
    if label.is_one_class:
        retained = probs > axis.pick(least, label.target).unsqueeze(-1)
        return label.scaled(axis.cross_entropy(retained_logits(logits, retained), label.target))
    shifted = _shifted(logits, axis)
    return label.nll(_log_sum_above(least, probs, shifted, axis) - shifted)


def _log_sum_above(
    least: Float[Tensor, "*batch K"],
    probs: Float[Tensor, "*batch K"],
    logits: Float[Tensor, "*batch K"],
    axis: ClassAxis,
) -> Float[Tensor, "*batch K"]:
    """For each class k the log of the sum of exp(logits_j) over {j : probs_j > least_k}."""
    descending, order = probs.sort(-1, descending=True)
    of_largest = F.pad(logits.exp().gather(-1, order).cumsum(-1), (1, 0))
    # every process counts its own classes for those of all
    count = torch.searchsorted(-descending, -axis.gather(least).contiguous())
    (total,) = axis.spread(axis.sum(of_largest.gather(-1, count).unsqueeze(-1)))
    return axis.shard(total).log()


def one_vs_rest_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor | Label,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """Sum of K binary cross-entropies: each class against all others.

    `-log sigmoid(logits_t) - sum over k != t of log(1 - sigmoid(logits_k))`. It is the negative
    log-likelihood of K answers, yes or no, and not of one class among K.

    Args:
        logits: Class scores `[*, K]`; -inf masks a class, to which nothing is spread.
        target: Class indices `[*]`, or class probabilities `[*, K]`: the expectation over them.
        weight: Class weights `[K]`, of at least 0; ones if None.
        label_smoothing: The share of the label that is spread over all classes, in [0, 1].
        axis: Where the classes live.

    Returns:
        Loss `[*]` in nats, float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        Rifkin & Klautau 2004, "In Defense of One-Vs-All Classification"; with the logistic loss
        as in Padhy et al. 2020, arXiv 2007.05134.

    Examples:
        >>> import torch
        >>> from dropmax.functional import one_vs_rest_loss
        >>> one_vs_rest_loss(torch.zeros(3), torch.tensor(0))
        tensor(2.0794)
    """
    _check.class_tensors(logits, axis_of(target, axis))
    label = Label.of(target, logits, weight=weight, label_smoothing=label_smoothing, axis=axis)
    axis = label.axis
    logits = at_least_float32(logits)
    if label.is_one_class:
        return binary_nll(logits, label)
    # -log sigmoid(x) = -log sigmoid(-x) - x, so class k as the target adds -logits_k alone
    (of_rivals,) = axis.spread(axis.sum(-F.logsigmoid(-logits)).unsqueeze(-1))
    return label.nll(of_rivals - logits)
