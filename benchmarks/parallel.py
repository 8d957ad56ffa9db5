"""What a step costs with the classes spread over two processes, beside one with half of them.

    python benchmarks/parallel.py --out benchmarks/results/parallel.jsonl

262,144 classes, features of width 256, 64 instances, float32, each process with one thread: the
loss, the gradients of the head and of the features. Three ways take turns: the classes over both
processes, half of the classes in one process alone, and half of them in each with no exchange.
A ratio is the median over repeats of a time by that of half of them alone, in the same repeat.
Memory is that of a process: its parameters, and the rise of the peak over these and their gradients
(on Linux, elsewhere null).

`modelled` says what more processes would cost: the time of half in each, divided among them, and
that of the all-reduces that a step takes, each as long as one that is measured here. It is checked
against the two processes.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lines import alternate, costs, peak_of, print_peak, write_lines
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import parallelize_module

import dropmax
from dropmax.fused.chunks import part_of
from dropmax.fused.passes import rows_at_once

CLASSES, WIDTH, INSTANCES = 262_144, 256, 64
REPEATS, ROUNDS, MEMORY_REPEATS = 9, 2, 3
HEADS = ("softmax", "dropmax", "dropmax:gate_rank=32")
SPREAD, ALONE, APART = "over two processes", "half alone", "half in each"
WAYS = (SPREAD, ALONE, APART)
MODELLED = (2, 8, 64)

Step = Callable[[], object]


def head_of(name: str, way: str) -> dropmax.Head:
    """The head of a way, in each process."""
    torch.manual_seed(0)
    if way != SPREAD:
        return dropmax.make_head(name, WIDTH, CLASSES // 2)
    model = nn.ModuleDict({"head": dropmax.make_head(name, WIDTH, CLASSES)})
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    parallelize_module(model, mesh, {"head": dropmax.ClassParallel()})
    return model["head"]


def step_of(name: str, way: str) -> Step:
    """The loss and the gradients of a head; nothing in the second process where it is alone."""
    if way == ALONE and dist.get_rank():
        return lambda: None
    head = head_of(name, way)
    features = torch.randn(INSTANCES, WIDTH, requires_grad=True)
    target = torch.randint(head.out_features, (INSTANCES,))

    def step() -> None:
        features.grad = None
        head.zero_grad()
        if name == "softmax":
            total = head.loss(head(features), target).total
        else:
            total = head.fused_loss(features, target).total
        total.backward()

    return step


def together(step: Step) -> Step:
    """The step, at whose end the processes wait for one another."""

    def both() -> None:
        step()
        dist.barrier()

    return both


def all_reduce_milliseconds(numbers: int) -> float:
    """The median time of an all-reduce of so many numbers, of 200."""
    x, times = torch.zeros(numbers), []
    for _ in range(200):
        start = time.perf_counter()
        dist.all_reduce(x)
        times.append(time.perf_counter() - start)
        x.zero_()
    return 1e3 * statistics.median(times)


def small_all_reduces(name: str, processes: int) -> int:
    """Those of maxima and of sums in a step, two for each part of the instances."""
    if name == "softmax":
        return 2
    classes, cpu = CLASSES // processes, torch.device("cpu")
    parts = 0
    for start in range(0, INSTANCES, rows_at_once(classes, cpu)):
        rows = min(rows_at_once(classes, cpu), INSTANCES - start)
        part = max(1, part_of(rows * classes, cpu, exchanges=True) // classes)
        parts += math.ceil(rows / part)
    return 2 * parts


def modelled(processes: int, count: int, half: float, small: float, large: float) -> dict[str, Any]:
    """Milliseconds of a step over so many processes, and of them those of the exchange.

    Args:
        processes: How many there are.
        count: The number of all-reduces of maxima and sums.
        half: Milliseconds of half of the classes in each of two processes, without exchange.
        small: Those of such an all-reduce between two processes. Between more of them one takes
            log2 of their number times as long.
        large: Those of the all-reduce of the features' gradient.
    """
    exchange = math.log2(processes) * (count * small + large)
    return {
        "processes": processes,
        "milliseconds": round(2.0 * half / processes + exchange, 1),
        "exchange": round(exchange, 1),
        "all-reduces": count + 1,
    }


def measure(name: str) -> list[dict[str, Any]]:
    """One result line for each way, and one for each number of processes of the model."""
    held = parameter_megabytes(name)
    steps = {way: together(step_of(name, way)) for way in WAYS}
    times = alternate(steps, repeats=REPEATS, rounds=ROUNDS, label=name)
    about = {
        "benchmark": "parallel",
        "head": name,
        "classes": CLASSES,
        "features": WIDTH,
        "instances": INSTANCES,
    }
    lines = [
        {**about, "way": way, "parameters": held, **costs(times[way], times[ALONE], rounds=ROUNDS)}
        for way in WAYS
    ]
    small, large = (all_reduce_milliseconds(x) for x in (INSTANCES, INSTANCES * WIDTH))
    half = 1e3 * statistics.median(times[APART])
    measured = 1e3 * statistics.median(times[SPREAD])
    for processes in MODELLED:
        count = small_all_reduces(name, processes)
        found = modelled(processes, count, half, small, large)
        by_measured = round(found["milliseconds"] / measured, 3) if processes == 2 else None
        lines.append({**about, "way": "modelled", **found, "by measured": by_measured})
    return lines


def parameter_megabytes(name: str) -> float:
    """Those of the parameters of half of the classes, float32."""
    numbers = sum(parameter.numel() for parameter in head_of(name, APART).parameters())
    return round(4 * numbers / 2**20, 1)


def draw(lines: Sequence[Mapping[str, Any]], stem: Path) -> None:
    """The modelled milliseconds against the number of processes, and those that are measured."""
    from dropmax.report.figures import COLORS, axes_of, log_scale, save

    figure, (ax,) = axes_of(1, width=5.5, height=3.2)
    for color, head in zip(COLORS, HEADS, strict=False):
        mine = [line for line in lines if line["head"] == head]
        model = [line for line in mine if line["way"] == "modelled"]
        processes, total, exchange = (
            [line[field] for line in model] for field in ("processes", "milliseconds", "exchange")
        )
        ax.plot(processes, total, color=color, label=f"{head}, modelled")
        arithmetic = [a - b for a, b in zip(total, exchange, strict=True)]
        ax.plot(processes, arithmetic, color=color, ls=":")
        measured = [line["milliseconds"] for line in mine if line["way"] == SPREAD]
        ax.plot([2], measured, "o", ms=5, color=color, label=f"{head}, measured")
    log_scale(ax, "x")
    log_scale(ax, "y")
    ax.set_xticks(MODELLED, list(map(str, MODELLED)))
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.set_xlabel("processes; dotted: without the exchange", fontsize=9)
    ax.set_ylabel("a step, milliseconds", fontsize=9)
    ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save({stem.name: figure}, stem.parent, ("svg",))


def group_of_two(arguments: list[str]) -> str:
    """What the first of two processes of this script prints."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "errors").open("w+") as errors:
        command = [sys.executable, __file__, *arguments, "--store", str(Path(folder) / "store")]
        second = subprocess.Popen(
            [*command, "--rank", "1"], stdout=subprocess.DEVNULL, stderr=errors
        )
        try:
            first = subprocess.run(
                [*command, "--rank", "0"], stdout=subprocess.PIPE, text=True, check=False
            )
        finally:
            second.terminate()
            second.wait()
        if first.returncode:
            errors.seek(0)
            sys.exit(f"benchmarks/parallel.py: the processes failed; the second:\n{errors.read()}")
    return first.stdout


