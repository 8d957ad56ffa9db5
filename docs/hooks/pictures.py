"""Each picture links to its file, so that a phone can show it in full."""

import re
from typing import Any

PICTURE = re.compile(r'<img [^>]*\bsrc="(?P<file>[^"#]+)[^>]*>')


def on_page_content(content: str, **_: Any) -> str:
    """Put every picture into a link."""
    return PICTURE.sub(lambda found: f'<a href="{found["file"]}">{found[0]}</a>', content)
