"""Every example runs, every public function says what it must, every number has its source."""

import ast
import doctest
import importlib
import importlib.util
import inspect
import re

import pytest
import torch
import yaml
from blocks import ROOT, examples_of
from torch import nn

import dropmax
from dropmax.compare import read_lines
from dropmax.data import corrupted, load_data
from dropmax.fused import linear_dropmax_objective
from dropmax.integrations.transformers import DropMaxForClassification
from dropmax.metrics import evaluate, gate_health
from dropmax.training.networks import make_backbone
from studies import page_files, with_blocks
from studies.benchmarks import TABLES
from studies.pages import BLOCK, FIGURE

SOURCE = ROOT / "src"
PAGES = page_files(ROOT)
PUBLIC = {
    f"{space.__name__}.{name}": getattr(space, name)
    for space in (dropmax.functional, dropmax.heads)
    for name in space.__all__
    if callable(getattr(space, name))
} | {
    f"dropmax.{name}": value
    for name, value in [
        *((f"predictive.{n}", getattr(dropmax.predictive, n)) for n in dropmax.predictive.__all__),
        ("analysis.variational_gap", dropmax.analysis.variational_gap),
        ("analysis.uncertainty", dropmax.analysis.uncertainty),
        ("fused.linear_dropmax_objective", linear_dropmax_objective),
        ("heads.DropMaxHead.fused_loss", dropmax.heads.DropMaxHead.fused_loss),
        ("find_head", dropmax.find_head),
        ("convert", dropmax.convert),
        ("revert", dropmax.revert),
        ("Predictor", dropmax.Predictor),
        ("export_onnx", dropmax.export_onnx),
        ("corruption.corrupted", corrupted),
        ("data.load_data", load_data),
        ("metrics.evaluate", evaluate),
        ("metrics.gate_health", gate_health),
        ("training.networks.make_backbone", make_backbone),
        ("Criterion", dropmax.Criterion),
        ("integrations.transformers.DropMaxForClassification", DropMaxForClassification),
    ]
}


