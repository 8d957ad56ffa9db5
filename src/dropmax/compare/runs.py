"""Train the runs that are missing in a directory, several at once."""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from dropmax import _check
from dropmax._files import holds_something, make_folder
from dropmax.compare.lines import RESULTS, append_line, read_lines
from dropmax.data import DataSet
from dropmax.heads import Head, register_head
from dropmax.heads.registry import own_heads
from dropmax.training import RunConfig, splits_and_classifier, train
from dropmax.training.pretrained import identity_of
from dropmax.training.rows import check_digest, check_settings, of_classes
from dropmax.training.run import METRICS
from dropmax.wrap import find_head

RUNS = "runs"
Found = TypeVar("Found")


def complete(
    configs: Sequence[RunConfig],
    out: str | Path,
    *,
    data: Callable[[], DataSet],
    jobs: int,
    threads: int | None,
    advance: Callable[[], None],
    begin: Callable[[DataSet], None] = lambda _: None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Train the runs that have no line yet. Their settings differ in head and seed alone.

    Args:
        configs: The settings of the runs.
        out: The directory to write: `results.jsonl`, with a line for each run, and the runs.
        data: Loads their data set; called if a run is missing.
        jobs: The number of runs at once.
        threads: The number of threads of each run; the machine's cores divided by `jobs` if None.
        advance: Called after each run.
        begin: Called with the data set before the first run.
        options: Of `train`: what the runs keep, and the machine.

    Returns:
        The lines, in the order of the settings.

    Raises:
        ValueError: If a setting or the data do not fit, or `out` is of another experiment. Nothing
            is written then.
        TrainingError: If a run breaks down.
    """
    _check.integer("jobs", jobs, low=1)
    threads = threads_of(threads, jobs)
    _check.integer("threads", threads, low=1)
    folder = Path(out)
    done = finished(configs, folder)
    missing = [config for config in configs if config not in done]
    if missing:
        loaded = data()
        check_lines(done.values(), loaded)
        check_networks(done.values(), configs[0])
        for config in missing:
            splits, _ = splits_and_classifier(config, loaded)
            check_settings(config, of_classes(config, loaded), splits)
        check_options(done.values(), loaded)
        begin(loaded)
        for line in _lines(missing, folder / RUNS, loaded, jobs, threads, options):
            append_line(folder / RESULTS, line)
            done[RunConfig.from_dict(line["config"])] = line
            advance()
    return [done[config] for config in configs]


def finished(configs: Sequence[RunConfig], out: str | Path) -> dict[RunConfig, dict[str, Any]]:
    """The lines of those runs that a directory has already.

    Raises:
        ValueError: If the directory holds something else, or runs of other settings.
    """
    folder = Path(out)
    lines = {RunConfig.from_dict(line["config"]): line for line in read_lines(folder / RESULTS)}
    begun = bool(lines) or (folder / RUNS).is_dir()
    other = any(_shared(config) != _shared(configs[0]) for config in lines)
    is_file = folder.exists() and not folder.is_dir()
    occupied = is_file or (holds_something(folder) and not begun)
    if other or occupied:
        got = _check.Verbatim(f"{str(folder)!r}, which holds something else")
        must = "be new, empty or of the same experiment"
        _check.fail("out", must, got, "name another directory")
    return {config: lines[config] for config in configs if config in lines}


def check_lines(lines: Iterable[Mapping[str, Any]], data: DataSet) -> None:
    """The lines are of that data set; a warning says where nothing tells.

    Raises:
        ValueError: If one is of another, by its digest.
    """
    for digest in {line.get("digest") for line in lines}:
        check_digest("out", digest, data)


def check_options(lines: Iterable[Mapping[str, Any]], data: DataSet) -> None:
    """The heads of the lines had the options that they get now, though a default may change.

    Raises:
        ValueError: If one had others.
    """
    for head, option, then, now in changed_options(lines, data):
        got = _check.Verbatim(f"{option} {then} for {head!r}, which gets {now} now")
        remedy = "spell the options out, or name another directory"
        _check.fail("out", "be of heads with the options that they get now", got, remedy)


def changed_options(
    lines: Iterable[Mapping[str, Any]], data: DataSet
) -> Iterator[tuple[str, str, Any, Any]]:
    """What the heads of lines would get otherwise now: head, option, its value then and now."""
    heads: dict[str, Head] = {}
    for line in lines:
        config = RunConfig.from_dict(line["config"])
        if config.head not in heads:
            heads[config.head] = find_head(splits_and_classifier(config, data)[1])
        then, now = line.get("options", {}), heads[config.head].options()
        for option in then.keys() & now.keys():
            if then[option] != now[option]:
                yield config.head, option, then[option], now[option]


def check_networks(lines: Iterable[Mapping[str, Any]], config: RunConfig) -> None:
    """The lines are of the pretrained network that settings name, if they name one.

    Raises:
        ValueError: If one is of another, which was at the same place.
    """
    network = None if config.pretrained is None else identity_of(config)
    if any(line.get("network") != network for line in lines):
        got = _check.Verbatim(f"lines of another that was at {config.pretrained}")
        must = "be of one pretrained network"
        _check.fail("out", must, got, "restore it, or name another directory")


def restore(
    configs: Sequence[RunConfig],
    out: str | Path,
    *,
    data: Callable[[], DataSet],
    jobs: int,
    threads: int | None,
) -> None:
    """Train runs again that have a line, but whose directory is gone. No line is written.

    Raises:
        ValueError: If a head gets other options now than it had in its line.
    """
    folder = Path(out)
    gone = [config for config in configs if not (run_folder(folder, config) / METRICS).is_file()]
    if gone:
        loaded = data()
        check_options(finished(gone, folder).values(), loaded)
        for _ in _lines(gone, folder / RUNS, loaded, jobs, threads_of(threads, jobs)):
            pass


def threads_of(threads: int | None, jobs: int) -> int:
    """The threads of each run."""
    return threads or max((os.cpu_count() or 1) // jobs, 1)


def _shared(config: RunConfig) -> RunConfig:
    """The settings without the head and the seed."""
    return replace(config, head="any", seed=0)


def run_folder(out: str | Path, config: RunConfig) -> Path:
    """The folder of a run within that of its comparison."""
    head = re.sub(r"[^A-Za-z0-9_.=-]+", "_", config.head)
    return Path(out, RUNS, f"{head}-seed{config.seed}")


def _lines(
    configs: Sequence[RunConfig],
    folder: Path,
    data: DataSet,
    jobs: int,
    threads: int,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[dict[str, Any]]:
    """The result lines of runs, as they end."""
    make_folder(folder)
    line = partial(_line, out=folder.parent, jobs=jobs, threads=threads, options={**options})
    yield from of_each(line, configs, data, jobs)


def of_each(
    work: Callable[[RunConfig, DataSet], Found],
    configs: Sequence[RunConfig],
    data: DataSet,
    jobs: int,
) -> Iterator[Found]:
    """What comes of the settings of each run and the data, several at once, as they end.

    Other processes have the data once, know the heads of this one, and end with it.
    """
    if jobs == 1:
        yield from (work(config, data) for config in configs)
        return
    known = data, own_heads(config.head for config in configs)
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_begin_worker, initargs=known
    ) as pool:
        running = [pool.submit(_work, work, config) for config in configs]
        try:
            for finished in as_completed(running):
                yield finished.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _line(
    config: RunConfig,
    data: DataSet,
    *,
    out: Path,
    jobs: int,
    threads: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Train one run and return its line."""
    run = train(
        config,
        run_folder(out, config),
        data=data,
        progress=False,
        threads=threads,
        **options,
    )
    rows = [row for row in run.history if "curve" in row]
    return {
        "config": config.to_dict(),
        **({} if run.settled == config else {"settled": run.settled.to_dict()}),
        **run.metrics,
        "jobs": jobs,
        "gate": run.history[-1].get("gate"),
        "curve": {
            "epoch": [row["epoch"] for row in rows],
            "train_nll": [row["curve"]["train"]["nll"] for row in rows],
            "test_nll": [row["curve"]["test"]["nll"] for row in rows],
        },
    }


_worker_data: list[DataSet] = []
"""The data set of a worker process, sent to it once."""


def _work(work: Callable[[RunConfig, DataSet], Found], config: RunConfig) -> Found:
    """What comes of settings in a worker process, which has the data."""
    return work(config, _worker_data[0])


def _begin_worker(data: DataSet, heads: dict[str, Any]) -> None:
    """Keep the data, register the caller's heads, and end when the caller ends."""
    _worker_data.append(data)
    for name, head in heads.items():
        register_head(name, head)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process once the one that started it has ended, killed or not."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
