"""Many heads and seeds on one data set: one JSON line a run, continued where it was interrupted."""

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from dropmax import _check
from dropmax._files import write_whole
from dropmax.data import Images
from dropmax.training import RunConfig, check, load_data, train

RESULTS = "results.jsonl"
RUNS = "runs"


@dataclass(frozen=True)
class Comparison:
    """Heads, compared on the same splits and the same initial backbone for each seed.

    Attributes:
        base: The settings that all runs share; its head and seed are replaced.
        heads: As `dropmax.make_head` takes them.
        seeds: Of the runs.

    Raises:
        ValueError: If there is no head or seed, or one stands twice.
    """

    base: RunConfig
    heads: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for argument in ("heads", "seeds"):
            values = getattr(self, argument)
            if not values or len(set(values)) < len(values):
                must = "hold at least one, each once"
                _check.fail("Comparison", argument, must, values, "list each once")

    def configs(self) -> list[RunConfig]:
        """The settings of every run, seed by seed."""
        return [
            replace(self.base, head=head, seed=seed) for seed in self.seeds for head in self.heads
        ]


def compare(
    comparison: Comparison,
    out: str | Path,
    *,
    data: Images | None = None,
    root: str | Path | None = None,
    jobs: int = 1,
    threads: int | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train every head with every seed; a comparison that was interrupted goes on.

    Args:
        comparison: What is compared.
        out: The directory to write: `results.jsonl`, a line a run, and the runs.
        data: The data set that `comparison` names, where it is loaded already.
        root: Where folders of data lie; the environment variable DROPMAX_DATA if None.
        jobs: How many runs at once.
        threads: Threads of each run; the machine's cores divided by `jobs` if None. The last bits
            of the numbers depend on it, and every line carries it.
        progress: Whether to show a bar over runs with the time left.

    Returns:
        The result lines, seed by seed.

    Raises:
        ValueError: If a setting or the data do not fit, or `out` is of another experiment; nothing
            has been written then.
        TrainingError: If a run breaks down.

    Examples:
        >>> import tempfile
        >>> from dropmax.experiments import Comparison, compare
        >>> from dropmax.training import RunConfig
        >>> base = RunConfig("digits", "softmax", train_per_class=5, epochs=1)
        >>> comparison = Comparison(base, heads=("softmax", "dropmax"), seeds=(0,))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     lines = compare(comparison, out, progress=False)
        >>> [line["config"]["head"] for line in lines]
        ['softmax', 'dropmax']
    """
    _check.integer("compare", "jobs", jobs, low=1)
    threads = threads or max((os.cpu_count() or 1) // jobs, 1)
    _check.integer("compare", "threads", threads, low=1)
    folder = Path(out)
    configs = comparison.configs()
    done = {_key(line["config"]): line for line in _read(folder, comparison.base)}
    missing = [config for config in configs if _key(config.to_dict()) not in done]
    if missing:
        data = data or load_data(comparison.base, root)
        for config in missing:
            check(config, data)
        with _bar(len(configs), len(done), progress) as advance:
            for line in _lines(missing, folder / RUNS, data, jobs, threads):
                append_line(folder / RESULTS, line)
                done[_key(line["config"])] = line
                advance()
    return [done[_key(config.to_dict())] for config in configs]


def split_heads(text: str) -> tuple[str, ...]:
    """The heads in a text with commas between them; a part `option=value` belongs to the head.

    Examples:
        >>> from dropmax.experiments import split_heads
        >>> split_heads("softmax,dropmax:kl_weight=0.5,aux_weight=2.0,attention")
        ('softmax', 'dropmax:kl_weight=0.5,aux_weight=2.0', 'attention')
    """
    heads: list[str] = []
    for part in text.split(","):
        if "=" in part and ":" not in part and heads:
            heads[-1] += "," + part.strip()
        else:
            heads.append(part.strip())
    return tuple(heads)


def run_folder(out: str | Path, config: RunConfig) -> Path:
    """Where in the directory of a comparison a run lies."""
    head = re.sub(r"[^A-Za-z0-9_.=-]+", "_", config.head)
    return Path(out, RUNS, f"{head}-seed{config.seed}")


def append_line(file: Path, line: Mapping[str, Any]) -> None:
    """Append a JSON line in one write, on the disk when this returns."""
    with file.open("ab", buffering=0) as results:
        results.write((json.dumps(line) + "\n").encode())
        os.fsync(results.fileno())


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a last one that was cut off is taken out of the file.

    Raises:
        ValueError: If a whole line is no JSON.
    """
    if not file.is_file():
        return []
    whole, _, cut = file.read_bytes().rpartition(b"\n")
    if cut:
        write_whole(file, whole + b"\n" if whole else b"")
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        got = _check.Verbatim(f"{file} ({error})")
        _check.fail("read_lines", "file", "hold a JSON object a line", got, "restore it")


def _read(folder: Path, base: RunConfig) -> list[dict[str, Any]]:
    """The lines of a directory, which is new, empty or of the same settings."""
    lines = read_lines(folder / RESULTS)
    begun = bool(lines) or (folder / RUNS).is_dir()
    other = any(_shared(line.get("config", {})) != _shared(base.to_dict()) for line in lines)
    occupied = folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not begun))
    if other or occupied:
        got = _check.Verbatim(f"{str(folder)!r}, which holds something else")
        must = "be new, empty or of the same experiment"
        _check.fail("compare", "out", must, got, "name another directory")
    return lines


def _shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings but for head and seed."""
    return {name: value for name, value in config.items() if name not in ("head", "seed")}


def _key(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def _lines(
    configs: Sequence[RunConfig], folder: Path, data: Images, jobs: int, threads: int
) -> Iterator[dict[str, Any]]:
    """The result lines of runs, as they end."""
    folder.mkdir(parents=True, exist_ok=True)
    if jobs == 1:
        for config in configs:
            yield _line(config, folder.parent, data, jobs, threads)
        return
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_begin_worker, initargs=(data,)
    ) as pool:
        running = [pool.submit(_line, c, folder.parent, None, jobs, threads) for c in configs]
        try:
            for finished in as_completed(running):
                yield finished.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _line(
    config: RunConfig, out: Path, data: Images | None, jobs: int, threads: int
) -> dict[str, Any]:
    """Train one run and say how it went."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run = train(config, run_folder(out, config), data=data or _worker_data[0], progress=False)
    finally:
        torch.set_num_threads(before)
    rows = [row for row in run.history if "curve" in row]
    return {
        "config": config.to_dict(),
        **run.metrics,
        "jobs": jobs,
        "gate": run.history[-1].get("gate"),
        "curve": {
            "epoch": [row["epoch"] for row in rows],
            "train_nll": [row["curve"]["train"]["nll"] for row in rows],
            "test_nll": [row["curve"]["test"]["nll"] for row in rows],
        },
    }


_worker_data: list[Images] = []
"""The data set of a worker process, sent to it once."""


def _begin_worker(data: Images) -> None:
    """Keep the data, and end when the parent has ended, however it did."""
    _worker_data.append(data)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _bar(total: int, done: int, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar over runs with the time left; what it yields moves it on by one."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        disable=not shown,
    ) as progress:
        task = progress.add_task("", total=total, completed=done)
        yield lambda: progress.advance(task)
