"""Which classes a gate keeps, for which it keeps them, and where it hesitates."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from dropmax import _check, bernoulli
from dropmax._check import at_least_float32
from dropmax.heads import Scores


class Retained(NamedTuple):
    """The classes most surely retained, for each instance.

    Attributes:
        classes: Class indices `[*, k]`, the most surely retained first.
        probabilities: Their retain probabilities `[*, k]`.
    """

    classes: Int[Tensor, "*batch k"]
    probabilities: Float[Tensor, "*batch k"]


def gate_of(scores: Scores) -> Float[Tensor, "*batch K"]:
    """The retain logits of scores that have a gate."""
    if not isinstance(scores, Scores):
        remedy = "pass what the head returned"
        _check.fail("scores", "be Scores", scores, remedy, of=Scores)
    if scores.retain_logits is None:
        remedy = "ask it of a DropMax head"
        _check.fail("scores.retain_logits", "be given", None, remedy)
    _check.class_tensors(scores.logits, retain_logits=scores.retain_logits)
    return scores.retain_logits.detach()


def retained_classes(scores: Scores, *, k: int) -> Retained:
    """The k classes that the gate keeps most surely, for each instance.

    Args:
        scores: What a head with a gate returned, each `[*, K]`.
        k: The number of classes; all K if there are fewer.

    Raises:
        ValueError: If the scores have no gate, or k is below 1.

    Examples:
        >>> import torch
        >>> import dropmax
        >>> from dropmax.analysis import retained_classes
        >>> scores = dropmax.Scores(torch.zeros(1, 3), torch.tensor([[-2.0, 2.0, 0.0]]))
        >>> retained_classes(scores, k=2).classes
        tensor([[1, 2]])
    """
    retain_logits = gate_of(scores)
    _check.integer("k", k, low=1)
    found, classes = retain_logits.topk(min(k, retain_logits.shape[-1]), dim=-1)
    return Retained(classes, found.sigmoid())


def kept_for(scores: Scores, target: Int[Tensor, " N"]) -> Float[Tensor, "K K"]:
    """Which classes compete: how often the gate keeps class j for the instances of class i.

    That is the mean of the retain probability rho_j over the instances of class i.

    Args:
        scores: What a head with a gate returned, each `[N, K]`.
        target: Class indices `[N]`.

    Returns:
        Probabilities `[K, K]`, with row i for the class and column j for what is kept. The row of
        a class without instances is NaN.

    Raises:
        ValueError: If the scores have no gate, or a shape, dtype or value does not fit.

    Examples:
        >>> import torch
        >>> import dropmax
        >>> from dropmax.analysis import kept_for
        >>> scores = dropmax.Scores(torch.zeros(2, 2), torch.tensor([[0.0, 50.0], [0.0, -50.0]]))
        >>> kept_for(scores, torch.tensor([0, 0]))
        tensor([[0.5000, 0.5000],
                [   nan,    nan]])
    """
    retain = at_least_float32(gate_of(scores)).sigmoid()
    if retain.ndim != 2:
        _check.fail("scores", "be rows [N, K]", retain, "flatten the batch axes")
    num_classes = retain.shape[-1]
    _check.class_target(target, scores.logits, num_classes)
    sums = retain.new_zeros(num_classes, num_classes).index_add_(0, target.long(), retain)
    return sums / target.bincount(minlength=num_classes).unsqueeze(-1)


def hesitation(scores: Scores) -> Float[Tensor, "*batch K"]:
    """How undecided the gate is about each class: the entropy of its mask, at most log 2 nats.

    The mean over instances tells you at which classes the gate hesitates. The sum over classes
    tells you at which instances.

    Args:
        scores: What a head with a gate returned, each `[*, K]`.

    Raises:
        ValueError: If the scores have no gate.

    Examples:
        >>> import torch
        >>> import dropmax
        >>> from dropmax.analysis import hesitation
        >>> scores = dropmax.Scores(torch.zeros(2), torch.tensor([0.0, 9.0]))
        >>> hesitation(scores)
        tensor([0.6931, 0.0012])
    """
    return -bernoulli.neg_entropy(gate_of(scores))
