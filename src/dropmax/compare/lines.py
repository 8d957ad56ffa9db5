"""Result lines: one of JSON for each run, appended as a whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax._files import writing

RESULTS = "results.jsonl"


def append_line(file: Path, line: Mapping[str, Any]) -> None:
    """Append a JSON line. It is on the disk when this returns.

    If the last line was cut off, for example by a loss of power or a full disk, the new one
    replaces it.

    Raises:
        DropmaxOSError: If it cannot be written.
        ValueError: If it is a link: what it leads to may be a file of another kind.
    """
    if file.is_symlink():
        got = _check.Verbatim(f"{file} to {file.resolve()}")
        _check.fail("file", "be no link", got, "put the file itself there")
    with writing(file), file.open("a+b", buffering=0) as lines:
        lines.seek(0)
        lines.truncate(lines.read().rfind(b"\n") + 1)
        left = (json.dumps(line) + "\n").encode()
        while left:  # a disk that is nearly full takes a part of it, and only then raises
            left = left[lines.write(left) :]
        os.fsync(lines.fileno())


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file. A last line without an end is left out.

    Another process may be writing it, or it was cut off. The file is left as it is.

    Raises:
        ValueError: If a line with an end is no JSON.
    """
    if not file.is_file():
        return []
    whole = file.read_bytes().rpartition(b"\n")[0]
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        got = _check.Verbatim(f"{file} ({error})")
        _check.fail("file", "hold a JSON object a line", got, "restore it")
