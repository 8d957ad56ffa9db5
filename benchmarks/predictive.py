"""What the exact predictive costs beside Monte Carlo, and how far Monte Carlo is off.

    python benchmarks/predictive.py --out benchmarks/results/predictive.jsonl \
        --figure docs/images/monte_carlo

256 instances in float32, logits normal with deviation 3, gates normal with deviation 1. The
baseline is Monte Carlo with 128 samples, written as plainly in torch as can be. The methods take
turns; a ratio is the median over repeats of a method's time by the baseline's in the same repeat.
Memory is the rise of a process's peak over what it held before, the median over processes of
its own that give freed memory back at once (on Linux, elsewhere null). The error is the root mean
square over classes of a probability's, to the exact predictive in float64 at a tolerance of 1e-12.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lines import alternate, conditions, median_ratio, peak_of, print_peak, write_lines
from torch import Tensor

from dropmax.predictive import exact, plugin

NUM_INSTANCES = 256
NUM_SAMPLES = 128
CLASSES = (10, 100, 1_000, 10_000)
REPEATS = 9
MEMORY_REPEATS = 5
BASELINE = "plain Monte Carlo"
SAMPLES = (1, 3, 10, 30, 100, 300, 1_000, 3_000)
LARGEST_ERROR_CASE = 1_000
"""The error of many samples is measured up to so many classes."""


def plain_monte_carlo(logits: Tensor, retain_logits: Tensor, num_samples: int) -> Tensor:
    """The mean softmax over hard masks, as one writes it down."""
    rho = retain_logits.sigmoid()
    probs = torch.zeros_like(logits)
    for _ in range(num_samples):
        mask = torch.rand_like(rho) < rho
        mask |= ~mask.any(-1, keepdim=True)
        probs += logits.masked_fill(~mask, -math.inf).softmax(-1)
    return (probs / num_samples).log()


def exact_with_gradient(logits: Tensor, retain_logits: Tensor) -> None:
    """Forward and backward."""
    inputs = logits.detach().requires_grad_(), retain_logits.detach().requires_grad_()
    exact(*inputs).sum().backward()


METHODS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    BASELINE: lambda o, r: plain_monte_carlo(o, r, NUM_SAMPLES),
    "exact": exact,
    "exact with gradient": exact_with_gradient,
    "plug-in": plugin,
}


def scores(num_classes: int) -> tuple[Tensor, Tensor]:
    """Logits and gates."""
    generator = torch.Generator().manual_seed(0)
    logits, retain_logits = (
        torch.randn(NUM_INSTANCES, num_classes, generator=generator) for _ in range(2)
    )
    return 3.0 * logits, retain_logits


def cost(num_classes: int) -> list[dict[str, Any]]:
    """Time and memory of each method."""
    inputs = scores(num_classes)
    steps = {name: lambda method=method: method(*inputs) for name, method in METHODS.items()}
    rounds = 5 if num_classes <= 100 else 1
    times = alternate(steps, repeats=REPEATS, rounds=rounds, label=f"{num_classes} classes")
    return [
        {
            "benchmark": "predictive",
            "kind": "cost",
            "classes": num_classes,
            "method": name,
            "milliseconds": round(1e3 * statistics.median(times[name]), 3),
            "ratio": round(median_ratio(times[name], times[BASELINE]), 3),
            "megabytes": megabytes(name, num_classes),
            "samples": NUM_SAMPLES,
            "repeats": REPEATS,
            **conditions(),
        }
        for name in METHODS
    ]


def megabytes(method: str, num_classes: int) -> float | None:
    """The peak memory of a method, each time in a process of its own: the median."""
    arguments = ["--memory", method, "--classes", str(num_classes)]
    arguments += ["--threads", str(torch.get_num_threads())]
    return peak_of(__file__, arguments, repeats=MEMORY_REPEATS)


def errors(num_classes: int) -> list[dict[str, Any]]:
    """The error of Monte Carlo by its samples, and that of the exact predictive in float32."""
    logits, retain_logits = scores(num_classes)
    truth = exact(logits.double(), retain_logits.double(), tolerance=1e-12).exp()
    torch.manual_seed(0)

    def line(samples: int | None, log_probs: Tensor) -> dict[str, Any]:
        error = (log_probs.double().exp() - truth).square().mean().sqrt().item()
        return {
            "benchmark": "predictive",
            "kind": "error",
            "classes": num_classes,
            "samples": samples,
            "rms_error": float(f"{error:.3g}"),
            **conditions(),
        }

    sampled = [line(s, plain_monte_carlo(logits, retain_logits, s)) for s in SAMPLES]
    return [*sampled, line(None, exact(logits, retain_logits))]


def draw(lines: Sequence[Mapping[str, Any]], stem: Path) -> None:
    """Monte Carlo's error against its samples, and where the exact predictive stands."""
    from dropmax.report.figures import COLORS, axes_of, log_scale, save

    figure, (ax,) = axes_of(1, width=6.0, height=3.8)
    found = [line for line in lines if line["kind"] == "error"]
    for n, num_classes in enumerate(sorted({line["classes"] for line in found})):
        mine = [line for line in found if line["classes"] == num_classes]
        sampled = [line for line in mine if line["samples"] is not None]
        (best,) = (line["rms_error"] for line in mine if line["samples"] is None)
        (ratio,) = (
            line["ratio"]
            for line in lines
            if line["kind"] == "cost"
            and (line["classes"], line["method"]) == (num_classes, "exact")
        )
        points = [line["samples"] for line in sampled], [line["rms_error"] for line in sampled]
        ax.plot(*points, "-o", ms=3, color=COLORS[n + 1], label=f"{num_classes:,} classes")
        same_time = ratio * NUM_SAMPLES
        ax.plot(same_time, best, "*", ms=13, color=COLORS[n + 1])
        ax.axvline(same_time, lw=1, ls=":", color=COLORS[n + 1])
    ax.plot([], [], "*", ms=11, color="#4d4d4d", label="exact, at the samples of the same time")
    log_scale(ax, "x")
    log_scale(ax, "y")
    ax.set_xlabel("Monte Carlo samples", fontsize=9)
    ax.set_ylabel("error of a probability (rms)", fontsize=9)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, frameon=False)
    save({stem.name: figure}, stem.parent, ("svg",))


def main() -> None:
    """Measure, print, write the lines, the table and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the result lines; replaced whole")
    parser.add_argument("--figure", type=Path, help="the figure's path without suffix")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", choices=METHODS, help="print a method's peak alone")
    parser.add_argument("--classes", type=int, default=CLASSES[0], help="for --memory")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        method, inputs = METHODS[options.memory], scores(options.classes)
        print_peak(lambda: method(*(x[:2] for x in inputs)), lambda: method(*inputs))
        return
    lines = [line for num_classes in CLASSES for line in cost(num_classes)]
    for line in lines:
        print(
            "{classes:6} {method:20} {milliseconds:9} ms {ratio:6} x {megabytes} MB".format(**line)
        )
    for num_classes in CLASSES:
        if num_classes <= LARGEST_ERROR_CASE:
            lines += errors(num_classes)
    if options.out is not None:
        write_lines(options.out, lines)
    if options.figure is not None:
        draw(lines, options.figure)


if __name__ == "__main__":
    main()
