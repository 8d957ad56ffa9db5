"""What a training step costs with each head, as a ratio to the softmax head in the same run.

    python benchmarks/step.py --out benchmarks/results/step.jsonl

Three kinds of settings: a LeNet on images of MNIST's shape (batch 100, Adam, the authors'
protocol); a head alone on 512 features and 1,000 classes (batch 256, forward and backward); and
softmax and DropMax alone, and nn.Linear + nn.CrossEntropyLoss, each eager and compiled, beside the
last of these, eager. The methods alternate step by step; a ratio is the median over repeats of a
method's time by the baseline's in the same repeat.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lines import alternate, costs, write_lines
from torch import nn

import dropmax
from dropmax.training.networks import lenet

REPEATS = 9
BASELINE = "softmax"
LINEAR = "nn.Linear + nn.CrossEntropyLoss"


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


OPTIONS = (
    "dropmax:preset=paper,posterior=prior",
    "dropmax:preset=paper,masks=mean",
    "dropmax:preset=paper,masks=straight_through",
)
"""Options of DropMax that change what a step computes."""
SETTINGS: dict[str, tuple[Callable[[str], Callable[[], None]], int]] = {
    "lenet_step": (lenet_step, 20),
    "head_512_1000": (head_step, 10),
}


SHAPES = ((100, 500, 10), (200, 512, 77), (200, 512, 150), (256, 512, 1000))
"""Instances, features and classes of the heads beside nn.Linear."""


def beside_linear(method: str, shape: tuple[int, int, int]) -> Callable[[], None]:
    """Forward and backward of a method, features included."""
    torch.manual_seed(0)
    instances, width, classes = shape
    features = torch.randn(instances, width, requires_grad=True)
    target = torch.randint(classes, (instances,))
    name, _, compiled = method.partition(", ")
    loss: Callable[[], torch.Tensor]
    if name == LINEAR:
        module, criterion = nn.Linear(width, classes), nn.CrossEntropyLoss()
        loss = lambda: criterion(module(features), target)  # noqa: E731
    else:
        module = dropmax.make_head(name, width, classes)
        loss = lambda: module.loss(module(features), target).total  # noqa: E731
    if compiled:
        loss = torch.compile(loss)
    parameters = [features, *module.parameters()]

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        loss().backward()

    return step


def measure_beside_linear(shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    """One result line for each method."""
    methods = [h + c for h in (LINEAR, "softmax", "dropmax") for c in ("", ", compiled")]
    steps = {method: beside_linear(method, shape) for method in methods}
    rounds = 10 if shape[-1] > 100 else 40
    times = alternate(steps, repeats=REPEATS, rounds=rounds, label="N {} D {} K {}".format(*shape))
    return [
        {
            "benchmark": "step",
            "setting": "beside_linear",
            **dict(zip(("instances", "features", "classes"), shape, strict=True)),
            "method": method,
            **costs(times[method], times[LINEAR], rounds=rounds),
        }
        for method in methods
    ]


def measure(setting: str) -> list[dict[str, Any]]:
    """One result line for each head."""
    make, rounds = SETTINGS[setting]
    steps = {head: make(head) for head in (*dropmax.HEADS, *OPTIONS)}
    times = alternate(steps, repeats=REPEATS, rounds=rounds, label=setting)
    return [
        {
            "benchmark": "step",
            "setting": setting,
            "head": head,
            **costs(times[head], times[BASELINE], rounds=rounds),
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
        print("{setting:14} {head:44} {milliseconds:9} ms {ratio:6} x".format(**line))
    for shape in SHAPES:
        found = measure_beside_linear(shape)
        for line in found:
            print("{classes:14} {method:32} {milliseconds:9} ms {ratio:6} x".format(**line))
        lines += found
    if options.out is not None:
        write_lines(options.out, lines)


if __name__ == "__main__":
    main()
