"""The objectives of the seven heads, per instance, without state.

Losses are `[*]`, in nats, computed and returned in float32 at least; nothing is averaged here.
"""

from dropmax.functional.attention import attention_loss
from dropmax.functional.class_dropout import class_dropout_loss
from dropmax.functional.correction import analytic_correction
from dropmax.functional.dropmax import dropmax_objective, posterior_objective
from dropmax.functional.objective import Objective
from dropmax.functional.sampled_softmax import sampled_softmax_loss
from dropmax.functional.softmax import softmax_loss
from dropmax.functional.sparsemax import sparsemax, sparsemax_loss

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
