"""The presets: the options of DropMax's objective by name, for a number of classes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from dropmax.functional import ObjectiveOptions

FEW = 10
"""Up to so many classes the masks alone train the scores."""

STRENGTH, DECAY = 4.0, 1.6
"""The weight of KL and entropy with few classes, and the power by which it falls with many."""


def default_options(num_classes: int) -> ObjectiveOptions:
    """What `DropMaxHead` does where nothing is said.

    With few = min(1, FEW / K), KL and entropy weigh STRENGTH few^DECAY and the aux term few, since
    all three are sums over the K classes. Up to `FEW` classes the aux term is against the base
    rate. Beyond, it is against the label, and 1 - few of the objective, times how unsure the
    plug-in is of the label, is the plug-in's cross-entropy, which trains the scores where the masks
    leave the label too few rivals.

    Args:
        num_classes: The number K of classes.

    Source:
        Chosen on validation images, as docs/evidence/many-classes.md shows.
    """
    few = min(1.0, FEW / num_classes)
    strength = STRENGTH * few**DECAY
    weights = {"kl_weight": strength, "entropy_weight": strength, "aux_weight": few}
    if few == 1.0:
        return ObjectiveOptions(aux_prior="base_rate", **weights)
    return ObjectiveOptions(plugin_share=1.0 - few, plugin_focus=1.0, **weights)


def paper_options(_num_classes: int) -> ObjectiveOptions:
    """The method as published and in the authors' code, whatever the number of classes."""
    return ObjectiveOptions()


PRESETS: Mapping[str, Callable[[int], ObjectiveOptions]] = MappingProxyType(
    {"default": default_options, "paper": paper_options}
)
"""The presets by name, each a function of the number of classes."""
