"""Where labeled rows come from: a file, a folder or the hub, by split."""

import os
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from dropmax import _check
from dropmax.data import folders, tables
from dropmax.data.folders import Source
from dropmax.data.splits import split_of
from dropmax.data.tables import Table
from dropmax.errors import DropmaxFileNotFoundError, DropmaxValueError

SHARD = re.compile(r"-\d{5}-of-\d{5}$")
"""Ends the name of a file that holds a part of a table."""


def load(
    argument: str,
    source: str,
    root: str | Path | None,
    *,
    label_column: str | None = None,
    fewest: int = 2,
) -> Source:
    """The splits by name, of a file, a folder or the hub.

    A folder of pictures has so many classes at least. If it has folders of classes and a table with
    names of pictures, too, the table counts where it has the column of labels.
    """
    if not isinstance(source, str) or not source:
        remedy = "pass a file, a folder or a name"
        _check.fail(argument, "name a data set", source, remedy, of=str)
    places = _places(source, root)
    place = _found(places)
    if place is None:
        return _of_hub(argument, source, places)
    return (
        _of_folder(argument, place, label_column, fewest)
        if place.is_dir()
        else _of_file(argument, place)
    )


def leaves(name: str, root: str | Path | None) -> Path | None:
    """The file or folder of that name, if there is one outside of the working directory and the
    root.
    """
    place = _found(_places(name, root))
    roots = [folder.resolve() for folder in _places("", root)]
    if place is None or any(place.resolve().is_relative_to(folder) for folder in roots):
        return None
    return place


def _places(name: str, root: str | Path | None) -> list[Path]:
    """Where a file or a folder of that name may lie."""
    root = root or os.environ.get("DROPMAX_DATA")
    return [*([Path(root, name)] if root else []), Path(name).expanduser()]


def _found(places: Sequence[Path]) -> Path | None:
    return next((place for place in places if place.exists()), None)


def _of_file(argument: str, file: Path) -> Source:
    return Source({"train": tables.read(argument, file)})


def _of_folder(argument: str, folder: Path, label_column: str | None, fewest: int) -> Source:
    """Pictures if there are some, else tables."""
    listing = folders.listed(argument, folder)
    if listing.pictures:
        return folders.of_pictures(argument, listing, label_column, fewest)
    found = [file for file in listing.files if tables.is_table(folder / file)]
    depth = min((len(file.parts) for file in found), default=0)
    shallowest = [file for file in found if len(file.parts) == depth]
    if not found or len({file.parent for file in shallowest}) > 1:
        got = _check.Verbatim(f"{folder}, with {listing.described()}")
        must = "hold pictures or tables"
        remedy = "put pictures, JPEG or PNG, in a folder for each class, or one table in this one"
        error = DropmaxValueError if listing.files else DropmaxFileNotFoundError
        _check.fail(argument, must, got, remedy, error=error)
    used = _by_split(shallowest)
    splits = {
        split: _joined([tables.read(argument, folder / file) for file in files])
        for split, files in used.items()
    }
    return Source(splits, listing.but({file for files in used.values() for file in files}))


def _by_split(files: Sequence[Path]) -> dict[str, list[Path]]:
    """The tables named by splits, in one file or in several parts; or the only one, as train."""
    stems: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        stems[SHARD.sub("", tables.stem(file))].append(file)
    found = {stem: split for stem in stems if (split := split_of(stem))}
    if not found and len(stems) == 1:
        return {"train": next(iter(stems.values()))}
    if sorted(set(found.values())) != sorted(found.values()) or "train" not in found.values():
        got = _check.Verbatim(", ".join(file.name for file in files))
        must = "hold one table, or one named train beside those of other splits"
        _check.fail("splits", must, got, "rename, join or remove some")
    return {split: stems[stem] for stem, split in found.items()}


def _joined(parts: Sequence[Table]) -> Table:
    """Parts of a table, one after the other."""
    import datasets

    starts = accumulate((len(part.rows) for part in parts), initial=0)
    broken = {
        start + n: why
        for start, part in zip(starts, parts, strict=False)
        for n, why in part.broken.items()
    }
    levels = frozenset[str]().union(*(part.levels for part in parts))
    return Table(datasets.concatenate_datasets([part.rows for part in parts]), broken, levels)


def _of_hub(argument: str, name: str, places: Sequence[Path]) -> Source:
    with _check.extra("train"):
        import datasets

    looked = ", ".join(str(place) for place in places)
    is_path = name.startswith((".", "~")) or Path(name).is_absolute() or name.count("/") > 1
    is_path |= "/" in name and any(place.parent.is_dir() for place in places)
    end = Path(name).suffix.lower()
    is_file = end in tables.READERS or tables.is_named_as_one(name)
    if is_path or is_file or (end and "/" not in name):  # names of the hub have an owner or no end
        got = _check.Verbatim(f"{name!r}, which is not at {looked}")
        must = "be a folder, or a CSV, TSV or parquet file"
        remedy = "check the path, or say by root (--data-root) where it lies"
        _check.fail(argument, must, got, remedy, error=DropmaxFileNotFoundError)
    if sys.stderr.isatty():
        print(f"{name!r} is not at {looked}; asking the Hugging Face hub ...", file=sys.stderr)
    try:
        found = datasets.load_dataset(name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0]
        got = _check.Verbatim(f"{name!r} ({looked} is no folder; {reason})")
        must = "be a folder of data files or a data set of the hub"
        remedy = "check the name, --data-root or DROPMAX_DATA, and the network"
        _check.fail(argument, must, got, remedy, error=_check.kind_of(error))
    splits = {
        split: Table(found[str(name)], {}) for name in found if (split := split_of(str(name)))
    }
    if "train" not in splits:
        got = _check.Verbatim(", ".join(map(str, found)))
        _check.fail("splits", "hold train", got, "name the training split train")
    return Source(splits)
