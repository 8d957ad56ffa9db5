"""Formulas become MathML when the site is built: no script, no network when it is read.

latex2mathml takes some operators for variables, and leaves out what TeX knows of spaces: a thin one
where the name of a function meets an operand, none after a sign, none among scripts.
"""

import html
import re
from itertools import pairwise
from typing import Any
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import convert_to_element

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
OPERATORS = {"~": "\N{TILDE OPERATOR}", ";": ";"}
PREFIXES = ("\N{MINUS SIGN}", "+", "±", "|")
CLOSING = (")", "]", "}", "⟩", "|", "‖")
SCRIPTS = ("msub", "msup", "msubsup", "munder", "mover", "munderover")


def on_page_content(content: str, **_: Any) -> str:
    """Replace the TeX that pymdownx.arithmatex marked."""

    def mathml(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        formula = convert_to_element(html.unescape(match[3]).strip(), display=display)
        parts = list(formula.iter())
        for part in parts:
            name(part)
        for part in parts:
            space(part)
        return f'<{match[1]} class="formula">{tostring(formula, encoding="unicode")}</{match[1]}>'

    return FORMULA.sub(mathml, content)


def name(part: Element) -> None:
    """Write characters as themselves, and call operators, functions and capitals what they are."""
    text = part.text = html.unescape(part.text or "")
    if part.tag == "mi" and text in OPERATORS:
        part.tag, part.text = "mo", OPERATORS[text]
    elif part.tag == "mo" and (text == "∞" or text.isalpha()):
        part.tag = "mi"
    elif part.tag == "mi" and "\N{GREEK CAPITAL LETTER ALPHA}" <= text <= "Ω":
        part.set("mathvariant", "normal")


def space(row: Element) -> None:
    """Space the parts of a row as TeX does."""
    if row.tag in SCRIPTS:
        for script in row[1:]:
            for operator in script.iter("mo"):
                tighten(operator)
        return
    for left, right in pairwise(list(row)):
        end, start = edge(left, -1), edge(right, 0)
        opens = end.tag == "mo" and end.text not in CLOSING
        if right.tag == "mo" and right.text in PREFIXES and opens:
            right.set("form", "prefix")
        elif right.tag == "mo" and right.text == "/":
            tighten(right)
        elif "mspace" in (end.tag, start.tag):
            continue
        elif (is_function(end) and start.tag != "mo") or (is_function(start) and not opens):
            row.insert(list(row).index(right), Element("mspace", width="0.1667em"))


def tighten(operator: Element) -> None:
    """Leave no space around it."""
    operator.attrib |= {"lspace": "0", "rspace": "0"}


def edge(part: Element, side: int) -> Element:
    """What stands at the start (0) or end (-1) of a part, without its scripts."""
    while len(part) and part.tag in ("mrow", *SCRIPTS):
        part = part[side if part.tag == "mrow" else 0]
    return part


def is_function(part: Element) -> bool:
    """Whether it's the name of a function: that of a variable has one letter."""
    return part.tag == "mi" and len(part.text or "") > 1
