"""What a training step costs with each head, as a ratio to the softmax head in the same run.

    python benchmarks/step.py --out benchmarks/results/step.jsonl

Two settings: a LeNet on images of MNIST's shape (batch 100, Adam, the authors' protocol), and a
head alone on 512 features and 1,000 classes (batch 256, forward and backward). The heads
alternate step by step; a ratio is the median over repeats of a head's time by softmax's in the same
repeat.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lines import alternate, conditions, median_ratio, write_lines
from torch import nn

import dropmax
from dropmax.training.networks import lenet

REPEATS = 9
BASELINE = "softmax"


def lenet_step(head: str) -> Callable[[], None]:
    """A full training step of LeNet with Adam."""
    torch.manual_seed(0)
    model = nn.Sequential(lenet((1, 28, 28)), dropmax.make_head(head, 500, 10))
    criterion = dropmax.Criterion(model)
    optimizer = torch.optim.Adam(dropmax.decay_groups(model, 1e-4), lr=1e-3)
    images, target = torch.rand(100, 1, 28, 28), torch.randint(10, (100,))

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(images), target).backward()
        optimizer.step()

    return step


def head_step(head: str) -> Callable[[], None]:
    """Forward and backward of the head alone, features included."""
    torch.manual_seed(0)
    module = dropmax.make_head(head, 512, 1000)
    features = torch.randn(256, 512, requires_grad=True)
    target = torch.randint(1000, (256,))

    def step() -> None:
        features.grad = None
        module.zero_grad()
        module.loss(module(features), target).total.backward()

    return step


SETTINGS: dict[str, tuple[Callable[[str], Callable[[], None]], int]] = {
    "lenet_step": (lenet_step, 20),
    "head_512_1000": (head_step, 10),
}


def measure(setting: str) -> list[dict[str, Any]]:
    """One result line for each head."""
    make, rounds = SETTINGS[setting]
    steps = {head: make(head) for head in dropmax.HEADS}
    times = alternate(steps, repeats=REPEATS, rounds=rounds, label=setting)
    return [
        {
            "benchmark": "step",
            "setting": setting,
            "head": head,
            "milliseconds": round(1e3 * statistics.median(times[head]), 3),
            "ratio": round(median_ratio(times[head], times[BASELINE]), 3),
            "repeats": REPEATS,
            "steps": rounds,
            **conditions(),
        }
        for head in steps
    ]


def main() -> None:
    """Measure every setting, print the table, write the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the result lines; replaced whole")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = [line for setting in SETTINGS for line in measure(setting)]
    for line in lines:
        print("{setting:14} {head:16} {milliseconds:9} ms {ratio:6} x".format(**line))
    if options.out is not None:
        write_lines(options.out, lines)


if __name__ == "__main__":
    main()
