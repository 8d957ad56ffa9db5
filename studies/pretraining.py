"""Pretrain a small network on 80 kinds of photos, and lay it beside photos of the 20 others.

    python -m studies.pretraining --out photos --data-root ROOT
    python -m studies pretrained-photos --data-root photos

ROOT holds cifar100-small. Every fifth of its classes, in the order of their names, is of the 20,
and no photo of them is seen in pretraining. The folder photos then has:

- `photos-20` and `photos-80`: the photos to train and to test on, which `load_data` reads.
- `small-resnet`: a ResNet of Transformers (He et al. 2016), trained with softmax on `photos-80`.

It takes about half an hour on one core. What is there already is not made again.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from dropmax._files import make_folder
from dropmax.data import DataSet, load_data
from dropmax.training import RunConfig, train
from studies.cifar import write_photos

SIDE = 64
"""Photos of 32 pixels are enlarged, as this ResNet halves them twice before its first block."""
WIDTHS, DEPTHS = (48, 96, 192), (2, 2, 2)
EPOCHS = 30
UNTRAINED, RUN, NETWORK = "untrained", "pretraining", "small-resnet"


def write_parts(data: DataSet, out: Path) -> None:
    """Write the photos of every fifth class, and those of the others."""
    few = {name for k, name in enumerate(sorted(data.class_names)) if k % 5 == 4}
    for names in (few, set(data.class_names) - few):
        folder = out / f"photos-{len(names)}"
        if folder.exists():
            continue
        photos = {}
        for split, labeled in (("train", data.train), ("test", data.test)):
            labels = [data.class_names[k] for k in labeled.target]
            rows = torch.tensor([n for n, label in enumerate(labels) if label in names])
            photos[split] = (labeled.inputs[rows], [labels[n] for n in rows])
        write_photos(folder, photos, sorted(names))


def pretrain(out: Path) -> None:
    """Train the network from scratch, and write it without its head."""
    if (out / NETWORK).exists():
        return
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=WIDTHS[0], hidden_sizes=list(WIDTHS), depths=list(DEPTHS), layer_type="basic"
    )
    transformers.ResNetModel(config).save_pretrained(out / UNTRAINED)
    processor = transformers.ConvNextImageProcessorPil(size={"shortest_edge": SIDE}, crop_pct=1.0)
    processor.save_pretrained(out / UNTRAINED)
    settings = RunConfig(
        "photos-80",
        "softmax",
        backbone=f"hf:{out / UNTRAINED}",
        tune="all",
        protocol="modern",
        epochs=EPOCHS,
        lr=3e-3,
        backbone_lr=3e-3,
        validation_fraction=0.0,
    )
    run = train(settings, out / RUN, root=out, threads=1, progress=True)
    print(f"{run.metrics['test']['error']:.2f} % test error with 80 classes", file=sys.stderr)
    network: Any = run.classifier().get_submodule("pretrained")
    network.model.save_pretrained(out / NETWORK)
    processor.save_pretrained(out / NETWORK)


def main(arguments: list[str] | None = None) -> None:
    """Write the photos and the network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    parser.add_argument("--data-root", type=Path, help="where cifar100-small lies")
    options = parser.parse_args(arguments)
    out = make_folder(options.out).resolve()
    write_parts(load_data("cifar100-small", root=options.data_root), out)
    pretrain(out)


if __name__ == "__main__":
    main()
