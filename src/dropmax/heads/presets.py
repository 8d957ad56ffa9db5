"""The presets: the options of DropMax's objective by name, for a number of classes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from dropmax.functional import ObjectiveOptions

FEW = 10
"""Up to so many classes the masks alone train the scores."""

STRENGTH = 2.0
"""The weight of KL and entropy with few classes."""


def default_options(num_classes: int) -> ObjectiveOptions:
    """What `DropMaxHead` does where nothing is said.

    Up to `FEW` classes KL and entropy weigh STRENGTH, and the aux term is against the base rate.
    Beyond, the method is as published, but 1 - (FEW / K)^2 of the objective is the plug-in's
    cross-entropy. It trains the scores where the masks leave the label too few rivals.

    Args:
        num_classes: The number K of classes.

    Source:
        Chosen on validation rows, as docs/evidence/defaults.md shows.
    """
    if num_classes <= FEW:
        return ObjectiveOptions(aux_prior="base_rate", kl_weight=STRENGTH, entropy_weight=STRENGTH)
    return ObjectiveOptions(plugin_share=1.0 - (FEW / num_classes) ** 2)


def paper_options(_num_classes: int) -> ObjectiveOptions:
    """The method as published and in the authors' code, whatever the number of classes."""
    return ObjectiveOptions()


PRESETS: Mapping[str, Callable[[int], ObjectiveOptions]] = MappingProxyType(
    {"default": default_options, "paper": paper_options}
)
"""The presets by name, each a function of the number of classes."""
