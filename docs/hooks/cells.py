"""A number in a table stays on one line with its spread, and an interval with its brackets."""

import re
from typing import Any

CELL = re.compile(r"<td>[^<]*</td>")
TOGETHER = re.compile(r"(?<=\d) (?=±|of \d)|(?<=±) (?=\d)|(?<=of) (?=\d)|(?<=\d,) (?=[-+\d.]+\])")


def on_page_content(content: str, **_: Any) -> str:
    """Make the spaces within a number's parts unbreakable."""
    return CELL.sub(lambda cell: TOGETHER.sub("&nbsp;", cell[0]), content)
