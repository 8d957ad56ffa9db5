"""The heads that tests of all heads go through; the objective with its options by name."""

from dataclasses import fields

import dropmax
from dropmax import functional
from dropmax.functional import ObjectiveOptions

MARGINAL = "dropmax_marginal"
MEAN = "dropmax:masks=mean"
VARIANTS = [
    *dropmax.HEADS,
    "dropmax_computed:posterior=analytic",
    MEAN,
    "dropmax:plugin_share=0.5,plugin_focus=1.0",
    "dropmax:gate_rank=2",
]
GATED = [name for name in VARIANTS if name == "attention" or name.startswith("dropmax")]
PLUGIN = ("attention", "dropmax_label", "dropmax_tied")
"""Those with a gate that predict by the plug-in alone."""
SAMPLED = [name for name in GATED if name not in (*PLUGIN, MARGINAL, MEAN)]
"""Those that draw masks of a gate in training."""
RANDOM = [*SAMPLED, "sampled_softmax", "class_dropout"]
MOVING = ("sigsoftmax", "one_vs_rest")
"""Those whose loss and predictions change with a shift of all logits."""
INTEGRALS = (MARGINAL, "dropmax_computed")
"""Those that evaluate an integral at each step, and are slow."""


def dropmax_objective(*scores_and_target, **arguments):
    """`functional.dropmax_objective`, its options among the arguments."""
    names = {field.name for field in fields(ObjectiveOptions)} & arguments.keys()
    options = ObjectiveOptions(**{name: arguments.pop(name) for name in names})
    return functional.dropmax_objective(*scores_and_target, options=options, **arguments)
