"""The search shows pages that explain before those that list what the code offers."""

from typing import Any


def on_page_markdown(_: str, page: Any, **__: Any) -> None:
    """Let a page of the API come last, whatever its titles."""
    if page.file.src_uri.startswith("api/"):
        page.meta["search"] = {"boost": 0.001}
