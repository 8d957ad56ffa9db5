"""`load_images`: scikit-learn's digits, a folder of parquet or image files, a set of the hub."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dropmax import _check
from dropmax.data.images import Images, Split, halves


def load_images(
    name: str,
    *,
    root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Images:
    """Load and decode a data set of labeled images.

    Images become gray (C = 1) if all of them are, else RGB (C = 3). A data set without a test split
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
            class, an image cannot be read, or images differ in size.

    Examples:
        >>> from dropmax.data import load_images
        >>> digits = load_images("digits")
        >>> digits.shape, len(digits.class_names)
        ((1, 8, 8), 10)
    """
    if not isinstance(name, str) or not name:
        _check.fail("load_images", "name", "name a data set", name, "pass digits, or a folder")
    splits = _digits() if name == "digits" else _load(name, root)
    features = splits["train"].features
    image_column = _column("image_column", image_column, features, "Image")
    label_column = _column("label_column", label_column, features, "ClassLabel")
    class_names = _class_names(splits["train"], label_column)
    decoded = {
        split: Split(
            _decode(splits[split], image_column, split),
            _targets(splits[split], label_column, class_names, split),
        )
        for split in ("train", "test")
        if split in splits
    }
    shapes = {split: tuple(part.images.shape[1:]) for split, part in decoded.items()}
    if len({shape[1:] for shape in shapes.values()}) > 1:
        _check.fail(
            "load_images", "images", "have one size", _check.Verbatim(str(shapes)), "resize them"
        )
    if len(set(shapes.values())) > 1:
        decoded = {
            split: part._replace(images=part.images.expand(-1, 3, -1, -1))
            for split, part in decoded.items()
        }
    if "test" not in decoded:
        decoded["train"], decoded["test"] = halves(decoded["train"], len(class_names))
    return Images(name, decoded["train"], decoded["test"], class_names)


def _load(name: str, root: str | Path | None) -> Any:
    """The splits by name, of a folder or of the hub."""
    import datasets

    root = root or os.environ.get("DROPMAX_DATA")
    places = [Path(root, name)] if root else []
    places.append(Path(name).expanduser())
    folder = next((place for place in places if place.is_dir()), None)
    looks_like_a_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    looked = ", ".join(str(place) for place in places)
    if folder is None and looks_like_a_path:
        got = _check.Verbatim(f"{name!r}, which is not at {looked}")
        _check.fail("load_images", "name", "be a folder", got, "check the path")
    try:
        splits = datasets.load_dataset(str(folder) if folder else name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0]
        got = _check.Verbatim(f"{name!r} ({looked} is no folder; {reason})")
        if folder:
            got = _check.Verbatim(f"{name!r} ({reason})")
        must = "be a folder of data files or a data set of the hub"
        remedy = "check the name, --data-root or DROPMAX_DATA, and the network"
        _check.fail("load_images", "name", must, got, remedy)
    if "train" not in splits:
        got = _check.Verbatim(", ".join(splits))
        _check.fail("load_images", "splits", "hold train", got, "name the training split train")
    return splits


def _digits() -> Any:
    """scikit-learn's digits as such a data set: 8 x 8 pixels of 0 to 16, scaled to 255."""
    import datasets
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * 255.0 / 16.0).round().astype(np.uint8)
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=[str(n) for n in range(10)])
    )
    columns = {"image": [Image.fromarray(p) for p in pixels], "label": digits.target.tolist()}
    return {"train": datasets.Dataset.from_dict(columns, features=features)}


def _column(argument: str, column: str | None, features: Any, kind: str) -> str:
    """The column asked for, or the only one of a kind."""
    if column is not None:
        _check.choice("load_images", argument, column, features)
        return column
    found = [str(name) for name, feature in features.items() if type(feature).__name__ == kind]
    if len(found) != 1:
        came = f"{len(found)} among the columns {', '.join(features)}"
        must = f"be named where there is not one column of type {kind}"
        option = "--" + argument.replace("_", "-")
        _check.fail("load_images", argument, must, _check.Verbatim(came), f"pass {option}")
    return found[0]


def _class_names(rows: Any, column: str) -> tuple[str, ...]:
    """Names of the classes: those the data set keeps, else its different labels in order."""
    names = getattr(rows.features[column], "names", None) or [
        str(label) for label in sorted(set(rows[column]))
    ]
    if len(names) < 2:
        got = _check.Verbatim(f"{len(names)} in column {column!r}")
        _check.fail("load_images", "labels", "have two classes or more", got, "check the column")
    return tuple(names)


def _targets(rows: Any, column: str, class_names: tuple[str, ...], split: str) -> Tensor:
    """Class indices of the rows."""
    labels = list(rows[column])
    if not getattr(rows.features[column], "names", None):
        index = {name: k for k, name in enumerate(class_names)}
        labels = [index.get(str(label), -1) for label in labels]
    unknown = [n for n, label in enumerate(labels) if label is None or label < 0]
    if unknown:
        got = _check.Verbatim(f"{len(unknown)} rows without one, the first is {unknown[0]}")
        must = f"name a class of the training split in every row of {split}"
        _check.fail("load_images", "labels", must, got, "remove those rows")
    return torch.tensor(labels, dtype=torch.int64)


def _decode(rows: Any, column: str, split: str) -> Tensor:
    """The images of the rows, uint8 [N, C, H, W]: gray if all of them are, else RGB."""
    import datasets
    from PIL import Image, UnidentifiedImageError

    if type(rows.features[column]).__name__ != "Image":
        got = _check.Verbatim(f"{rows.features[column]}")
        _check.fail("load_images", f"column {column!r}", "hold images", got, "name another")
    files = rows.cast_column(column, datasets.Image(decode=False))[column]
    decoded: list[Any] = []
    for n, file in enumerate(files):
        try:
            source = file["path"] if file["bytes"] is None else io.BytesIO(file["bytes"])
            with Image.open(source) as image:
                image.load()
                decoded.append(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        except (UnidentifiedImageError, OSError, TypeError, ValueError) as error:
            got = _check.Verbatim(f"{type(error).__name__} at row {n} of {split}")
            _check.fail("load_images", "images", "be readable", got, "mend or remove that row")
    sizes = {image.size for image in decoded}
    if len(sizes) != 1:
        some = ", ".join(f"{width} x {height}" for width, height in sorted(sizes)[:4]) or "no rows"
        got = _check.Verbatim(f"{some} in {split}")
        _check.fail("load_images", "images", "have one size", got, "resize them beforehand")
    if any(image.mode == "RGB" for image in decoded):
        decoded = [image.convert("RGB") for image in decoded]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in decoded]))
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
