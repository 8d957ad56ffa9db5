"""The examples in the pages: blocks of Python, and what they print where the page shows it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHON = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```)?", re.DOTALL | re.MULTILINE
)


def examples_of(page: Path) -> list[tuple[str, str | None]]:
    """The code of each block, and what it prints if that follows.

    Each block is whole in itself; those of a page that says otherwise are one.
    """
    text = page.read_text(encoding="utf-8")
    found = [(block["code"], block["printed"]) for block in PYTHON.finditer(text)]
    if "blocks below go on from this one" in text:
        printed = "".join(printed or "" for _, printed in found) or None
        return [("\n".join(code for code, _ in found), printed)]
    return found
