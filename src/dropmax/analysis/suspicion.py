"""Instances to look at: labels that are likely wrong, and instances of no known class."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax.analysis.gates import gate_of
from dropmax.axis import LOCAL
from dropmax.heads import Scores


class Suspicion(NamedTuple):
    """How suspect an instance is, each `[*]`, from three sources; larger is more suspect.

    Attributes:
        logits: From the class scores alone, as from a softmax.
        gate: From the retain probabilities alone.
        both: From what the plug-in makes of them, p_k proportional to rho_k exp(logits_k).
    """

    logits: Float[Tensor, "*batch"]
    gate: Float[Tensor, "*batch"]
    both: Float[Tensor, "*batch"]


@torch.no_grad()
def label_suspicion(scores: Scores, target: Int[Tensor, "*batch"]) -> Suspicion:
    """How much the given labels look wrong: how little the model believes them.

        logits = -log softmax(logits)_t     gate = -retain_logits_t     both = -log p_t

    Args:
        scores: What a head with a gate returned, each `[*, K]`. Take rows that it was not trained
            on, as it has learned the wrong labels of the others, too.
        target: The given labels, class indices `[*]`.

    Raises:
        ValueError: If the scores have no gate, or a shape, dtype or value does not fit.

    Examples:
        >>> import torch
        >>> import dropmax
        >>> from dropmax.analysis import label_suspicion
        >>> scores = dropmax.Scores(torch.zeros(2, 2), torch.tensor([[3.0, -3.0], [3.0, -3.0]]))
        >>> label_suspicion(scores, torch.tensor([0, 1])).gate
        tensor([-3.,  3.])
    """
    logits, retain_logits = _gated(scores)
    _check.class_target(target, scores.logits, logits.shape[-1])
    target = target.long()
    both = logits + F.logsigmoid(retain_logits)
    return Suspicion(
        -LOCAL.pick(logits.log_softmax(-1), target),
        -LOCAL.pick(retain_logits, target),
        -LOCAL.pick(both.log_softmax(-1), target),
    )


@torch.no_grad()
def scope_suspicion(scores: Scores) -> Suspicion:
    """How much an instance looks like none of the classes: how little speaks for any of them.

        logits = -log sum exp(logits_k)     gate = -max retain_logits_k
        both = -log sum rho_k exp(logits_k)

    Args:
        scores: What a head with a gate returned, each `[*, K]`.

    Raises:
        ValueError: If the scores have no gate.

    Source:
        Liu et al. 2020, "Energy-based Out-of-distribution Detection", for the logits; ours with
        the gate.

    Examples:
        >>> import torch
        >>> import dropmax
        >>> from dropmax.analysis import scope_suspicion
        >>> scores = dropmax.Scores(torch.tensor([[4.0, 0.0], [0.0, 0.0]]), torch.zeros(2, 2))
        >>> known, unknown = scope_suspicion(scores).logits
        >>> bool(unknown > known)
        True
    """
    logits, retain_logits = _gated(scores)
    both = logits + F.logsigmoid(retain_logits)
    return Suspicion(-logits.logsumexp(-1), -retain_logits.amax(-1), -both.logsumexp(-1))


def _gated(scores: Scores) -> tuple[Tensor, Tensor]:
    retain_logits = gate_of(scores)
    return at_least_float32(scores.logits.detach()), at_least_float32(retain_logits)
