"""The report of a classifier of digits, made of its committed predictions."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]


def on_files(files: Any, config: Any) -> None:
    """Lay the report and its spreadsheets beside the pages, in live/."""
    sys.path.insert(0, str(ROOT))
    from studies.live import write_report

    with tempfile.TemporaryDirectory() as folder:
        write_report(Path(folder))
        for file in sorted(Path(folder).iterdir()):
            files.append(File.generated(config, f"live/{file.name}", content=file.read_bytes()))
