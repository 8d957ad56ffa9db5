"""What the distributions hold; `make release-check` uses them."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from blocks import ROOT
from release import build

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("distributions")]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution and the wheel."""
    return build(tmp_path_factory.mktemp("dist"))


def test_the_wheel_holds_the_package_and_nothing_else(built):
    names = zipfile.ZipFile(built[1]).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dropmax"}
    assert "dropmax/py.typed" in names
    assert {name for name in names if name.endswith(".py")} == {
        path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")
    }


def test_the_source_distribution_holds_what_the_wheel_is_made_of(built):
    """No test that reads what is not in it."""
    with tarfile.open(built[0]) as packed:
        inside = {Path(*Path(name).parts[1:]) for name in packed.getnames()}
    assert {path.parts[0] for path in inside} <= {
        *("src", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"),
        *("pyproject.toml", "PKG-INFO", ".gitignore"),
    }
    assert {path.relative_to("src") for path in inside if path.suffix == ".py"} == {
        path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*.py")
    }
