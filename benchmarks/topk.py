"""What the ten most probable of very many classes cost, beside a whole row of nn.Linear's.

    python benchmarks/topk.py --out benchmarks/results/topk.jsonl

131,072 classes, features of width 512, float32, without gradient. The baseline is torch.topk of
the log_softmax of F.linear, with the parameters of an nn.Linear. The methods take turns; a ratio is
the median over repeats of a method's time by the baseline's in the same repeat. Memory is the rise
of the peak in a process of its own over what it holds before (on Linux, elsewhere null).
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lines import alternate, costs, peak_of, print_peak, write_lines
from torch import Tensor, nn

import dropmax

REPEATS = 9
MEMORY_REPEATS = 3
CLASSES, WIDTH, K = 131_072, 512, 10
BATCHES = {1: 10, 64: 1}
"""Instances, and how often a method is called in a repeat."""

BASELINE = "nn.Linear"
METHODS = (BASELINE, "softmax", "dropmax", "dropmax:gate_rank=32")

Step = Callable[[Tensor], object]


def step_of(method: str) -> Step:
    """The ten most probable classes of features."""
    torch.manual_seed(0)
    if method == BASELINE:
        linear = nn.Linear(WIDTH, CLASSES)
        return lambda x: torch.topk(F.linear(x, linear.weight, linear.bias).log_softmax(-1), K)
    head = dropmax.make_head(method, WIDTH, CLASSES)
    return lambda x: head.topk(x, K)


def measure(instances: int) -> list[dict[str, Any]]:
    """One result line for each method."""
    features = torch.randn(instances, WIDTH)
    made = {method: step_of(method) for method in METHODS}
    steps = {method: lambda step=step: step(features) for method, step in made.items()}
    rounds = BATCHES[instances]
    times = alternate(steps, repeats=REPEATS, rounds=rounds, label=f"batch {instances}")
    return [
        {
            "benchmark": "topk",
            "instances": instances,
            "features": WIDTH,
            "classes": CLASSES,
            "k": K,
            "method": method,
            "megabytes": megabytes(method, instances),
            **costs(times[method], times[BASELINE], rounds=rounds),
        }
        for method in METHODS
    ]


def megabytes(method: str, instances: int) -> float | None:
    """The peak memory of a step beyond the parameters."""
    arguments = ["--memory", method, "--instances", str(instances)]
    arguments += ["--threads", str(torch.get_num_threads())]
    return peak_of(__file__, arguments, repeats=MEMORY_REPEATS)


def print_memory(method: str, instances: int) -> None:
    """The rise of the peak in a step, after another one."""
    step, features = step_of(method), torch.randn(instances, WIDTH)
    print_peak(lambda: step(features), lambda: step(features))


@torch.no_grad()
def main() -> None:
    """Measure every batch, print the table, write the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the result lines; replaced whole")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", choices=METHODS, help="print a method's peak alone")
    parser.add_argument("--instances", type=int, choices=BATCHES, default=1, help="of --memory")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        print_memory(options.memory, options.instances)
        return
    lines = [line for instances in BATCHES for line in measure(instances)]
    for line in lines:
        row = "{instances:4} {method:22} {milliseconds:9} ms {ratio:7} x {megabytes} MB"
        print(row.format(**line))
    if options.out is not None:
        write_lines(options.out, lines)


if __name__ == "__main__":
    main()
