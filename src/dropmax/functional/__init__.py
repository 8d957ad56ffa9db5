"""The objectives of the seven heads, per instance, without state.

Losses are `[*]`, in nats, computed and returned in float32 at least; nothing is averaged here.
"""

from dropmax.functional.baselines import (
    attention_loss,
    class_dropout_loss,
    sampled_softmax_loss,
    softmax_loss,
    sparsemax,
    sparsemax_loss,
)
from dropmax.functional.correction import analytic_correction
from dropmax.functional.dropmax import dropmax_objective, posterior_objective
from dropmax.functional.objective import Objective

__all__ = [
    "Objective",
    "analytic_correction",
    "attention_loss",
    "class_dropout_loss",
    "dropmax_objective",
    "posterior_objective",
    "sampled_softmax_loss",
    "softmax_loss",
    "sparsemax",
    "sparsemax_loss",
]
