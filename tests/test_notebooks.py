"""The notebooks of examples/: they run, print what is committed, and read as the pages do."""

import base64
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
import torch

from studies.notebooks import EXAMPLES, METADATA, notebook_files
from studies.words import MOST_NUMBERS, MOST_WORDS, readability, words_of

ROOT = EXAMPLES.parent
FILES = notebook_files()
NAMES = [file.stem for file in FILES]
PNG = b"\x89PNG\r\n"


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


def is_picture(encoded):
    return base64.b64decode(encoded).startswith(PNG)


CAPABILITY = "AVX512"
"""Of the processor that the notebooks were executed on; training in float32 is of its rounding."""


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_a_notebook_prints_what_is_committed(file, tmp_path):
    again = shutil.copytree(EXAMPLES, tmp_path / "examples") / file.name
    subprocess.run([sys.executable, "-m", "studies.notebooks", again], cwd=ROOT, check=True)
    executed, committed = (nbformat.read(one, as_version=4) for one in (again, file))
    assert executed.metadata == committed.metadata
    again, before = ([row[::2] for row in shown(one)] for one in (executed, committed))
    assert again == before
    if (here := torch.backends.cpu.get_cpu_capability()) != CAPABILITY:
        pytest.skip(f"it ran, and what it prints was made with {CAPABILITY}, not {here}")
    assert shown(executed) == shown(committed)


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
    output.text = output.text.replace("1", "2", 1)
    assert shown(notebook) != before
    output.name = "stderr"
    with pytest.raises(AssertionError):
        shown(notebook)
