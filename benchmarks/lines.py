"""What the benchmarks share: alternating times, result lines, and tables made from them."""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import dropmax


def alternate(
    steps: Mapping[str, Callable[[], None]], *, repeats: int, rounds: int, label: str
) -> dict[str, list[float]]:
    """Seconds of each step, a mean over rounds for each repeat; the steps take turns."""
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats):
        print(f"\r{label}: repeat {repeat + 1} of {repeats}", end="", file=sys.stderr)
        total = dict.fromkeys(steps, 0.0)
        for _ in range(rounds):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                total[name] += time.perf_counter() - start
        for name in steps:
            times[name].append(total[name] / rounds)
    print(file=sys.stderr)
    return times


def median_ratio(times: Sequence[float], rival: Sequence[float]) -> float:
    """The median over repeats of a time by the rival's in the same repeat."""
    return statistics.median(t / r for t, r in zip(times, rival, strict=True))


def versions() -> dict[str, Any]:
    """What the times depend on."""
    return {
        "threads": torch.get_num_threads(),
        "dropmax": dropmax.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the result lines, in the place of those that were there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))


def with_table(page: str, marker: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The page with the table between `<!-- marker -->` and `<!-- end -->` made anew."""
    start, end = f"<!-- {marker} -->", "<!-- end -->"
    before, found, rest = page.partition(start)
    if not found:
        raise SystemExit(f"the page has no {start}")
    _, _, after = rest.partition(end)
    table = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join([before + start, "", *table, "", end + after])
