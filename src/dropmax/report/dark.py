"""Pictures for light and for dark pages."""

from pathlib import Path

STYLE = """
 <style>
  :root { color-scheme: light dark }
  @media (prefers-color-scheme: dark) {
   svg { fill: #dddddd }
   [style^="fill: #ffffff"] { fill: #1e2129 !important }
   [style="fill: #ffffff"] { fill: none !important }
   [style*="fill: #000000"] { fill: #dddddd !important }
   [style*="stroke: #000000"] { stroke: #dddddd !important }
   [style*="fill: #4d4d4d"] { fill: #aaaaaa !important }
   [style*="stroke: #4d4d4d"] { stroke: #aaaaaa !important }
  }
 </style>"""
"""What is white, black or dark grey in matplotlib's SVG turns round, on the ground of the page."""


def follow_scheme(file: Path) -> None:
    """Let an SVG that matplotlib wrote be light on a dark page; its pictures of data stay."""
    file.write_text(following(file.read_text(encoding="utf-8")), encoding="utf-8")


def following(text: str) -> str:
    """The text of such an SVG."""
    start = 'version="1.1">'
    return text.replace(start, start + STYLE, 1)
