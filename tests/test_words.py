"""How the pages read: short sentences, few numbers; and the counting itself."""

import pytest

from studies.words import MOST_NUMBERS, MOST_WORDS, read_pages, readability, words_of

PAGES = read_pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_sentences_are_short_and_paragraphs_hold_few_numbers(name):
    page = PAGES[name]
    assert [text for text in page.sentences if words_of(text) > MOST_WORDS] == []
    assert max(page.numbers) <= MOST_NUMBERS


def test_prose_alone_is_counted():
    page = readability(
        "# Three 3 words\n\n"
        "One 1 sentence, e.g. this. `code 2` of Lee et al. is $x + 4$ good! Or not?\n\n"
        "| 5 | 6 |\n|---|---|\n| 7 | 8 |\n\n    9 code\n\n```\n10\n```\n\n"
        "<details>\n<summary>11</summary>\n\nFolded 12.\n\n</details>\n\n"
        "- An item <!-- 13 --> with 1,797 [links](page-14.md)\n- ![a picture 15](a.png)\n"
    )
    assert page.sentences == (
        "One 1 sentence, e.g. this.",
        "`code` of Lee et al. is formula good!",
        "Or not?",
        "An item with 1,797 links",
    )
    assert page.lengths == [5, 8, 2, 5]
    assert page.numbers == (1, 1)
