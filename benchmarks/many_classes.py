"""What a training step of a head costs with very many classes, beside softmax.

    python benchmarks/many_classes.py --out benchmarks/results/many_classes.jsonl \
        --figure docs/images/many_classes

Features, linear maps, loss, forward and backward, float32. The baseline is F.linear and
F.cross_entropy. "maps alone" is the same products over the same chunks of instances and
nothing else. The methods take turns, each setting in a process of its own; a ratio is the median
over repeats of a method's time by the baseline's in the same repeat. Memory is the rise of the
peak in a process of its own over what it holds after one step, weights and gradients (on Linux,
elsewhere null). "training" are 100 steps of Adam at the most classes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lines import alternate, conditions, median_ratio, peak_of, print_peak, write_lines
from many_classes_page import (
    ALONE,
    BASELINE,
    FUSED,
    LOW_RANK,
    METHODS,
    NARROW,
    PLAIN,
    RANK,
    WIDE,
    Setting,
    draw,
)
from torch import Tensor, nn

import dropmax
from dropmax.fused import chunks
from dropmax.fused.compiled import ENOUGH
from dropmax.fused.passes import Map, rows_at_once

REPEATS = 9
MEMORY_REPEATS = 1
MOST_SCORES = 2**25
"""The plain composition is left out where it has more scores: it needs their size twenty times."""


Step = Callable[[], object]
Loss = Callable[[Tensor, Tensor], Tensor]


def softmax(setting: Setting) -> tuple[nn.Module, Loss]:
    linear = nn.Linear(setting.width, setting.classes)
    return linear, lambda x, y: F.cross_entropy(linear(x), y)


def chunked_softmax(setting: Setting) -> tuple[nn.Module, Loss]:
    linear = nn.Linear(setting.width, setting.classes)
    options = nn.LinearCrossEntropyOptions()
    return linear, lambda x, y: F.linear_cross_entropy(
        x, linear.weight, y, linear_bias=linear.bias, options=options
    )


def plain(setting: Setting) -> tuple[nn.Module, Loss]:
    head = dropmax.make_head("dropmax:preset=paper", setting.width, setting.classes)
    return head, lambda x, y: head.loss(head(x), y).total


def fused(spec: str) -> Callable[[Setting], tuple[nn.Module, Loss]]:
    def made(setting: Setting) -> tuple[nn.Module, Loss]:
        head = dropmax.make_head(spec, setting.width, setting.classes)
        return head, lambda x, y: head.fused_loss(x, y).total  # type: ignore[operator]

    return made


def without_compiler(setting: Setting) -> tuple[nn.Module, Loss]:
    head, loss = fused("dropmax:preset=paper")(setting)

    def plainly(x: Tensor, y: Tensor) -> Tensor:
        possible, chunks.in_one_pass.possible = chunks.in_one_pass.possible, False
        try:
            return loss(x, y)
        finally:
            chunks.in_one_pass.possible = possible

    return head, plainly


MAKERS: dict[str, Callable[[Setting], tuple[nn.Module, Loss]]] = {
    BASELINE: softmax,
    "F.linear_cross_entropy": chunked_softmax,
    PLAIN: plain,
    FUSED: fused("dropmax:preset=paper"),
    "fused, defaults": fused("dropmax"),
    "fused, no compiler": without_compiler,
    LOW_RANK: fused(f"dropmax:preset=paper,gate_rank={RANK}"),
}


def step_of(method: str, setting: Setting) -> Step:
    """Forward and backward; the gradients of the step before are overwritten."""
    if method == ALONE:
        return maps_alone(setting)
    torch.manual_seed(0)
    module, loss = MAKERS[method](setting)
    features = torch.randn(setting.instances, setting.width, requires_grad=True)
    target = torch.randint(setting.classes, (setting.instances,))

    def step() -> None:
        features.grad = None
        module.zero_grad()
        loss(features, target).backward()  # type: ignore[no-untyped-call]

    return step


def maps_alone(setting: Setting) -> Step:
    """The nine matrix products of three maps, over the same chunks."""
    features = torch.randn(setting.instances, setting.width)
    weights = [torch.randn(setting.classes, setting.width) for _ in range(3)]
    size = rows_at_once(setting.classes, features.device)

    def step() -> None:
        to_features = torch.zeros_like(features)
        for weight in weights:
            to_weight = torch.empty_like(weight)
            product = Map.of(features, to_features, (weight, None), (to_weight, None), size)
            for start in range(0, len(features), size):
                rows = slice(start, start + size)
                product.add_gradients(rows, product.scores(rows))

    return step


def is_compiled(method: str, setting: Setting) -> bool:
    """Whether what is not a product ran as compiled code."""
    fused_ones = (FUSED, "fused, defaults", LOW_RANK)
    enough = setting.instances * setting.classes >= ENOUGH
    return method in fused_ones and enough and chunks.in_one_pass.possible


def methods_for(setting: Setting) -> list[str]:
    """Those that fit into memory."""
    few = setting.instances * setting.classes <= MOST_SCORES
    return [method for method in METHODS if few or method != PLAIN]


def cost(setting: Setting) -> list[dict[str, Any]]:
    """Time and memory of each method."""
    steps = {method: step_of(method, setting) for method in methods_for(setting)}
    for step in steps.values():
        step()  # compiles
    rounds = max(1, 2**22 // (setting.instances * setting.classes))
    label = f"{setting.classes:,} classes"
    times = alternate(steps, repeats=REPEATS, rounds=rounds, label=label)
    del steps
    return [
        {
            "benchmark": "many_classes",
            "kind": "cost",
            **setting._asdict(),
            "method": method,
            "milliseconds": round(1e3 * statistics.median(times[method]), 3),
            "ratio": round(median_ratio(times[method], times[BASELINE]), 3),
            "megabytes": megabytes(method, setting),
            "repeats": REPEATS,
            "compiled": is_compiled(method, setting),
            **conditions(),
        }
        for method in times
    ]


def megabytes(method: str, setting: Setting) -> float | None:
    """The peak memory of a step beyond weights and gradients."""
    if method == ALONE:
        return None
    arguments = ["--memory", method, *arguments_of(setting)]
    return peak_of(__file__, arguments, repeats=MEMORY_REPEATS)


def arguments_of(setting: Setting) -> list[str]:
    return ["--setting", *map(str, setting), "--threads", str(torch.get_num_threads())]


def print_memory(method: str, setting: Setting) -> None:
    """The rise of the peak; the gradients of the warm-up are kept, and added to."""
    torch.manual_seed(0)
    module, loss = MAKERS[method](setting)
    inputs = torch.randn(setting.instances, setting.width)
    target = torch.randint(setting.classes, (setting.instances,))

    def step() -> None:
        module.zero_grad(set_to_none=False)
        features = inputs.clone().requires_grad_()
        loss(features, target).backward()  # type: ignore[no-untyped-call]

    print_peak(step, step)


def training(setting: Setting, *, steps: int = 100) -> dict[str, Any]:
    """Adam on one batch of features drawn at random, by the fused loss."""
    torch.manual_seed(0)
    head = dropmax.make_head("dropmax", setting.width, setting.classes)
    features = torch.randn(setting.instances, setting.width)
    target = torch.randint(setting.classes, (setting.instances,))
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    losses, seconds = [], []
    for n in range(steps):
        print(f"\rtraining: step {n + 1} of {steps}", end="", file=sys.stderr)
        start = time.perf_counter()
        optimizer.zero_grad()
        objective = head.fused_loss(features, target)  # type: ignore[operator]
        objective.total.backward()
        optimizer.step()
        losses.append(objective.total.item())
        seconds.append(time.perf_counter() - start)
    print(file=sys.stderr)
    return {
        "benchmark": "many_classes",
        "kind": "training",
        **setting._asdict(),
        "steps": steps,
        "seconds": round(statistics.median(seconds), 3),
        "loss": [round(loss, 4) for loss in losses],
        **conditions(),
    }


def main() -> None:
    """Measure, print, write the lines, the tables and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the result lines; replaced whole")
    parser.add_argument("--figure", type=Path, help="the figure's path without suffix")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", choices=MAKERS, help="print a method's peak alone")
    parser.add_argument("--setting", type=int, nargs=3, help="print the lines of N, D, K alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.setting:
        setting = Setting(*options.setting)
        if options.memory:
            print_memory(options.memory, setting)
        else:
            print("\n".join(map(json.dumps, cost(setting))))
        return
    lines: list[dict[str, Any]] = []
    for setting in (*WIDE, *NARROW):
        command = [sys.executable, __file__, *arguments_of(setting)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = [json.loads(line) for line in printed.splitlines()]
        for line in found:
            print(
                "{classes:9} {method:22} {milliseconds:10} ms {ratio:7} x {megabytes} MB".format(
                    **line
                )
            )
        lines += found
    lines.append(training(NARROW[-1]))
    if options.out is not None:
        write_lines(options.out, lines)
    if options.figure is not None:
        draw(lines, options.figure)


if __name__ == "__main__":
    main()
