"""The lowest versions that pyproject.toml allows, as constraints for pip; torch stays as it is."""

import re
import sys
import tomllib
from pathlib import Path

EXTRAS = ("onnx", "sklearn", "train")


def floors(pyproject: Path) -> dict[str, str]:
    """The lower bound of each package that the core and the command need."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(one for name in EXTRAS for one in extras[name])]
    found = dict(re.match(r"([\w-]+)>=([\d.]+)", one).groups() for one in needed if ">=" in one)
    return {name: version for name, version in found.items() if name != "torch"}


if __name__ == "__main__":
    for name, version in floors(Path(sys.argv[1])).items():
        print(f"{name}=={version}")
