"""The wheel: what it holds, and that a bare environment imports it."""

import subprocess
import sys
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
