"""The notebooks of examples/: they run, print what is committed, and read as the pages do."""

import base64
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from studies.notebooks import EXAMPLES, METADATA, notebook_files
from studies.words import MOST_NUMBERS, MOST_WORDS, readability, words_of

ROOT = EXAMPLES.parent
FILES = notebook_files()
NAMES = [file.stem for file in FILES]
PNG = b"\x89PNG\r\n"
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def shown(notebook):
    """What each cell shows: its text, and whether it shows a picture; never a warning."""
    found = []
    for cell in notebook.cells:
        text, pictures = "", 0
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                assert output.name == "stdout", output.text
                text += output.text
            else:
                text += output.data.get("text/plain", "")
                pictures += is_picture(output.data.get("image/png", ""))
        found.append((cell.id, text, pictures))
    return found


def alike(one, other):
    """The same cells, pictures and words; and numbers that training on another processor gives.

    A number may be off by a unit of its last digit, or by a seventh.
    """
    if [(cell, words(text), pictures) for cell, text, pictures in one] != [
        (cell, words(text), pictures) for cell, text, pictures in other
    ]:
        return False
    numbers = ([n for _, text, _ in shows for n in NUMBER.findall(text)] for shows in (one, other))
    return all(
        float(a) == pytest.approx(float(b), rel=1 / 7, abs=1.01 * 10.0 ** -len(b.partition(".")[2]))
        for a, b in zip(*numbers, strict=True)
    )


def words(text):
    """A text without its numbers and the spaces that align them."""
    return NUMBER.sub("n", text).split()


def is_picture(encoded):
    return base64.b64decode(encoded).startswith(PNG)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_a_notebook_prints_what_is_committed(file, tmp_path):
    again = shutil.copytree(EXAMPLES, tmp_path / "examples") / file.name
    subprocess.run([sys.executable, "-m", "studies.notebooks", again], cwd=ROOT, check=True)
    executed, committed = (nbformat.read(one, as_version=4) for one in (again, file))
    assert executed.metadata == committed.metadata
    assert alike(shown(executed), shown(committed))


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_a_notebook_is_committed_as_it_was_executed_and_says_nothing_of_the_machine(file):
    notebook = nbformat.read(file, as_version=4)
    assert notebook.metadata == METADATA
    assert all(cell.metadata == {} for cell in notebook.cells)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(pictures for _, _, pictures in shown(notebook)) > 0
    assert not re.search(r"/(home|root|tmp|Users)/", file.read_text())


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_a_notebook_reads_as_the_pages_do(file):
    notebook = nbformat.read(file, as_version=4)
    prose = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    page = readability(prose)
    assert [text for text in page.sentences if words_of(text) > MOST_WORDS] == []
    assert max(page.numbers) <= MOST_NUMBERS
    for link in re.findall(r"\]\(([^)#]+)", prose):
        assert (EXAMPLES / link).is_file(), link


def test_what_differs_is_seen():
    notebook = nbformat.read(FILES[0], as_version=4)
    before = shown(notebook)
    output = next(
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream"
    )
    assert alike(shown(notebook), before)
    for wrong in (output.text.replace("1797", "2797"), output.text.replace("rows", "row")):
        assert wrong != output.text
        right, output.text = output.text, wrong
        assert not alike(shown(notebook), before)
        output.text = right
    output.name = "stderr"
    with pytest.raises(AssertionError):
        shown(notebook)
