"""The heads that tests of all heads go through: those of HEADS, and DropMax's other objectives."""

import dropmax

MARGINAL = "dropmax:objective=marginal"
MEAN = "dropmax:masks=mean"
VARIANTS = [
    *dropmax.HEADS,
    MARGINAL,
    "dropmax:posterior=exact",
    "dropmax:posterior=analytic",
    MEAN,
    "dropmax:plugin_share=0.5,plugin_focus=1.0",
    "dropmax:gate_rank=2",
]
GATED = [name for name in VARIANTS if name == "attention" or name.startswith("dropmax")]
RANDOM = [name for name in GATED if name not in ("attention", MARGINAL, MEAN)]
RANDOM += ["sampled_softmax", "class_dropout"]
INTEGRALS = (MARGINAL, "dropmax:posterior=exact")
"""Those that evaluate an integral at each step, and are slow."""
