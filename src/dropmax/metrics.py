"""How good log-probabilities are, and how healthy a gate is."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax.axis import LOCAL
from dropmax.functional.dropmax import corrected_logits
from dropmax.heads import Scores

__all__ = [
    "Coverage",
    "Detection",
    "GateHealth",
    "Metrics",
    "Reliability",
    "coverage",
    "detection",
    "error_interval",
    "evaluate",
    "gate_health",
    "reliability",
]

PROB_FLOOR = 1e-12
"""The least probability that the NLL gives a target: an exact zero has no finite logarithm."""

CALIBRATION_BINS = 15

NORMAL = 1.959963984540054
"""Standard deviations of a 95 % interval of a normal distribution."""

SATURATED = 0.01
"""A gate is saturated where its retain probability is within this of 0 or 1."""


class Metrics(NamedTuple):
    """Scores of a classifier over a data set.

    Attributes:
        error: Share of instances whose most probable class is not the target, in percent.
        nll: Mean negative log-likelihood in nats, probabilities floored at 1e-12.
        floored: Share of instances whose target was below that floor, in percent.
        ece: Expected calibration error, in percent: the mean distance between confidence and
            accuracy in the 15 bins of `reliability`, weighted by their instances.
        brier: Mean over instances of the squared distance to the one-hot target, 0 to 2.
    """

    error: float
    nll: float
    floored: float
    ece: float
    brier: float


class GateHealth(NamedTuple):
    """What the gate does to a batch.

    Attributes:
        target_retain: Mean retain probability of the target.
        rival_retain: Mean retain probability of the other classes.
        rivals_retained: Rivals that a training mask retains, on average over instances.
        saturated: Share of gates whose retain probability is below 0.01 or above 0.99, in percent.
    """

    target_retain: float
    rival_retain: float
    rivals_retained: float
    saturated: float


class Detection(NamedTuple):
    """How well a score tells two kinds of instances apart.

    Attributes:
        auroc: Chance that an instance to be found has the higher score, in percent.
        fpr95: Share of the others above the threshold that finds 95 % of them, in percent.
    """

    auroc: float
    fpr95: float


class Coverage(NamedTuple):
    """The error of a classifier that answers where it is sure alone.

    Attributes:
        coverage: Share of instances answered, the surest ones, in percent `[N]`.
        error: Error among them, in percent `[N]`.
        area: The mean of `error`, in percent: lower is better.
    """

    coverage: Tensor
    error: Tensor
    area: float


def evaluate(log_probs: Float[Tensor, "N K"], target: Tensor) -> Metrics:
    """Error, NLL, calibration and Brier score of log-probabilities.

    Args:
        log_probs: Log-probabilities `[N, K]`, normalized; -inf is probability 0.
        target: Class indices `[N]`.

    Returns:
        `Metrics`, in the units it states.

    Raises:
        ValueError: If a shape, dtype or value does not fit, or there are no instances.

    Examples:
        >>> import torch
        >>> from dropmax.metrics import evaluate
        >>> log_probs = torch.tensor([[0.9, 0.1], [0.6, 0.4]]).log()
        >>> metrics = evaluate(log_probs, torch.tensor([0, 1]))
        >>> print(f"{metrics.error:.0f} % {metrics.nll:.3f} nats {metrics.brier:.2f}")
        50 % 0.511 nats 0.37
    """
    with _check.extra("train"):
        from torchmetrics.functional.classification import multiclass_stat_scores

    _check_rows(log_probs, target)
    probs = log_probs.detach().double().exp()
    target = target.long()
    num_classes = probs.shape[-1]
    at_target, bins = LOCAL.pick(probs, target), reliability(log_probs, target)
    *_, missed, support = multiclass_stat_scores(
        probs, target, num_classes, average="micro"
    ).tolist()
    residual = probs - LOCAL.one_hot(target, probs).double()
    return Metrics(
        error=100.0 * missed / support,
        nll=float(-at_target.clamp(min=PROB_FLOOR).log().mean()),
        floored=100.0 * float((at_target < PROB_FLOOR).double().mean()),
        ece=bins.calibration_error,
        brier=float(residual.square().sum(-1).mean()),
    )


class Reliability(NamedTuple):
    """How right a classifier is where it says how sure it is, a tuple of 15 bins each.

    An edge belongs to the bin above it, and 1 to the last bin.

    Attributes:
        instances: Those whose highest probability falls into the bin, of equal width from 0 to 1.
        confidence: Their mean highest probability; 0 in an empty bin.
        accuracy: The share of them that is right; 0 in an empty bin.
    """

    instances: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]

    @property
    def calibration_error(self) -> float:
        """The mean distance between confidence and accuracy, in percent."""
        bins = zip(self.instances, self.confidence, self.accuracy, strict=True)
        far = sum(count * abs(accuracy - confidence) for count, confidence, accuracy in bins)
        return 100.0 * (far / sum(self.instances))


def reliability(log_probs: Float[Tensor, "N K"], target: Tensor) -> Reliability:
    """The bins of a reliability diagram, those of `evaluate`'s calibration error.

    Args:
        log_probs: Log-probabilities `[N, K]`, normalized; -inf is probability 0.
        target: Class indices `[N]`.

    Returns:
        `Reliability`.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Examples:
        >>> import torch
        >>> from dropmax.metrics import reliability
        >>> log_probs = torch.tensor([[0.9, 0.1], [0.6, 0.4]]).log()
        >>> bins = reliability(log_probs, torch.tensor([0, 1]))
        >>> bins.instances[9], bins.accuracy[9], bins.instances[13], bins.accuracy[13]
        (1, 0.0, 1, 1.0)
    """
    _check.class_tensors(log_probs)
    _check.class_target(target, log_probs, log_probs.shape[-1])
    confidence, predicted = log_probs.detach().double().exp().max(-1)
    right = (predicted == target).double()
    bin_of = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    count = bin_of.bincount(minlength=CALIBRATION_BINS)
    filled = count.clamp(min=1)
    mean_confidence = bin_of.bincount(confidence, minlength=CALIBRATION_BINS) / filled
    accuracy = bin_of.bincount(right, minlength=CALIBRATION_BINS) / filled
    return Reliability(
        tuple(count.tolist()), tuple(mean_confidence.tolist()), tuple(accuracy.tolist())
    )


def error_interval(error: float, count: int) -> tuple[float, float]:
    """The 95 % interval of an error over the instances it was measured on, in percent.

    Args:
        error: In percent, of independent instances.
        count: The number of instances, at least 1.

    Raises:
        ValueError: If the error is no percentage, or the count is below 1.

    Source:
        Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".

    Examples:
        >>> from dropmax.metrics import error_interval
        >>> low, high = error_interval(10.0, 100)
        >>> round(low, 1), round(high, 1)
        (5.5, 17.4)
    """
    _check.number("error", error, low=0.0, high=100.0)
    _check.integer("count", count, low=1)
    wrong, square = error / 100.0, NORMAL**2
    middle = (wrong + square / (2 * count)) / (1 + square / count)
    half = (wrong * (1 - wrong) / count + square / (4 * count**2)) ** 0.5
    half *= NORMAL / (1 + square / count)
    return 100.0 * max(middle - half, 0.0), 100.0 * min(middle + half, 1.0)


def detection(score: Float[Tensor, " N"], wanted: Tensor) -> Detection:
    """How well a score finds the instances that are wanted.

    Args:
        score: Larger where an instance is more likely wanted `[N]`; ties count half.
        wanted: Which are, booleans `[N]`.

    Raises:
        ValueError: If a shape or dtype does not fit, or one of the two kinds is absent.

    Examples:
        >>> import torch
        >>> from dropmax.metrics import detection
        >>> detection(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([True, False, False])).auroc
        100.0
    """
    with _check.extra("train"):
        from torchmetrics.functional.classification import binary_auroc, binary_roc

    if wanted.dtype != torch.bool or wanted.shape != score.shape:
        must = f"be booleans {list(score.shape)}"
        _check.fail("wanted", must, wanted, "pass which instances are wanted")
    if score.isnan().any():
        _check.fail("score", "hold numbers", score, "leave out what is NaN")
    if wanted.all() or not wanted.any():
        got = _check.Verbatim("one kind alone")
        _check.fail("wanted", "hold both kinds", got, "pass both")
    _, ranks = torch.unique(score, return_inverse=True)  # torchmetrics takes scores from 0 to 1
    share = ranks.double() / max(int(ranks.max()), 1)
    false, true, _ = binary_roc(share, wanted.long())
    auroc = binary_auroc(share, wanted.long())
    return Detection(100.0 * auroc.item(), 100.0 * false[true >= 0.95].min().item())


def coverage(log_probs: Float[Tensor, "N K"], target: Tensor) -> Coverage:
    """The error against the share of instances answered, the surest first, equal ones mixed.

    Args:
        log_probs: Log-probabilities `[N, K]`.
        target: Class indices `[N]`.

    Raises:
        ValueError: If a shape, dtype or value does not fit, or there are no instances.

    Examples:
        >>> import torch
        >>> from dropmax.metrics import coverage
        >>> log_probs = torch.tensor([[0.9, 0.1], [0.6, 0.4]]).log()
        >>> coverage(log_probs, torch.tensor([0, 1])).error
        tensor([ 0., 50.])
    """
    _check_rows(log_probs, target)
    sure, answers = log_probs.max(-1)
    _, group, size = torch.unique(-sure, return_inverse=True, return_counts=True)
    wrong = torch.zeros_like(size).index_add_(0, group, (answers != target).long())
    wrong = (wrong / size).repeat_interleave(size)  # equally sure ones share their errors
    answered = torch.arange(1, len(target) + 1, device=wrong.device)
    error = 100.0 * wrong.cumsum(0) / answered
    return Coverage(100.0 * answered / len(target), error, error.mean().item())


def gate_health(
    scores: Scores, target: Tensor, *, posterior_logits: Float[Tensor, "*batch K"] | None = None
) -> GateHealth:
    """Retain probabilities of targets and rivals, and how many rivals training retains.

    Args:
        scores: What a head with a gate returned, each `[N, K]`.
        target: Class indices `[N]`.
        posterior_logits: Of the masks that training draws `[N, K]`, as `head.posterior_logits`
            gives them; if None the retain logits with the correction, where there is one.

    Returns:
        `GateHealth`, in the units it states.

    Raises:
        ValueError: If the scores have no gate, a single class or no instances, or do not fit.

    Examples:
        >>> import torch
        >>> from dropmax import Scores
        >>> from dropmax.metrics import gate_health
        >>> scores = Scores(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -50.0]]))
        >>> print(f"{gate_health(scores, torch.tensor([0])).rivals_retained:.2f}")
        0.50
    """
    retain_logits = scores.retain_logits
    if retain_logits is None:
        remedy = "ask for it of attention and DropMax heads alone"
        _check.fail("scores.retain_logits", "be given", None, remedy)
    _check.class_tensors(scores.logits, retain_logits=retain_logits)
    _check.class_target(target, scores.logits, scores.logits.shape[-1])
    if scores.logits.shape[-1] < 2 or target.numel() == 0:
        must = "have two classes or more and at least one instance"
        _check.fail("scores", must, scores.logits, "leave it out there")
    retain_logits = retain_logits.detach().double()
    if posterior_logits is None:
        posterior_logits = corrected_logits(retain_logits, scores.correction_logits)
    if not isinstance(posterior_logits, Tensor) or posterior_logits.shape != retain_logits.shape:
        must = f"be {list(retain_logits.shape)}, like the scores"
        remedy = "pass what head.posterior_logits returned"
        _check.fail("posterior_logits", must, posterior_logits, remedy, of=Tensor)
    retain = retain_logits.sigmoid()
    is_target = LOCAL.one_hot(target.long(), retain)
    rivals_retained = (
        posterior_logits.detach().double().sigmoid().masked_fill(is_target, 0.0).sum(-1)
    )
    saturated = (retain < SATURATED) | (retain > 1.0 - SATURATED)
    return GateHealth(
        target_retain=float(retain[is_target].mean()),
        rival_retain=float(retain[~is_target].mean()),
        rivals_retained=float(rivals_retained.mean()),
        saturated=100.0 * float(saturated.double().mean()),
    )


def _check_rows(log_probs: Tensor, target: Tensor) -> None:
    """Log-probabilities of instances and their classes, of one instance at least."""
    _check.class_tensors(log_probs)
    _check.class_target(target, log_probs, log_probs.shape[-1])
    if log_probs.ndim != 2 or len(target) == 0:
        must = "be [N, K] with at least one instance"
        _check.fail("log_probs", must, log_probs, "pass all instances at once")
