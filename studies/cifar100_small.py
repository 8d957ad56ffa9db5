"""Rebuild cifar100-small, the images of the experiments with 100 classes, and compare it.

    python -m studies.cifar100_small --out FOLDER [--source NAME_OR_FOLDER]
    python -m studies.cifar100_small --verify FOLDER

`cifar100-small.sha256` lists its images, 100 to train on and 50 to test on of each fine class of
CIFAR-100 (Krizhevsky 2009), a line each: split, class and the first 16 hexadecimal digits of the
SHA-256 of the pixels (H x W x 3 bytes). They are looked for in all that the source has, whatever
its splits. The folder has their pixels in the order of the list; `load_data` reads it.
"""

import argparse
import hashlib
import sys
import tempfile
from collections import Counter
from pathlib import Path

import datasets
import torch
from PIL import Image

from dropmax import _check
from dropmax.data import LabeledData, load_data

LIST = Path(__file__).with_name("cifar100-small.sha256")
SOURCE = "uoft-cs/cifar100"
"""CIFAR-100 on the hub: columns img, fine_label, coarse_label."""

MISSPELLED = {"cra": "crab"}
"""Names of classes on the hub that are not those of CIFAR-100."""

Key = tuple[str, str]
"""Class and hash of an image."""


def read_list() -> dict[str, list[Key]]:
    """The images of each split, in order."""
    listed: dict[str, list[Key]] = {"train": [], "test": []}
    for line in LIST.read_text(encoding="utf-8").splitlines():
        split, label, digest = line.split()
        listed[split].append((label, digest))
    return listed


def class_names(listed: dict[str, list[Key]]) -> tuple[str, ...]:
    """The classes, in the order of their indices."""
    return tuple(sorted({label for keys in listed.values() for label, _ in keys}))


def keys_of(split: LabeledData, names: tuple[str, ...]) -> list[Key]:
    """Class and hash of each image."""
    pixels = split.inputs.permute(0, 2, 3, 1).contiguous().numpy()
    digests = [hashlib.sha256(image).hexdigest()[:16] for image in pixels]
    labels = [MISSPELLED.get(names[k], names[k]) for k in split.target]
    return list(zip(labels, digests, strict=True))


def rebuild(out: Path, source: str) -> None:
    """Write the listed images as a folder of parquet files, whole or not at all."""
    if out.exists():
        _check.fail("--out", "not exist yet", str(out), "name another folder")
    listed = read_list()
    data = load_data(source, image_column="img", label_column="fine_label")
    both = data.train, data.test
    pool = torch.cat([split.inputs for split in both])
    every = [key for split in both for key in keys_of(split, data.class_names)]
    row = {key: n for n, key in enumerate(every)}
    wanted = [key for keys in listed.values() for key in keys]
    missing = [key for key in wanted if key not in row]
    if missing:
        got = _check.Verbatim(f"{len(missing):,} missing, the first {' '.join(missing[0])}")
        must = f"hold the {len(wanted):,} listed images"
        _check.fail(f"--source {source}", must, got, "pass CIFAR-100 as it is")
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=list(class_names(listed)))
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{out.name}.", dir=out.parent) as place:
        folder = Path(place, out.name)
        folder.mkdir()
        for split, keys in listed.items():
            pixels = pool[[row[key] for key in keys]].permute(0, 2, 3, 1).numpy()
            columns = {
                "image": [Image.fromarray(image) for image in pixels],
                "label": [label for label, _ in keys],
            }
            table = datasets.Dataset.from_dict(columns, features=features)
            table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
        folder.rename(out)


def verify(folder: Path) -> None:
    """Raise where a folder does not hold the listed images, in their order."""
    listed = read_list()
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
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="the folder to write")
    task.add_argument("--verify", type=Path, help="a folder to compare with the list")
    parser.add_argument("--source", default=SOURCE, help="CIFAR-100, by default on the hub")
    options = parser.parse_args(arguments)
    try:
        if options.out:
            rebuild(options.out, options.source)
        else:
            verify(options.verify)
    except (ValueError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    print(f"{options.out or options.verify} holds the listed images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
