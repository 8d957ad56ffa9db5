"""What a head computes from features."""

from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """What a head computes from features, each `[*, K]`; a branch that a head lacks is None.

    Attributes:
        logits: Class scores, those of an ordinary linear classifier.
        retain_logits: Logits of the prior probability that a class is retained.
        correction_logits: What the label adds to the posterior's logits; used by the loss alone.
    """

    logits: Tensor
    retain_logits: Tensor | None = None
    correction_logits: Tensor | None = None
