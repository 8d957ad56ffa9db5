"""What decides how a DropMax head trains: the presets by name, and what an argument changes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from dropmax import _check
from dropmax.functional.ranges import check_ranges
from dropmax.functional.terms import AUX_PRIORS

OBJECTIVES = ("variational", "marginal")
POSTERIORS = ("learned", "prior", "exact", "analytic")
WEIGHTS = ("kl_weight", "entropy_weight", "aux_weight")


class Settings(NamedTuple):
    """Arguments of `DropMaxHead`, which explains them; None where the objective has no such."""

    posterior: str | None = None
    aux_prior: str | float | None = None
    kl_weight: float | None = None
    entropy_weight: float | None = None
    aux_weight: float | None = None
    masks: str | None = None
    temperature: float | None = None
    num_samples: int | None = None
    plugin_share: float | None = None
    plugin_focus: float | None = None


PAPER = Settings(
    posterior="learned",
    aux_prior="label",
    kl_weight=1.0,
    entropy_weight=1.0,
    aux_weight=1.0,
    masks="relaxed",
    temperature=0.1,
    num_samples=1,
    plugin_share=0.0,
    plugin_focus=0.0,
)

FEW = 10
"""Up to so many classes the masks alone train the scores."""

STRENGTH, DECAY = 4.0, 1.6
"""The weight of KL and entropy with few classes, and the power by which it falls with many."""


def default_settings(num_classes: int) -> Settings:
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
    weighted = PAPER._replace(kl_weight=strength, entropy_weight=strength, aux_weight=few)
    if few == 1.0:
        return weighted._replace(aux_prior="base_rate")
    return weighted._replace(plugin_share=1.0 - few, plugin_focus=1.0)


def paper_settings(_num_classes: int) -> Settings:
    """The method as published and in the authors' code, whatever the number of classes."""
    return PAPER


PRESETS: Mapping[str, Callable[[int], Settings]] = MappingProxyType(
    {"default": default_settings, "paper": paper_settings}
)
"""The presets by name, each a function of the number of classes."""


def settle(preset: str, num_classes: int, objective: str, given: Settings) -> Settings:
    """The preset's settings for so many classes, with those that are given in their place.

    Raises:
        ValueError: If a value does not fit, or is for something that the objective lacks.
    """
    _check.integer("num_classes", num_classes, low=1)
    _check.choice("preset", preset, PRESETS)
    _check.choice("objective", objective, OBJECTIVES)
    changed = {name: value for name, value in given._asdict().items() if value is not None}
    settings = PRESETS[preset](num_classes)._replace(**changed)
    _check_values(settings)
    absent: dict[str, str] = {}
    if objective == "marginal":
        others = [option for option in Settings._fields if option != "entropy_weight"]
        absent |= dict.fromkeys(others, "where objective is 'marginal'")
        settings = settings._replace(entropy_weight=given.entropy_weight or 0.0)
    if settings.posterior != "learned":
        where = f"where posterior is {settings.posterior!r}"
        absent = dict.fromkeys(("aux_prior", "aux_weight"), where) | absent
    if settings.masks == "mean":
        absent = dict.fromkeys(("temperature", "num_samples"), "where masks is 'mean'") | absent
    for option, where in absent.items():
        _check.unused({option: getattr(given, option)}, where)
    return settings._replace(**dict.fromkeys(absent))


def _check_values(settings: Settings) -> None:
    _check.choice("posterior", settings.posterior, POSTERIORS)
    _check.choice_or_number("aux_prior", settings.aux_prior, AUX_PRIORS)
    for weight in WEIGHTS:
        _check.number(weight, getattr(settings, weight), low=0.0)
    check_ranges(
        masks=settings.masks,
        temperature=settings.temperature,
        num_samples=settings.num_samples,
        plugin_share=settings.plugin_share,
        plugin_focus=settings.plugin_focus,
    )
