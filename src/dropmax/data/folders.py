"""A folder of pictures: a folder for each class, or a CSV file that names pictures and labels."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dropmax import _check
from dropmax.data import tables
from dropmax.data.labeled import DataWarning, some
from dropmax.data.record import NUMBER
from dropmax.data.splits import split_of
from dropmax.data.tables import Table

IMAGE, LABEL = "image", "label"
"""The columns of a table made of a folder."""
PASSED_OVER = "__MACOSX"
"""A folder that archives of a Mac hold beside the files."""
LAYOUT = "lay it out as FOLDER/CLASS/PICTURE, or FOLDER/train/CLASS/PICTURE with a folder test"
NAMES = 0.5
"""A column names pictures if more than this share of its values do.

If these are numbers, and the table is of no split, more than this share of the pictures has to be
in it too: they may be numbers of pictures by chance.
"""
FEW = 0.1
"""At most this share of the rows of a table may name several pictures; they are left out."""
DIFFERENT = 0.95
"""More than this share of numbers that name pictures differ."""
EXAMPLE = "submission"
"""In the name of a table that competitions add as an example, with labels that are none."""


class Source(NamedTuple):
    """The table of each split that there is, and the files that nothing is read of."""

    splits: dict[str, Table]
    unused: tuple[str, ...] = ()


class Listing(NamedTuple):
    """What lies in a folder, however deep.

    Attributes:
        folder: The folder.
        files: The files that count, relative to it.
        passed: What does not count: files that are hidden or in a folder that is, links that lead
            nowhere, to what is listed already or to a folder around all of it, and empty folders,
            with a slash at the end.
    """

    folder: Path
    files: tuple[Path, ...]
    passed: tuple[str, ...]

    @property
    def pictures(self) -> list[Path]:
        """The files that are pictures, by the ends of their names."""
        from PIL import Image

        ends = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
        return [file for file in self.files if file.suffix.lower() in ends]

    def but(self, used: Set[Path]) -> tuple[str, ...]:
        """The names of all files, but for those that are used; tables first, which may matter."""
        unused = [file for file in self.files if file not in used]
        unused.sort(key=lambda file: not tables.holds_rows(file))
        return (*map(str, unused), *self.passed)

    def described(self) -> str:
        """How many files of which kind there are."""
        kinds = Counter(file.suffix.lower() or file.name for file in self.files)
        return ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(5)) or "no files"


def listed(argument: str, folder: Path) -> Listing:
    """What lies in a folder. Links to folders are followed, each folder is listed once.

    Raises:
        OSError: If a folder may not be looked into.
        ValueError: If a name is not in UTF-8.
    """
    files: list[Path] = []
    passed: list[str] = []
    links: list[Path] = []
    seen: set[str] = set()

    def visit(directory: Path) -> None:
        seen.add(os.path.realpath(directory))
        entries = sorted(directory.iterdir())
        if not entries:
            passed.append(f"{directory.relative_to(folder)}/")
        for entry in entries:
            if entry.is_symlink() and entry.is_dir():
                links.append(entry)
            elif entry.is_dir():
                if os.path.realpath(entry) not in seen:
                    visit(entry)
            elif entry.is_file() and not _is_hidden(entry.relative_to(folder)):
                files.append(entry.relative_to(folder))
            else:
                passed.append(str(entry.relative_to(folder)))

    try:
        visit(folder)
        while links:
            link = links.pop(0)
            target = os.path.realpath(link)
            if target in seen or Path(target) in folder.resolve().parents:
                passed.append(str(link.relative_to(folder)))
            else:
                visit(link)
    except OSError as error:
        got = _check.Verbatim(f"{error.filename} ({type(error).__name__})")
        _check.fail(argument, "be readable", got, "check its rights", error=_check.kind_of(error))
    for file in files:
        try:
            str(file).encode("utf-8")
        except UnicodeEncodeError:
            name = _check.Verbatim(ascii(os.fsencode(file)))
            _check.fail(argument, "hold names in UTF-8", name, "rename it")
    return Listing(folder, tuple(files), tuple(passed))


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") or part == PASSED_OVER for part in file.parts)


def of_pictures(argument: str, listing: Listing, label_column: str | None, fewest: int) -> Source:
    """The pictures of a folder, with the labels of a table beside them or of their folders.

    There are so many classes of them at least. Where there are both, the table counts if it has the
    column of labels, and a warning says so.
    """
    pictures = listing.pictures
    found = _with_table(argument, listing, pictures, label_column or LABEL, fewest)
    in_classes = _are_in_classes(pictures)
    if found and in_classes:
        if (label_column or LABEL) not in found.splits["train"].rows.features:
            found = None
        else:
            said = "a table names the pictures and their classes; the names of the folders don't"
            warnings.warn(f"{_check.caller(argument)}: {said} count.", DataWarning, stacklevel=3)
    return found or _with_classes(argument, listing, pictures, fewest)


def _are_in_classes(pictures: Sequence[Path]) -> bool:
    """Whether all pictures are in folders, which are of two classes or more."""
    tops = {file.parts[0] for file in pictures if len(file.parts) > 1}
    depth = 1 + all(map(split_of, tops))
    classes = {file.parts[depth - 1] for file in pictures if len(file.parts) > depth}
    return len(classes) > 1 and all(len(file.parts) > depth for file in pictures)


def _with_classes(argument: str, listing: Listing, pictures: Sequence[Path], fewest: int) -> Source:
    """Each top folder is a class; or a split, if all of them are named so, with folders of classes.

    Raises:
        ValueError: If a class lies deeper, there are too few, or there is no training split.
    """
    tops = sorted({file.parts[0] for file in pictures if len(file.parts) > 1})
    of_splits = bool(tops) and all(map(split_of, tops))
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in pictures:
        *parents, _ = file.parts
        split = split_of(parents.pop(0)) if of_splits and parents else "train"
        if parents:
            found[split or "train"][parents[0]].append(file)
    _check_layout(argument, listing, tops if of_splits else [], found, fewest)
    splits = {split: _table(listing.folder, classes) for split, classes in found.items()}
    used = {file for classes in found.values() for files in classes.values() for file in files}
    return Source(splits, listing.but(used))


def _check_layout(
    argument: str,
    listing: Listing,
    split_folders: Sequence[str],
    found: Mapping[str, Mapping[str, Sequence[Path]]],
    fewest: int,
) -> None:
    """Every class has pictures right in its folder, and there are so many of them to train on."""
    names = [split_of(name) for name in split_folders]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        got = _check.Verbatim(" and ".join(split_folders))
        _check.fail(argument, f"hold one folder of {twice}", got, "join them, or rename one")
    depth = 2 + bool(split_folders)
    deeper = {
        name: sorted({file.parts[depth - 1] for file in files})
        for classes in found.values()
        for name, files in classes.items()
        if all(len(file.parts) > depth for file in files)
    }
    mixed = [name for name in deeper if split_of(name)]
    others = [name for name in found.get("train", ()) if not split_of(name)]
    if mixed and others:
        got = _check.Verbatim(f"{some(mixed)}, which hold folders, beside {some(others)}")
        must = "hold folders of splits alone, or of classes alone"
        _check.fail(argument, must, got, f"move {some(others)} elsewhere; {LAYOUT}")
    if deeper:
        name, folders = next(iter(deeper.items()))
        got = _check.Verbatim(f"{name} with no picture of its own but folders {some(folders)}")
        remedy = f"move the classes up, or name the folder that holds them; {LAYOUT}"
        _check.fail(argument, "hold its classes as folders of pictures", got, remedy)
    classes = found.get("train", {})
    if len(classes) < fewest:
        there = some([*split_folders, *(f"{name}/" for name in classes)]) or "pictures alone"
        beside = [str(file) for file in listing.files if tables.holds_rows(file)]
        read = some([name for name in beside if tables.is_named_as_one(name)])
        unread = some([name for name in beside if not tables.is_named_as_one(name)])
        there += f", and {read}, which names few of them" if read else ""
        there += f", and {unread}, no CSV, TSV or parquet file" if unread else ""
        got = _check.Verbatim(f"{len(listing.pictures)} pictures in {listing.folder}: {there}")
        must = "hold two classes to train on, a folder each, or a table with names of pictures"
        _check.fail(argument, must, got, LAYOUT)


def _table(folder: Path, classes: Mapping[str, Sequence[Path]]) -> Table:
    import datasets

    rows = [(str(folder / file), name) for name, files in classes.items() for file in files]
    features = datasets.Features(
        {
            IMAGE: datasets.Image(),
            LABEL: datasets.ClassLabel(names=sorted(classes, key=tables.numbers_first)),
        }
    )
    columns = {IMAGE: [file for file, _ in rows], LABEL: [name for _, name in rows]}
    return Table(datasets.Dataset.from_dict(columns, features=features), {})


class _Named(NamedTuple):
    """A table that names pictures, and the picture of each row, or None."""

    table: Table
    files: Sequence[Path | None]


def _with_table(
    argument: str, listing: Listing, pictures: Sequence[Path], label_column: str, fewest: int
) -> Source | None:
    """The pictures that tables beside them name; None if there is no such table to train on.

    They are the tables of splits if one is named train, else there has to be one. Its rows are of
    the splits in whose folders their pictures are, if all pictures are in such folders.
    """
    named: dict[Path, _Named] = {}
    for file in listing.files:
        beside = len(file.parts) == 1 or (len(file.parts) == 2 and split_of(file.parts[0]))
        example = EXAMPLE in file.name.lower()
        if beside and not example and tables.is_table(listing.folder / file):
            found = _named(argument, listing.folder, file, pictures, label_column)
            named.update({file: found} if found else {})
    if not named:
        return None
    by_split = {split: file for file in named if (split := _split_of_table(file))}
    others = [file for file in named if file not in by_split.values()]
    if "train" not in by_split:
        if len(others) > 1:
            got = _check.Verbatim(some(list(map(str, named))))
            _check.fail(argument, "hold one table of pictures, or train", got, "rename one train")
        if not others and fewest > 1:
            return None
        by_split = {**by_split, "train": others[0]} if others else {"train": next(iter(named))}
    splits = {split: named[file].table for split, file in by_split.items()}
    in_folders = all(len(file.parts) > 1 and split_of(file.parts[0]) for file in pictures)
    if len(splits) == 1 and others and in_folders:
        splits = _by_folder(named[others[0]])
    of_tables = [file for name in by_split.values() for file in named[name].files]
    used = {*by_split.values(), *(file for file in of_tables if file is not None)}
    return Source(splits, listing.but(used))


def _by_folder(whole: _Named) -> dict[str, Table]:
    """The rows of a table by the split in whose folder their picture is.

    Those without a picture are broken, and stay with those to train on.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for n, file in enumerate(whole.files):
        rows[(file and split_of(file.parts[0])) or "train"].append(n)
    if not any(whole.files[n] for n in rows["train"]):
        return {"train": whole.table}
    found, broken, levels = whole.table
    return {
        split: Table(
            found.select(of_split),
            {place: broken[n] for place, n in enumerate(of_split) if n in broken},
            levels,
        )
        for split, of_split in rows.items()
    }


