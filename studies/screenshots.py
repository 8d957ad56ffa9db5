"""Pictures of the report on the site, for the pages that explain it.

    python -m studies.screenshots

They are taken by Chromium, which has to be installed (apt), of the report of `studies.live`.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studies.live import write_report

OUT = Path(__file__).parents[1] / "docs" / "images"
DESK, PHONE = {"width": 1100, "height": 760}, {"width": 400, "height": 760}


def confusions(page: Any) -> None:
    """The pairs of classes that are confused, one of them open."""
    page.locator("details.pair summary").first.click()
    page.locator("#confusions").scroll_into_view_if_needed()


def trust(page: Any) -> None:
    """What is right if nine of ten rows are answered."""
    page.locator("#slider").fill("90")


def rows(page: Any) -> None:
    """Rows that are wrong but sure."""
    page.get_by_role("button", name="wrong but sure").click()


PICTURES: dict[str, tuple[Callable[[Any], None], str, Any, Any]] = {
    "report_confusions": (confusions, "#confusions", DESK, "light"),
    "report_trust": (trust, "#trust", DESK, "light"),
    "report_rows": (rows, "#rows", PHONE, "dark"),
}


def main() -> None:
    """Write the pictures."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        write_report(Path(folder))
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, (show, place, size, scheme) in PICTURES.items():
            page = browser.new_page(viewport=size, color_scheme=scheme, device_scale_factor=1.5)
            page.goto(Path(folder, "report.html").as_uri())
            show(page)
            page.evaluate(f"document.querySelector({place!r}).scrollIntoView()")
            page.screenshot(path=OUT / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
