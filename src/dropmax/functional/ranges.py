"""The ranges of the options of the objective, checked by all who take them."""

from dropmax import _check
from dropmax.functional.terms import MASKS


def check_ranges(
    *,
    masks: object,
    temperature: object,
    num_samples: object,
    plugin_share: object,
    plugin_focus: object,
    floor: object = 0.0,
) -> None:
    """Raise the function's ValueError unless each lies in its range.

    Raises:
        ValueError: If one does not.
    """
    _check.choice("masks", masks, MASKS)
    _check.number("temperature", temperature, low=0.0, open_low=True)
    _check.number("floor", floor, low=0.0, high=1.0, open_high=True)
    _check.integer("num_samples", num_samples, low=1)
    _check.number("plugin_share", plugin_share, low=0.0, high=1.0, open_high=True)
    _check.number("plugin_focus", plugin_focus, low=0.0)
