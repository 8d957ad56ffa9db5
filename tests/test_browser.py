"""The report in a browser without a network: Chromium, where it is installed (apt)."""

import shutil

import pytest
import torch
from hostile import HOSTILE, MARK

from dropmax import Scores, report

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
SIZES = {"desk": (1400, 900), "phone": (400, 800)}
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A report of images and one of texts, with names that would do something if they could."""
    folder = tmp_path_factory.mktemp("reports")
    count, classes = 120, len(HOSTILE)
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    logits += 20.0 * torch.rand(count, 1, generator=generator) * torch.eye(classes)[target]
    target[::10] = (target[::10] + 1) % classes  # wrong labels
    scores = Scores(logits, torch.randn(count, classes, generator=generator))
    pictures = torch.randint(256, (count, 3, 60, 90), dtype=torch.uint8, generator=generator)
    texts = [HOSTILE[n % classes] * (1 + n % 9) for n in range(count)]
    return {
        kind: report.write(
            folder / kind / "report.html",
            logits.log_softmax(-1),
            target,
            class_names=HOSTILE,
            inputs=inputs,
            ids=texts,
            scores=scores,
            title=HOSTILE[0],
        ).file
        for kind, inputs in (("images", pictures), ("texts", texts))
    }


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture(params=SIZES)
def size(request):
    return SIZES[request.param]


@pytest.fixture(params=["images", "texts"])
def opened(request, browser, reports, size, scheme):
    """A report, opened; in the end it has asked nobody for anything, and no error was told."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda one: asked.append(one.url))
    page.goto(reports[request.param].as_uri())
    yield page
    assert page.evaluate(f"window.{MARK}") is None
    assert told == []
    assert [url for url in asked[1:] if not url.startswith("data:")] == []
    context.close()


def test_a_report_has_no_serious_fault_and_does_what_it_says(opened):
    pair = opened.locator("details.pair").first
    row = pair.locator(".row").first
    assert not row.is_visible()
    pair.locator("summary").first.click()
    assert row.is_visible()

    button = opened.get_by_role("button", name="wrong but sure")
    button.click()
    shown = opened.locator("#rows .row:visible")
    every = opened.locator("#rows .row").count()
    assert 0 < shown.count() < every
    assert all(
        "wrong but sure" in tags for tags in shown.evaluate_all("r => r.map(e => e.dataset.tags)")
    )
    button.press("Enter")
    assert shown.count() == every

    before = opened.locator("#answered").inner_text()
    opened.locator("#slider").fill("40")
    assert "40.0 % are answered" in opened.locator("#answered").inner_text() != before

    last = opened.locator("details.pair").last
    name = last.get_attribute("id")
    opened.evaluate(f"location.hash = {name!r}")
    opened.wait_for_function(f"document.getElementById({name!r}).open")
    assert last.locator(".row").first.is_visible()

    for faults in axe.Axe().run(opened).response["violations"]:
        assert faults["impact"] not in SERIOUS, faults
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    heights = opened.locator("table.plain thead tr").evaluate_all("r => r.map(e => e.offsetHeight)")
    assert max(heights) < 300  # no heading is squeezed to a letter a line


def test_without_scripts_a_report_is_read_all_the_same(browser, reports):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(reports["texts"].as_uri())
    assert not page.locator("#slider").is_visible()
    page.locator("details.pair summary").first.click()
    assert page.locator("details.pair .row").first.is_visible()
    assert page.locator("#trust table").first.is_visible()
