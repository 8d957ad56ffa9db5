"""Cells of the tables that we write."""

import re

from dropmax.data.record import NUMBER

FORMULA = re.compile(r"\s*[=+\-@\t\r]")
"""How a cell starts that a spreadsheet would run, unless it is a number."""
JOINT = "; "
"""What stands between several classes in a cell."""


def guarded(text: str) -> str:
    """A text with an apostrophe before it where a spreadsheet would run it.

    Examples:
        >>> from dropmax.data.cells import guarded
        >>> [guarded(text) for text in ("=cmd()", " @x", "-2", "+1+1", "a=b")]
        ["'=cmd()", "' @x", '-2', "'+1+1", 'a=b']
    """
    is_run = FORMULA.match(text) and not NUMBER.fullmatch(text.strip())
    return f"'{text}" if is_run else text
