"""Images: scikit-learn's digits, and those that `datasets` finds in files or on the hub."""

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from dropmax import _check
from dropmax.data import tables
from dropmax.data.folders import Source
from dropmax.data.labeled import LabeledData
from dropmax.data.splits import SPLITS


def read_images(
    splits: Mapping[str, tables.Table],
    label_column: str,
    image_column: str | None,
) -> tables.Found:
    """The images and labels of a data set's splits."""
    train = splits["train"].rows
    column = tables.column("image_column", image_column, train.features, "Image")
    class_names = tables.class_names(train, label_column, {})
    found = {
        split: _decode(splits[split], column, label_column, class_names, split)
        for split in SPLITS
        if split in splits
    }
    shapes = {split: tuple(part.inputs.shape[1:]) for split, part in found.items()}
    if len({shape[1:] for shape in shapes.values()}) > 1:
        got = _check.Verbatim(str(shapes))
        _check.fail("images", "have one size", got, "resize them")
    if len(set(shapes.values())) > 1:
        found = {
            split: replace(part, inputs=part.inputs.expand(-1, 3, -1, -1))
            for split, part in found.items()
        }
    return tables.Found(class_names, found, ())


def digits() -> Source:
    """scikit-learn's digits as such a data set: 8 x 8 pixels of 0 to 16, scaled to 255."""
    with _check.extra("train"):
        import datasets
        from PIL import Image
        from sklearn.datasets import load_digits

    found = load_digits()
    pixels = (found.images * 255.0 / 16.0).round().astype(np.uint8)
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=[str(n) for n in range(10)])
    )
    columns = {"image": [Image.fromarray(p) for p in pixels], "label": found.target.tolist()}
    rows = datasets.Dataset.from_dict(columns, features=features)
    return Source({"train": tables.Table(rows, {})})


def _decode(
    table: tables.Table, column: str, label_column: str, class_names: tuple[str, ...], split: str
) -> LabeledData:
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
            if n in broken:
                continue
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
    ids = tuple(files[n]["path"] or str(n) for n in kept)
    return LabeledData(pixels, target[kept], ids, tables.notes(broken))
