"""What a run is asked about: images, rows of tables or texts, read as those it was trained on."""

import errno
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dropmax import _check
from dropmax.data import DataWarning, folders, tables
from dropmax.data.columns import encode
from dropmax.data.delimited import STANDARD_INPUT
from dropmax.data.labeled import some
from dropmax.data.pixels import centered, pixels
from dropmax.data.texts import PACKAGED, as_table, column_of_texts, embed, lines_of, texts_of
from dropmax.errors import DropmaxFileNotFoundError, DropmaxValueError
from dropmax.training.pretrained import reads_texts, within
from dropmax.training.run import Run

AT_ONCE = 1_000
"""So many instances are predicted at a time."""


class Part(NamedTuple):
    """Up to `AT_ONCE` instances: where each stands, and the inputs of those not broken, in order.

    `broken` holds what is wrong with the others, `notes` what no training row had.
    """

    places: Sequence[Mapping[str, Any]]
    inputs: Tensor
    broken: Mapping[int, str]
    notes: Mapping[int, str] = MappingProxyType({})


class Instances(NamedTuple):
    """How many they are, the columns that stand beside them, and the instances part by part."""

    total: int
    columns: tuple[str, ...]
    parts: Iterator[Part]


class Rows(NamedTuple):
    """Those of one source: its name, None for texts of the caller, its table, and its cells."""

    source: str | None
    table: tables.Table
    cells: Any


def instances_of(run: Run, files: Sequence[str | Path], texts: Sequence[str] = ()) -> Instances:
    """The instances in files, in the standard input where one is `-`, and in texts.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file, or the texts, are not of the kind of the run; if a table lacks a
            column.
    """
    paths = [Path(file) for file in files]
    if paths.count(STANDARD_INPUT) > 1:
        _check.fail("files", "hold - once", _check.Verbatim("it twice"), "leave one out")
    if texts and not _is_on_texts(run):
        got = _check.Verbatim(f"{len(texts)} for {run.path}")
        _check.fail("texts", "be left out if the run is not on texts", got, "pass files")
    if len(run.shape) == 3:
        return _images(run, paths)
    given = [_rows(run, path) for path in paths]
    if texts:
        given.append(Rows(None, *as_table(_column(run), texts)))
    names = dict.fromkeys(name for rows in given for name in rows.cells.column_names)
    encoded = [_encoded(run, rows.table) for rows in given]
    parts = (
        part
        for rows, (inputs, broken, notes) in zip(given, encoded, strict=True)
        for part in _parts(rows, inputs, broken, notes)
    )
    return Instances(sum(len(rows.cells) for rows in given), tuple(names), parts)


def _is_on_texts(run: Run) -> bool:
    return len(run.shape) == 1 and run.record is None


def _images(run: Run, paths: Sequence[Path]) -> Instances:
    """Images, and those in folders; each part is read when it is asked for."""
    missing = next(filter(_is_missing, paths), None)
    if missing is not None:
        error = DropmaxFileNotFoundError
        _check.fail("files", "be there", str(missing), "check the path", error=error)
    files = [picture for path in paths for picture in _pictures(path)]
    starts = range(0, len(files), AT_ONCE)
    parts = (_part_of_images(run, files[start : start + AT_ONCE]) for start in starts)
    return Instances(len(files), (), parts)


def _is_missing(file: Path) -> bool:
    try:
        file.stat()
    except FileNotFoundError:
        return True
    except OSError as error:  # that of reading it says more, but for a text that is no path
        return error.errno == errno.ENAMETOOLONG
    return False


def _pictures(path: Path) -> list[Path]:
    """A file, or the pictures of a folder; a warning says which of its files are none."""
    if not path.is_dir():
        return [path]
    listing = folders.listed("files", path)
    pictures = listing.pictures
    if not pictures:
        got = _check.Verbatim(f"{path}, with {listing.described()}")
        _check.fail("files", "be images, or folders of them", got, "name another")
    if unused := listing.but(set(pictures)):
        said = f"files of {path} that are no images: {len(unused)} ({some(unused)})"
        warnings.warn(f"{_check.caller('files')}: {said}.", DataWarning, stacklevel=3)
    return [path / picture for picture in pictures]


