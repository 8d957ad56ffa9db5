"""`load_images`: scikit-learn's digits, a folder of parquet or image files, a set of the hub."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dropmax import _check
from dropmax.data import tables
from dropmax.data.images import Images, Split, halves, rows_of


def load_images(
    name: str,
    *,
    root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Images:
    """Load and decode a data set of labeled images.

    Images become gray (C = 1) if all of them are, else RGB (C = 3). A row without a label or with
    an image that cannot be read is left out, and a warning says so. A data set without a test split
    is divided in two halves by a hash of the pixels, the same at every seed.

    Args:
        name: "digits" (scikit-learn's 1,797 digits, embedded), a folder that
            `datasets.load_dataset` takes, or the name of a data set on the Hugging Face hub.
        root: Where folders lie; the environment variable DROPMAX_DATA if None.
        image_column: The column of images; found by its type if None.
        label_column: The column of labels; found by its type if None.

    Returns:
        The data set, whole.

    Raises:
        ValueError: If there is no such data set, a column is missing or unclear, there is but one
            class, no image can be read, or images differ in size.

    Examples:
        >>> from dropmax.data import load_images
        >>> digits = load_images("digits")
        >>> digits.shape, len(digits.class_names)
        ((1, 8, 8), 10)
    """
    splits = _digits() if name == "digits" else tables.load(name, root)
    train = splits["train"].rows
    features = train.features
    image_column = tables.column("image_column", image_column, features, "Image")
    label_column = tables.column("label_column", label_column, features, "ClassLabel")
    class_names = tables.class_names(train, label_column, {})
    decoded = {
        split: _decode(splits[split], image_column, label_column, class_names, split)
        for split in ("train", "test")
        if split in splits
    }
    shapes = {split: tuple(part.images.shape[1:]) for split, part in decoded.items()}
    if len({shape[1:] for shape in shapes.values()}) > 1:
        got = _check.Verbatim(str(shapes))
        _check.fail("images", "have one size", got, "resize them")
    if len(set(shapes.values())) > 1:
        decoded = {
            split: part._replace(images=part.images.expand(-1, 3, -1, -1))
            for split, part in decoded.items()
        }
    if "test" not in decoded:
        whole = decoded["train"]
        first, second = halves(whole, len(class_names))
        decoded = {"train": rows_of(whole, first), "test": rows_of(whole, second)}
    return Images(name, decoded["train"], decoded["test"], class_names)


def holds_images(name: str, root: str | Path | None) -> bool:
    """Whether a data set has a column of images."""
    if name == "digits" or tables.is_csv(name, root):
        return name == "digits"
    features = tables.load(name, root)["train"].rows.features
    return any(tables.kind_of(feature) == "Image" for feature in features.values())


def _digits() -> dict[str, tables.Table]:
    """scikit-learn's digits as such a data set: 8 x 8 pixels of 0 to 16, scaled to 255."""
    with _check.extra("data"):
        import datasets
        from PIL import Image
        from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * 255.0 / 16.0).round().astype(np.uint8)
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=[str(n) for n in range(10)])
    )
    columns = {"image": [Image.fromarray(p) for p in pixels], "label": digits.target.tolist()}
    return {"train": tables.Table(datasets.Dataset.from_dict(columns, features=features), {})}


def _decode(
    table: tables.Table, column: str, label_column: str, class_names: tuple[str, ...], split: str
) -> Split:
    """The rows that can be read: images uint8 [N, C, H, W], gray if all of them are, else RGB."""
    import datasets
    from PIL import Image, UnidentifiedImageError

    rows, broken = table.rows, dict(table.broken)
    if type(rows.features[column]).__name__ != "Image":
        got = _check.Verbatim(f"{rows.features[column]}")
        _check.fail(f"column {column!r}", "hold images", got, "name another")
    files = rows.cast_column(column, datasets.Image(decode=False))[column]
    found: dict[int, Any] = {}
    for n, file in enumerate(files):
        try:
            source = file["path"] if file["bytes"] is None else io.BytesIO(file["bytes"])
            with Image.open(source) as image:
                image.load()
                found[n] = image.convert("L" if image.mode in ("1", "L") else "RGB")
        except (UnidentifiedImageError, OSError, TypeError, ValueError) as error:
            broken[n] = f"{type(error).__name__} in column {column!r}"
    target = tables.targets(rows, label_column, class_names, broken)
    kept = tables.sound(len(rows), split, broken)
    decoded = [found[n] for n in kept]
    sizes = {image.size for image in decoded}
    if len(sizes) != 1:
        some = ", ".join(f"{width} x {height}" for width, height in sorted(sizes)[:4])
        got = _check.Verbatim(f"{some} in {split}")
        _check.fail("images", "have one size", got, "resize them beforehand")
    if any(image.mode == "RGB" for image in decoded):
        decoded = [image.convert("RGB") for image in decoded]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in decoded]))
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return Split(pixels, target[kept])
