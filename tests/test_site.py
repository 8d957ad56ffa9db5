"""The site stands by itself: nothing from outside, nothing missing, formulas in its own font."""

import importlib.util
import os
import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from matplotlib.figure import Figure

from dropmax.report.figures import save
from studies.live import FILE, read_live

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FONT_RANGE = re.compile(r"U\+([0-9A-F]+)(?:-([0-9A-F]+))?")
ITALIC = {
    unicodedata.normalize("NFKC", char): char
    for char in map(chr, range(0x1D7FF, 0x1D3FF, -1))
    if unicodedata.name(char, "").startswith("MATHEMATICAL ITALIC ")
} | {"h": "\N{PLANCK CONSTANT}"}
pytestmark = pytest.mark.xdist_group("site")


class Page(HTMLParser):
    """What a page loads, what it links to, and the characters of its formulas."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.linked, self.characters = [], [], set()
        self.formula, self.variable = False, False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "a":
            self.linked.append(attrs.get("href", ""))
        else:
            self.loaded += [attrs[name] for name in ("src", "href") if name in attrs]
        self.formula |= tag == "math"
        self.variable = tag == "mi" and attrs.get("mathvariant") != "normal"

    def handle_endtag(self, tag):
        self.formula &= tag != "math"

    def handle_data(self, data):
        if self.formula and self.variable and len(data) == 1:
            self.characters.add(ITALIC.get(data, data))
        elif self.formula:
            self.characters.update(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    return out


@pytest.fixture(scope="module")
def pages(site):
    """All pages but that of a server for what it lacks, whose paths begin at the server's root."""
    files = [path for path in site.rglob("*.html") if path.name != "404.html"]
    assert len(files) > 30
    return {path: Page(path.read_text()) for path in files}


def test_nothing_is_loaded_from_outside(site, pages):
    loaded = {url for page in pages.values() for url in page.loaded}
    for style in site.rglob("*.css"):
        loaded.update(re.findall(r"url\([\"']?([^\"')]+)", style.read_text()))
    assert any(url.endswith("woff2") for url in loaded)
    assert {url for url in loaded if urlsplit(url).scheme not in ("", "data")} == set()
    assert {url for url in loaded if url.startswith("/")} == set()


def test_every_picture_style_script_and_link_is_there(pages):
    missing = {
        f"{path.name}: {url}"
        for path, page in pages.items()
        for url in [*page.loaded, *page.linked]
        if not urlsplit(url).scheme
        and not (path.parent / (unquote(urlsplit(url).path) or path.name)).is_file()
    }
    assert missing == set()


def test_the_live_report_is_of_the_committed_predictions(site):
    live = read_live()
    right = 100.0 * float((live.log_probs.argmax(1) == live.target).double().mean())
    assert f"{right:.1f} % right on {len(live.target)}" in (site / "live/report.html").read_text()
    assert right == pytest.approx(93.5, abs=0.05)  # as it was when they were written
    assert FILE.stat().st_size <= 500_000


def test_no_picture_is_large():
    sizes = {file.name: file.stat().st_size for file in (DOCS / "images").glob("*.png")}
    assert len(sizes) == 3
    assert max(sizes.values()) <= 300_000


def test_the_font_of_formulas_has_all_their_characters(pages):
    ranges = [
        range(int(first, 16), int(last or first, 16) + 1)
        for first, last in FONT_RANGE.findall((DOCS / "styles" / "formula.css").read_text())
    ]
    found = set().union(*(page.characters for page in pages.values()))
    assert {ITALIC["x"], "\N{N-ARY SUMMATION}"} <= found
    assert {char for char in found if not any(ord(char) in held for held in ranges)} == set()


@pytest.mark.parametrize(
    ("tex", "shown"),
    [
        (r"(a) \exp o_t", "( a ) _ exp _ o t"),
        (r"\log(1 - u)", "log ( 1 - u )"),
        (r"2 \log K", "2 _ log _ K"),
        (r"\min_k o_k", "min k _ o k"),
        (r"x = -\log x", "x = <- log _ x"),
        (r"(-a)", "( <- a )"),
        (r"a - b", "a - b"),
    ],
)
def test_formulas_are_spaced_as_by_tex(tex, shown):
    """`_` is a thin space, `<` stands before a sign."""
    spec = importlib.util.spec_from_file_location("mathml", DOCS / "hooks" / "mathml.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    found = hook.on_page_content(rf'<span class="arithmatex">\({tex}\)</span>')
    found = found.replace("\N{MINUS SIGN}", "-").replace('<mspace width="0.1667em" />', "_")
    found = re.sub(r"<[a-z/][^>]*>|>", " ", found.replace('form="prefix">', "><"))
    assert " ".join(found.split()) == shown


def test_pictures_follow_a_dark_page(tmp_path):
    save({"drawn": Figure()}, tmp_path)
    for picture in [tmp_path / "drawn.svg", *(DOCS / "images").glob("*.svg")]:
        assert "prefers-color-scheme: dark" in picture.read_text(), picture
