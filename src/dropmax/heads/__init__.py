"""Classification heads: modules `features [*, D] -> Scores`, with a loss and log-probabilities."""

from dropmax.heads.base import Head
from dropmax.heads.baselines import (
    ASSoftmaxHead,
    AttentionHead,
    ClassDropoutHead,
    OneVsRestHead,
    SampledSoftmaxHead,
    SigSoftmaxHead,
    SoftmaxHead,
    SparsemaxHead,
)
from dropmax.heads.decay import decay_groups
from dropmax.heads.dropmax import DropMaxHead
from dropmax.heads.gated import GatedHead
from dropmax.heads.presets import PRESETS
from dropmax.heads.registry import HEADS, make_head, register_head
from dropmax.heads.research import ComputedPosteriorHead, MarginalHead
from dropmax.heads.scores import Scores
from dropmax.heads.smaller import DropMaxLabelHead, DropMaxTiedHead
from dropmax.heads.top import TopK

__all__ = [
    "HEADS",
    "PRESETS",
    "ASSoftmaxHead",
    "AttentionHead",
    "ClassDropoutHead",
    "ComputedPosteriorHead",
    "DropMaxHead",
    "DropMaxLabelHead",
    "DropMaxTiedHead",
    "GatedHead",
    "Head",
    "MarginalHead",
    "OneVsRestHead",
    "SampledSoftmaxHead",
    "Scores",
    "SigSoftmaxHead",
    "SoftmaxHead",
    "SparsemaxHead",
    "TopK",
    "decay_groups",
    "make_head",
    "register_head",
]
