"""What a training step costs with each head, as a ratio to the softmax head in the same run.

    python benchmarks/step.py --out benchmarks/results/step.jsonl --tables docs/heads.md

Two settings: a LeNet on images of MNIST's shape (batch 100, Adam, the authors' protocol), and a
head alone on 512 features and 1,000 classes (batch 256, forward and backward). The heads
alternate step by step; a ratio is the median over repeats of a head's time by softmax's in the same
repeat.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import dropmax
from dropmax.backbones import lenet

REPEATS = 9
RIVAL = "softmax"


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


def seconds(step: Callable[[], None]) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure(setting: str) -> list[dict[str, object]]:
    """One result line for each head."""
    make, steps = SETTINGS[setting]
    step = {head: make(head) for head in dropmax.HEADS}
    for head in step:
        for _ in range(3):
            step[head]()
    times: dict[str, list[float]] = {head: [] for head in step}
    for repeat in range(REPEATS):
        print(f"\r{setting}: repeat {repeat + 1} of {REPEATS}", end="", file=sys.stderr)
        total = dict.fromkeys(step, 0.0)
        for _ in range(steps):
            for head in step:
                total[head] += seconds(step[head])
        for head in step:
            times[head].append(total[head] / steps)
    print(file=sys.stderr)
    return [
        {
            "benchmark": "step",
            "setting": setting,
            "head": head,
            "milliseconds": round(1e3 * statistics.median(times[head]), 3),
            "ratio": round(
                statistics.median(t / s for t, s in zip(times[head], times[RIVAL], strict=True)), 3
            ),
            "repeats": REPEATS,
            "steps": steps,
            "threads": torch.get_num_threads(),
            "dropmax": dropmax.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        }
        for head in step
    ]


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def with_tables(page: str, lines: list[dict[str, object]]) -> str:
    """The page, its tables between `<!-- step: SETTING -->` and `<!-- end -->` made from lines."""
    for setting in SETTINGS:
        start, end = f"<!-- step: {setting} -->", "<!-- end -->"
        before, _, rest = page.partition(start)
        _, _, after = rest.partition(end)
        rows = [
            "| `{head}` | {milliseconds} | {ratio} |".format(**line)
            for line in lines
            if line["setting"] == setting
        ]
        table = ["| head | milliseconds | ratio to softmax |", "|---|---|---|", *rows]
        page = "\n".join([before + start, "", *table, "", end + after])
    return page


def main() -> None:
    """Measure every setting, print the table, write the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the result lines; replaced whole")
    parser.add_argument("--tables", type=Path, help="page whose tables are made from the lines")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = [line for setting in SETTINGS for line in measure(setting)]
    for line in lines:
        print("{setting:14} {head:16} {milliseconds:9} ms {ratio:6} x".format(**line))
    if options.out is not None:
        replace_text(options.out, "".join(json.dumps(line) + "\n" for line in lines))
    if options.tables is not None:
        replace_text(options.tables, with_tables(options.tables.read_text(), lines))


if __name__ == "__main__":
    main()