def examples():
    """(module, name, docstring) of everything whose docstring has an example."""
    for path in [*sorted(SOURCE.rglob("*.py")), *sorted((ROOT / "studies").glob("*.py"))]:
        around = SOURCE if path.is_relative_to(SOURCE) else ROOT
        module = ".".join(path.relative_to(around).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                if ">>>" in text:
                    yield pytest.param(module, node.name, text, id=f"{module}.{node.name}")


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(("module", "name", "text"), list(examples()))
def test_examples_of_docstrings(module, name, text):
    test = doctest.DocTestParser().get_doctest(text, {}, name, module, 0)
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_public_docstrings_are_whole(name):
    text = inspect.getdoc(PUBLIC[name])
    holds = ("Scores", "Label", "Objective", "ObjectiveOptions", "heads.Head", "GatedHead", "TopK")
    if name.endswith(holds):
        assert "Attributes:" in text
        return
    takes_arguments = inspect.signature(PUBLIC[name]).parameters
    for part in ("Args:", "Raises:", ">>>") if takes_arguments else (">>>",):
        assert part in text, part
    if name.startswith(("dropmax.functional", "dropmax.predictive")):
        for part in ("Returns:", "Source:", "[*"):
            assert part in text, part


ROOMS = ["errors", *(name for name in dropmax.__all__ if inspect.ismodule(getattr(dropmax, name)))]
DIRECTIVE = re.compile(r"^::: (?P<path>[\w.]+)\n(?P<options>(?: +.*\n|\n(?= ))*)", re.MULTILINE)


def directives():
    """What the pages of the API ask for: the path, and the members it is limited to."""
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for found in DIRECTIVE.finditer(page.read_text() + "\n"):
            options = yaml.safe_load(found["options"]) or {}
            yield found["path"], options.get("options", {}).get("members")


@pytest.mark.parametrize("room", ROOMS)
def test_everything_public_is_on_a_page_of_the_api(room):
    if room == "integrations":
        return  # has no names of its own
    shown = []
    for path, members in directives():
        space = resolve(path)
        if not inspect.ismodule(space):
            shown.append(space)
        else:
            shown += [getattr(space, name) for name in members or getattr(space, "__all__", ())]
    space = getattr(dropmax, room)
    missing = [name for name in space.__all__ if not any(getattr(space, name) is x for x in shown)]
    assert not missing


@pytest.mark.parametrize(
    "path", ["dropmax.heads.Head", "dropmax.heads.GatedHead", "dropmax.heads.DropMaxHead"]
)
def test_every_method_of_a_head_is_on_its_page(path):
    head = resolve(path)
    inherited = dir(nn.Module if path.endswith("heads.Head") else head.__base__)
    own = {
        name
        for name in dir(head)
        if not name.startswith("_")
        and getattr(getattr(head, name), "__doc__", None)
        and inspect.isroutine(getattr(head, name))
        and name not in inherited
    }
    (members,) = [members for found, members in directives() if found == path]
    assert own <= set(members), own - set(members)


def resolve(path):
    """What a dotted path names, wherever the module ends in it."""
    found = dropmax
    for n, name in enumerate(path.split(".")[1:], start=2):
        if not hasattr(found, name):
            importlib.import_module(".".join(path.split(".")[:n]))
        found = getattr(found, name)
    return found


def blocks():
    """The Python of every page, and what it prints where the page shows it."""
    for page in PAGES:
        for n, (code, printed) in enumerate(examples_of(page)):
            yield pytest.param(code, printed, id=f"{page.relative_to(ROOT)}:{n}")


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(("code", "printed"), list(blocks()))
def test_python_of_the_pages_runs_and_prints_what_they_show(
    code, printed, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(compile(code, "<page>", "exec"), {})
    if printed is not None:
        assert capsys.readouterr().out == printed


def test_the_version_is_in_the_changelog_and_the_citation():
    assert f"## {dropmax.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {dropmax.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_tables_and_numbers_of_the_pages_are_those_of_the_committed_lines():
    """`python -m studies tables` would change no page."""
    found = 0
    for page in PAGES:
        text = page.read_text()
        found += len(BLOCK.findall(text))
        assert with_blocks(text, ROOT / "studies") == text, page
    assert found >= 9
    shown = "".join(page.read_text() for page in PAGES)
    assert all(f"<!-- benchmark: {name} -->" in shown for name in TABLES)
    right = (ROOT / "README.md").read_text()
    wrong = re.sub(r"(error dropmax -->)[\d.]+<", r"\g<1>123.45<", right)
    assert "123.45" in wrong
    assert with_blocks(wrong, ROOT / "studies") == right


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_a_benchmark_changes_with_its_lines(name):
    file = ROOT / "benchmarks" / "results" / f"{name.partition('/')[0]}.jsonl"
    lines = read_lines(file)
    rows = TABLES[name](lines)
    assert len(rows) > 1
    assert any(TABLES[name](lines[:n] + lines[n + 1 :]) != rows for n in range(len(lines)))


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "evidence").glob("*.md")), ids=lambda p: p.name
)
def test_no_page_of_evidence_has_a_number_of_its_own(page):
    """What has a point in it is made of lines, or stands in a command."""
    text = BLOCK.sub("", page.read_text())
    text = re.sub(r"```.*?```|^ {4}.*$|`[^`]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"\d+\.\d+", text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_number_made_of_lines_begins_a_line(page):
    """A comment at the start of a line would end the paragraph."""
    assert not re.search(r"^<!-- (value|cost): ", page.read_text(), re.MULTILINE)


def test_every_figure_of_the_evidence_is_there():
    for page in (ROOT / "docs" / "evidence").glob("*.md"):
        for found in FIGURE.finditer(page.read_text()):
            assert (page.parent / found["file"]).is_file(), found["file"]
