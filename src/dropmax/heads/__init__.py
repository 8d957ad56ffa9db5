"""Classification heads: modules `features [*, D] -> Scores`, with a loss and log-probabilities."""

from dropmax.heads.attention import AttentionHead
from dropmax.heads.base import Head
from dropmax.heads.class_dropout import ClassDropoutHead
from dropmax.heads.decay import decay_groups
from dropmax.heads.dropmax import DropMaxHead
from dropmax.heads.maps import predicting
from dropmax.heads.registry import HEADS, make_head
from dropmax.heads.sampled_softmax import SampledSoftmaxHead
from dropmax.heads.scores import Scores
from dropmax.heads.settings import PRESETS
from dropmax.heads.softmax import SoftmaxHead
from dropmax.heads.sparsemax import SparsemaxHead

__all__ = [
    "HEADS",
    "PRESETS",
    "AttentionHead",
    "ClassDropoutHead",
    "DropMaxHead",
    "Head",
    "SampledSoftmaxHead",
    "Scores",
    "SoftmaxHead",
    "SparsemaxHead",
    "decay_groups",
    "make_head",
    "predicting",
]
