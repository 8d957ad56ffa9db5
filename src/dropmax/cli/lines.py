"""Lines of predictions in a file: as JSON, or as a table that no spreadsheet runs."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dropmax import _check
from dropmax._files import whole
from dropmax.data.cells import JOINT, guarded

SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON = (".jsonl", ".json")


def check_file(out: Path, files: Iterable[Path], run: Path) -> None:
    """The file to write ends in a format that we write, and is none of those that are read, nor of
    a run.
    """
    if out.suffix.lower() not in (*SEPARATORS, *JSON):
        must = f"end in {', '.join((*SEPARATORS, *JSON))}"
        _check.fail("out", must, str(out), "name another file")
    if out.is_dir():
        _check.fail("out", "be a file", str(out), "name another")
    if run.resolve() in out.resolve().parents:
        _check.fail("out", "be outside of the run", str(out), "name another file")
    if not out.parent.is_dir():
        _check.fail("out", "be in a folder that is there", str(out), "make it first")
    if out.resolve() in map(Path.resolve, files):
        _check.fail("out", "be another file than those to predict", str(out), "name another")


def write_lines(
    out: Path, lines: Iterable[Mapping[str, Any]], columns: Sequence[str], fields: Sequence[str]
) -> None:
    """Write lines whole or not at all: in a table the columns that came, then these fields.

    A field that is called as a column that came has `dropmax_` before its name.

    Raises:
        DropmaxOSError: If the file cannot be written; what stood there before still does.
    """
    separator = SEPARATORS.get(out.suffix.lower())
    with (
        whole(out) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        if separator is None:
            for line in lines:
                stream.write(json.dumps(line) + "\n")
            return
        writer = csv.writer(stream, delimiter=separator)
        named = [_free(field, columns) for field in fields]
        writer.writerow([guarded(name) for name in (*columns, *named)])
        for line in lines:
            came, ours = line.get("columns", {}), flat(line)
            cells = [came.get(name) for name in columns] + [ours.get(name) for name in fields]
            writer.writerow([_cell(cell) for cell in cells])


def fields_of(num_top: int, *, with_rows: bool, with_sets: bool) -> list[str]:
    """The fields of a line in a table, which names so many of the likeliest classes."""
    named = [field for place in range(2, num_top + 1) for field in _top(place)]
    return [
        "file",
        *(["row"] if with_rows else []),
        *("answer", "probability", *named, "retained"),
        *(["set"] if with_sets else []),
        *("note", "error"),
    ]


def flat(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line with a cell for each field: the likeliest classes by their place, and several as one.

    Examples:
        >>> from dropmax.cli.lines import flat
        >>> top = [{"class": "ant", "probability": 0.7}, {"class": "bee", "probability": 0.2}]
        >>> line = {"file": "a.png", "answer": "ant", "probability": 0.7, "top": top}
        >>> flat({**line, "set": ["ant", "bee"]})["top2"]
        'bee'
    """
    found = dict(line)
    for place, one in enumerate(line.get("top", ())[1:], 2):
        found |= zip(_top(place), (one["class"], one["probability"]), strict=True)
    found["retained"] = [one["class"] for one in line.get("retained") or ()]
    return found


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return JOINT.join(map(guarded, value))
    return guarded(value) if isinstance(value, str) else value


def _top(place: int) -> tuple[str, str]:
    return f"top{place}", f"top{place}_probability"


def _free(name: str, columns: Sequence[str]) -> str:
    """A name that no column has."""
    while name in columns:
        name = f"dropmax_{name}"
    return name
