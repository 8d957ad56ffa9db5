"""Result lines: JSON, one a run, appended whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax._files import writing

RESULTS = "results.jsonl"


def append_line(file: Path, line: Mapping[str, Any]) -> None:
    """Append a JSON line in one write, on the disk when this returns.

    Where the last line was cut off, by a loss of power say, the new one takes its place.

    Raises:
        DropmaxOSError: If it cannot be written.
    """
    with writing(file), file.open("a+b", buffering=0) as lines:
        lines.seek(0)
        lines.truncate(lines.read().rfind(b"\n") + 1)
        lines.write((json.dumps(line) + "\n").encode())
        os.fsync(lines.fileno())


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file, which is left as it is; a last one that has no end is left out.

    It may be one that another process is writing, or one that was cut off.

    Raises:
        ValueError: If a whole line is no JSON.
    """
    if not file.is_file():
        return []
    whole = file.read_bytes().rpartition(b"\n")[0]
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        got = _check.Verbatim(f"{file} ({error})")
        _check.fail("file", "hold a JSON object a line", got, "restore it")
