"""Result lines: JSON, one a run, appended whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax._files import write_whole

RESULTS = "results.jsonl"


def append_line(file: Path, line: Mapping[str, Any]) -> None:
    """Append a JSON line in one write, on the disk when this returns."""
    with file.open("ab", buffering=0) as results:
        results.write((json.dumps(line) + "\n").encode())
        os.fsync(results.fileno())


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a last one that was cut off is taken out of the file.

    Raises:
        ValueError: If a whole line is no JSON.
    """
    if not file.is_file():
        return []
    whole, _, cut = file.read_bytes().rpartition(b"\n")
    if cut:
        write_whole(file, whole + b"\n" if whole else b"")
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        got = _check.Verbatim(f"{file} ({error})")
        _check.fail("read_lines", "file", "hold a JSON object a line", got, "restore it")