def _split_of_table(file: Path) -> str | None:
    return split_of(file.parts[0]) if len(file.parts) == 2 else split_of(tables.stem(file))


def _named(
    argument: str, folder: Path, file: Path, pictures: Sequence[Path], label_column: str
) -> _Named | None:
    """A table with the pictures that it names in place of their names; None if it names none.

    Raises:
        ValueError: If two columns name pictures, but not the same ones, or if many rows of labels
            name several pictures.
    """
    rows, found, _ = tables.read(argument, folder / file)
    split = _split_of_table(file)
    own = [picture for picture in pictures if split and split_of(picture.parts[0]) == split]
    by_name: dict[str | int, list[Path]] = defaultdict(list)
    for picture in own or pictures:
        under = picture.relative_to(file.parent) if file.parent in picture.parents else picture
        for name in {picture.as_posix(), under.as_posix(), picture.name, picture.stem}:
            by_name[name.lower()].append(picture)
        if picture.stem.isdecimal():
            by_name[int(picture.stem)].append(picture)
    columns = {
        column: [str(cell) for cell in rows[column][:]]
        for column in rows.features
        if column != label_column
    }
    called = {
        column: {name: _called(name, by_name) for name in set(cells)}
        for column, cells in columns.items()
    }
    hits = {column: [name for name, found in of.items() if found] for column, of in called.items()}
    numbers = {
        column
        for column, hit in hits.items()
        if sum(bool(NUMBER.fullmatch(name.strip())) for name in hit) > NAMES * len(hit)
    }
    naming = [
        column
        for column, hit in hits.items()
        if len(hit) > NAMES * len(called[column])
        and (column not in numbers or len(called[column]) > DIFFERENT * len(rows))
        and (column not in numbers or split or len(hit) > NAMES * len(pictures))
    ]
    if not naming:
        return None

    def sureness(column: str) -> tuple[bool, bool, int]:
        is_index = tables.INDEX.fullmatch(column) is not None
        return column not in numbers, not is_index, len(hits[column])

    column = max(naming, key=sureness)
    files = [called[column][name] for name in columns[column]]
    rivals = [other for other in naming if sureness(other) == sureness(column)]
    for other in rivals if label_column in rows.features else ():
        if [called[other][name] for name in columns[other]] != files:
            got = _check.Verbatim(f"{column!r} and {other!r} in {file}")
            must = "have one column of a table that names pictures"
            _check.fail(argument, must, got, "remove one of the two columns")
    several = sum(len(one) > 1 for one in files)
    if several > FEW * len(rows) and label_column in rows.features:
        got = _check.Verbatim(f"{several} of {len(rows)} rows of {file} that name several pictures")
        must = "have pictures of different names, or a table with their paths"
        _check.fail(argument, must, got, "write paths, as in cat/1.png, or rename the pictures")
    return _joined(folder, rows, dict(found), column, files)


