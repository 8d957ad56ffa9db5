"""What the repository's host reads fits its schema, and names only what is there."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from blocks import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
PAGES = [*ROOT.glob("*.md"), *GITHUB.glob("*.md")]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
ACTION = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")


def misfits(schema, *files):
    """What in the files doesn't fit a schema of check-jsonschema; nothing is downloaded."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    found = subprocess.run([*command, *files], capture_output=True, text=True)
    return found.returncode and found.stdout + found.stderr


@pytest.mark.parametrize(
    ("schema", "files"),
    {
        "github-workflows": WORKFLOWS,
        "github-issue-forms": FORMS,
        "github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
        "citation-file-format": [ROOT / "CITATION.cff"],
    }.items(),
)
def test_fits_its_schema(schema, files, tmp_path):
    assert files
    assert not misfits(schema, *files)
    wrong = tmp_path / files[0].name
    wrong.write_text(files[0].read_text() + "\nsurplus: 1\nname: [2]\n")
    assert misfits(schema, wrong)


def steps(workflow):
    """The steps of all jobs."""
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_alone_and_runs_pinned_actions(workflow):
    described = yaml.safe_load(workflow.read_text())
    assert described["permissions"] == {"contents": "read"}
    assert described["concurrency"]
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert [action for action in used if not ACTION.fullmatch(action)] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_workflow_runs_is_there(workflow):
    runs = "\n".join(step["run"] for step in steps(workflow) if "run" in step)
    assert set(re.findall(r"\bmake ([\w-]+)", runs)) <= TARGETS
    assert all((ROOT / file).is_file() for file in re.findall(r"[\w/]+\.(?:py|txt)\b", runs))


def test_the_tests_run_on_the_versions_of_python_that_the_package_names():
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(classifiers))
    jobs = yaml.safe_load((GITHUB / "workflows" / "tests.yml").read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == named


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_a_page_links_to_and_has_made_is_there(page):
    text = page.read_text()
    for file in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / file).exists(), file
    assert set(re.findall(r"(?:^ {4}|`)make ([\w-]+)", text, re.MULTILINE)) <= TARGETS


def test_the_hooks_run_the_ruff_of_the_environment():
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook for repo in repos for hook in repo["hooks"]]
    assert hooks
    assert all(hook["entry"].startswith(".venv/bin/ruff ") for hook in hooks)