def work(options: argparse.Namespace) -> None:
    """What one of the two processes does: measure and print lines, or the peak of a way."""
    torch.set_num_threads(1)
    store = f"file://{options.store}"
    dist.init_process_group("gloo", init_method=store, rank=options.rank, world_size=2)
    if options.memory:
        step = together(step_of(*options.memory))
        print_peak(step, step)
    else:
        for name in HEADS:
            for line in measure(name):
                print(json.dumps(line))
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Measure every head, print the table, write the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the result lines; replaced whole")
    parser.add_argument("--figure", type=Path, help="the figure's path without suffix")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs=2, metavar=("HEAD", "WAY"), help="print a peak alone")
    options = parser.parse_args()
    if options.memory and not (options.memory[0] in HEADS and options.memory[1] in WAYS):
        parser.error(f"--memory takes a head of {HEADS} and a way of {WAYS}")
    if options.rank is not None:
        work(options)
        return
    if options.memory:
        print(group_of_two(["--memory", *options.memory]), end="")
        return
    lines = [json.loads(line) for line in group_of_two([]).splitlines()]
    for line in lines:
        if line["way"] in (SPREAD, ALONE):
            arguments = ["--memory", line["head"], line["way"]]
            line["megabytes"] = peak_of(__file__, arguments, repeats=MEMORY_REPEATS)
        print(json.dumps(line))
    if options.out is not None:
        write_lines(options.out, lines)
    if options.figure is not None:
        draw(lines, options.figure)


if __name__ == "__main__":
    main()