def _called(name: str, by_name: Mapping[str | int, Sequence[Path]]) -> Sequence[Path]:
    """The pictures that a cell names: by their path, its end, their name, that without its end, or
    their number.

    In any case, with slashes of any system, and on whatever machine their path was. 7 and 7.0 name
    0007.png if no picture is called 7; 7.5 names none.
    """
    text = name.strip()
    if NUMBER.fullmatch(text) and not text.isdecimal():
        if not float(text).is_integer():
            return ()
        text = str(int(float(text)))
    path = PurePosixPath(text.replace("\\", "/").lower().removeprefix("./"))
    parts = path.parts
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    number = [int(path.stem)] if path.stem.isdecimal() else []
    kinds: tuple[str | int, ...] = (str(path), *ends, path.stem, *number)
    return next((by_name[kind] for kind in kinds if kind in by_name), ())


def _joined(
    folder: Path,
    rows: Any,
    broken: dict[int, str],
    column: str,
    called: Sequence[Sequence[Path]],
) -> _Named:
    import datasets

    files: list[Path | None] = [None] * len(rows)
    for n, (name, found) in enumerate(zip(rows[column][:], called, strict=True)):
        if len(found) == 1:
            files[n] = found[0]
        else:
            broken.setdefault(n, f"{len(found)} pictures are called {str(name)!r}")
    rows = rows.remove_columns([column, *({IMAGE} & set(rows.features) - {column})])
    places = [None if file is None else str(folder / file) for file in files]
    pictures = datasets.Dataset.from_dict(
        {IMAGE: places}, features=datasets.Features({IMAGE: datasets.Image()})
    )
    return _Named(Table(datasets.concatenate_datasets([rows, pictures], axis=1), broken), files)
