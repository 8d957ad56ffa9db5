"""What the benchmarks share: alternating times and result lines."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dropmax._files import write_whole
from dropmax.training.run import versions


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


def median_ratio(times: Sequence[float], baseline: Sequence[float]) -> float:
    """The median over repeats of a time by the baseline's in the same repeat."""
    return statistics.median(t / r for t, r in zip(times, baseline, strict=True))


def costs(times: Sequence[float], baseline: Sequence[float], *, rounds: int) -> dict[str, Any]:
    """What a line says of the times that `alternate` measured, in rounds, and of the conditions."""
    return {
        "milliseconds": round(1e3 * statistics.median(times), 3),
        "ratio": round(median_ratio(times, baseline), 3),
        "repeats": len(times),
        "steps": rounds,
        **conditions(),
    }


def peak_of(script: str, arguments: Sequence[str], *, repeats: int) -> float | None:
    """The median of what `print_peak` prints in that script, in a process of its own each time.

    The processes give freed memory back at once.
    """
    returned_at_once = {
        "MALLOC_MMAP_THRESHOLD_": "16384",
        "MALLOC_TRIM_THRESHOLD_": "0",
        "MALLOC_ARENA_MAX": "1",
    }
    command = [sys.executable, script, *arguments]
    environment = os.environ | returned_at_once
    printed = [
        subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        ).stdout.strip()
        for _ in range(repeats)
    ]
    return None if "null" in printed else statistics.median(map(float, printed))


def print_peak(warm_up: Callable[[], object], step: Callable[[], object]) -> None:
    """Megabytes that a step needs on top of what is held, or null where nothing tells."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        print("null")
        return
    warm_up()

    def read(field: str) -> int:
        line = next(x for x in status.read_text().splitlines() if x.startswith(field))
        return int(line.split()[1])

    clear.write_text("5")  # the peak starts anew
    before = read("VmRSS")
    step()
    print(round((read("VmHWM") - before) / 1024.0, 1))


def conditions() -> dict[str, Any]:
    """What the times depend on."""
    return {"threads": torch.get_num_threads(), **versions()}


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the result lines, in the place of those that were there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))
