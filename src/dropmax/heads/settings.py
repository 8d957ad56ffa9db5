"""What decides how a DropMax head trains: the presets by name, and what an argument changes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from dropmax import _check
from dropmax.functional.terms import AUX_PRIORS, MASKS

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

PRESETS: Mapping[str, Settings] = MappingProxyType({"default": PAPER, "paper": PAPER})
"""The presets by name; "paper" is the method as published and in the authors' code."""


def settle(function: str, preset: str, objective: str, given: Settings) -> Settings:
    """The preset's settings with those that are given in their place.

    Raises:
        ValueError: If a value does not fit, or is for something that the objective lacks.
    """
    _check.choice(function, "preset", preset, PRESETS)
    _check.choice(function, "objective", objective, OBJECTIVES)
    changed = {name: value for name, value in given._asdict().items() if value is not None}
    settings = PRESETS[preset]._replace(**changed)
    _check_values(function, settings)
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
        _check.unused(function, {option: getattr(given, option)}, where)
    return settings._replace(**dict.fromkeys(absent))


def _check_values(function: str, settings: Settings) -> None:
    _check.choice(function, "posterior", settings.posterior, POSTERIORS)
    _check.choice_or_number(function, "aux_prior", settings.aux_prior, AUX_PRIORS)
    _check.choice(function, "masks", settings.masks, MASKS)
    for weight in WEIGHTS:
        _check.number(function, weight, getattr(settings, weight), low=0.0)
    _check.number(function, "temperature", settings.temperature, low=0.0, open_low=True)
    _check.integer(function, "num_samples", settings.num_samples, low=1)
    share = settings.plugin_share
    _check.number(function, "plugin_share", share, low=0.0, high=1.0, open_high=True)
    _check.number(function, "plugin_focus", settings.plugin_focus, low=0.0)
