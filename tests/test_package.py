"""The wheel: what it holds, and that a bare environment imports it."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("dropmax-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dropmax"}
    assert "dropmax/py.typed" in names
    assert {name for name in names if name.endswith(".py")} == {
        str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")
    }
    code = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); import dropmax, torch; "
        f"assert {wheel.name!r} in dropmax.__file__; "
        "head = dropmax.make_head('dropmax', 4, 3); "
        "dropmax.Criterion(head)(head(torch.randn(2, 4)), torch.tensor([0, 2])).backward()"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd=tmp_path)


@pytest.mark.slow
def test_the_source_distribution_holds_what_the_wheel_is_made_of(tmp_path):
    """No test that reads what is not in it; and the wheel that is made of it is the same."""
    build = [sys.executable, "-m", "build", "--outdir"]
    subprocess.run([*build, tmp_path, ROOT], check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        inside = {Path(*Path(name).parts[1:]) for name in packed.getnames()}
    assert {path.parts[0] for path in inside} <= {
        *("src", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"),
        *("pyproject.toml", "PKG-INFO", ".gitignore"),
    }
    (wheel,) = tmp_path.glob("*.whl")
    assert {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")} == {
        str(path.relative_to("src")) for path in inside if path.suffix == ".py"
    }
