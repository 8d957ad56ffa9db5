"""How the pages read: the length of their sentences, and the numbers in their paragraphs.

`python -m studies.words` prints a row a page, the longest sentence and the fullest paragraph. Prose
alone counts: no heading, table, code, formula, comment, folded part, or page of the API.
"""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from studies.pages import page_files

ROOT = Path(__file__).parent.parent
MOST_WORDS = 32
"""Of a sentence."""
MOST_NUMBERS = 3
"""Of a paragraph."""
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
END = re.compile(r"(?<=[.!?])(?<!et al\.)(?<!e\.g\.)(?<!i\.e\.)[\"')]*\s+(?=[\"'(]*[A-Z`])")
NUMBER = re.compile(r"(?<![\w.-])[+-]?\d[\d,.]*(?![\w-])")
FOLDED = ("<details", "</details")


class Readability(NamedTuple):
    """Of one page."""

    sentences: tuple[str, ...]
    numbers: tuple[int, ...]

    @property
    def lengths(self) -> list[int]:
        """Words of each sentence."""
        return [words_of(sentence) for sentence in self.sentences]


def words_of(sentence: str) -> int:
    """What has a letter or a digit, between spaces."""
    return sum(any(map(str.isalnum, word)) for word in sentence.split())


def paragraphs(page: str) -> Iterator[str]:
    """The prose of a page: its paragraphs and the items of its lists, without markup."""
    tokens = MarkdownIt("commonmark").enable("table").parse(FORMULA.sub("formula", page))
    hidden, folded = 0, False
    for token in tokens:
        if token.type == "html_block" and any(mark in token.content for mark in FOLDED):
            folded = token.content.rfind(FOLDED[0]) > token.content.rfind(FOLDED[1])
        elif token.type in ("heading_open", "table_open"):
            hidden += 1
        elif token.type in ("heading_close", "table_close"):
            hidden -= 1
        elif token.type == "inline" and not hidden and not folded:
            text = " ".join(plain(token.children or []).split())
            if words_of(text):
                yield text


def plain(tokens: list[Token]) -> str:
    """The words of a paragraph; a piece of code is one, a picture none."""
    parts = {"code_inline": "`code`", "softbreak": " ", "hardbreak": ". "}
    return "".join(
        parts.get(token.type, token.content if token.type == "text" else "") for token in tokens
    )


def readability(page: str) -> Readability:
    """The sentences of a page, and how many numbers each paragraph has."""
    found = list(paragraphs(page))
    sentences = tuple(sentence for text in found for sentence in END.split(text))
    return Readability(sentences, tuple(len(NUMBER.findall(text)) for text in found))


def read_pages(root: Path = ROOT) -> dict[str, Readability]:
    """The pages that have prose, but those of the API, by their path."""
    pages = {
        file.relative_to(root).as_posix(): file.read_text(encoding="utf-8")
        for file in page_files(root)
    }
    found = {name: readability(text) for name, text in pages.items() if "docs/api" not in name}
    return {name: page for name, page in found.items() if page.sentences}


if __name__ == "__main__":
    print(f"{'page':32} sentences  mean  longest  most numbers")
    for name, page in read_pages().items():
        lengths = page.lengths
        print(
            f"{name:32} {len(lengths):9} {statistics.mean(lengths):5.1f} {max(lengths):8} "
            f"{max(page.numbers):13}"
        )
