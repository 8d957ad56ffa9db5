"""What tables and figures call the heads that stand in most comparisons."""

from collections.abc import Mapping
from types import MappingProxyType

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "softmax": "softmax",
        "softmax:label_smoothing=0.1": "label smoothing",
        "dropmax:preset=paper": "DropMax as published",
        "dropmax": "DropMax",
        "dropmax:preset=paper,aux_prior=base_rate": "as published, base rate",
        "sparsemax": "sparsemax",
        "sampled_softmax": "sampled softmax",
        "class_dropout": "class dropout",
        "attention": "attention",
        "dropmax_prior:preset=paper": "DropMax, q = p",
        "sigsoftmax": "sigsoftmax",
        "as_softmax": "adaptive sparse softmax",
        "one_vs_rest": "one versus rest",
        "dropmax_label": "DropMax, q = label",
        "dropmax_tied": "DropMax, tied gate",
    }
)
"""By how a head is asked for, what a reader calls it; each has a color of its own, too."""