def _part_of_images(run: Run, files: Sequence[Path]) -> Part:
    """The images that can be read, made as those were on which the run was trained."""
    found = [_image(file, run) for file in files]
    broken = {n: image for n, image in enumerate(found) if isinstance(image, str)}
    images = [image for image in found if isinstance(image, Tensor)]
    inputs = torch.stack(images) if images else torch.empty(0, *run.shape, dtype=torch.uint8)
    return Part([{"file": str(file)} for file in files], inputs, broken)


def _image(file: Path, run: Run) -> Tensor | str:
    """An image uint8 `[C, H, W]` as the run takes it, or the reason why there is none."""
    channels, height, width = run.shape
    found = pixels(file, run.size, channels)
    if isinstance(found, str):
        return found
    image = centered(found, run.size)
    if image.shape[1:] != (height, width):
        came = f"{image.shape[2]} x {image.shape[1]} pixels"
        return f"{came}, while the run takes {width} x {height}; resize it, or train with --size"
    return image


def _rows(run: Run, file: Path) -> Rows:
    """The rows of a table, or the lines of the standard input for a run on texts."""
    if file == STANDARD_INPUT:
        if _is_on_texts(run):
            return Rows(str(file), *as_table(_column(run), lines_of("files", file)))
    elif (missing := _is_missing(file)) or not file.is_file():
        of, remedy = "rows of a table", "check the path"
        if _is_on_texts(run):
            of, remedy = "texts", f"{remedy}, or pass a text as texts (--text)"
        error = DropmaxFileNotFoundError if missing else DropmaxValueError
        must = f"be CSV, TSV or parquet files, as the run is on {of}"
        _check.fail("files", must, str(file), remedy, error=error)
    return Rows(str(file), *tables.read_with_cells("files", file))


def _column(run: Run) -> str:
    """The column of the texts of a run."""
    return run.columns[0] if run.columns else run.config.text_column or "text"


def _encoded(run: Run, table: tables.Table) -> tuple[Tensor, Mapping[int, str], Mapping[int, str]]:
    """The inputs of sound rows, what is wrong with the others, and what no training row had.

    Inputs are numbers, or embeddings of texts by the encoder of the run.
    """
    rows, broken = table.rows, dict(table.broken)
    if run.record is not None:
        values, notes = encode(run.record, rows)
        sound = [n for n in range(len(rows)) if n not in broken]
        inputs = torch.from_numpy(values[sound]).float()
        return inputs, broken, {n: "; ".join(notes[n]) for n in notes}
    labels = run.config.label_column or tables.LABEL
    column = column_of_texts("files", _column(run), rows, labels)
    every = texts_of(rows, column, broken)
    texts = [text for n, text in enumerate(every) if n not in broken]
    config = within(run.config, run.path)
    rows_of: Callable[[Sequence[str]], Tensor] = partial(embed, encoder=config.encoder or PACKAGED)
    if config.pretrained is not None:
        rows_of = reads_texts(config) or rows_of
    return rows_of(texts) if texts else torch.empty(0, *run.shape), broken, {}


def _parts(
    rows: Rows, inputs: Tensor, broken: Mapping[int, str], notes: Mapping[int, str]
) -> Iterator[Part]:
    """The rows of a source, and their inputs, in parts. A row that was no row has no columns."""
    first = 0
    for start in range(0, len(rows.cells), AT_ONCE):
        cells = rows.cells.slice(start, AT_ONCE).to_pylist()
        numbers = range(start, start + len(cells))
        places = []
        for n, row in zip(numbers, cells, strict=True):
            of_row = {} if n in rows.table.broken and None in row.values() else row
            columns = {name: _plain(cell) for name, cell in of_row.items()}
            place = {"file": rows.source, "row": n}
            places.append(place | ({"columns": columns} if columns else {}))
        here = {n - start: broken[n] for n in numbers if n in broken}
        last = first + len(cells) - len(here)
        noted = {n - start: notes[n] for n in numbers if n in notes}
        yield Part(places, inputs[first:last], here, noted)
        first = last


def _plain(cell: Any) -> Any:
    """A cell as JSON takes it."""
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    return cell if cell is None or isinstance(cell, str | int) else str(cell)
