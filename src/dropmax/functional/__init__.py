"""The objectives of the heads, per instance, without state.

Losses are `[*]`, in nats, computed and returned in float32 at least; nothing is averaged here.
"""

from dropmax.functional.baselines import (
    as_softmax_loss,
    attention_loss,
    class_dropout_loss,
    one_vs_rest_loss,
    sampled_softmax_loss,
    sigsoftmax_loss,
    softmax_loss,
    sparsemax,
    sparsemax_loss,
)
from dropmax.functional.dropmax import ObjectiveOptions, dropmax_objective, posterior_objective
from dropmax.functional.posterior import analytic_correction, label_objective
from dropmax.functional.targets import Label, Objective

__all__ = [
    "Label",
    "Objective",
    "ObjectiveOptions",
    "analytic_correction",
    "as_softmax_loss",
    "attention_loss",
    "class_dropout_loss",
    "dropmax_objective",
    "label_objective",
    "one_vs_rest_loss",
    "posterior_objective",
    "sampled_softmax_loss",
    "sigsoftmax_loss",
    "softmax_loss",
    "sparsemax",
    "sparsemax_loss",
]
