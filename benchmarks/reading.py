"""How long tables take to be read, beside pandas, and beside half of the rows.

    python benchmarks/reading.py --out benchmarks/results/reading.jsonl

Two sound files of 50,000 rows and 20 columns, one of numbers and one that mixes kinds, are read in
turns with `pandas.read_csv`, by the reader alone and by `load_data`, which also hashes, draws and
encodes the rows. Of a file whose rows begin with a broken quote, 64,000 rows are read beside 32,000
of them. A ratio is the median over repeats of one time by the other.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from lines import conditions, median_ratio, write_lines

from dropmax.data import delimited, load_data

ROWS, COLUMNS = 50_000, 20
BROKEN = 32_000


def numbers(file: Path) -> None:
    """A sound file of numbers and labels."""
    random = np.random.default_rng(0)
    frame = pandas.DataFrame(random.normal(size=(ROWS, COLUMNS - 1)))
    frame.columns = [f"x{d}" for d in range(COLUMNS - 1)]
    frame["label"] = random.choice(["a", "b", "c"], ROWS)
    frame.to_csv(file, index=False)


def mixed(file: Path) -> None:
    """A sound file of numbers with gaps, levels in quotes, booleans, dates and labels."""
    random = np.random.default_rng(0)
    columns = {f"x{d}": random.normal(size=ROWS).round(3) for d in range(8)}
    columns |= {f"n{d}": np.where(random.random(ROWS) < 0.1, np.nan, 7.0) for d in range(3)}
    columns |= {f"k{d}": random.choice(["red", "green, dark", ""], ROWS) for d in range(6)}
    days = pandas.date_range("2020-01-01", periods=ROWS, freq="37min").strftime("%Y-%m-%d")
    columns |= {"sold": days, "new": random.random(ROWS) > 0.5}
    frame = pandas.DataFrame(columns)
    frame["label"] = random.choice(["a", "b", "c"], ROWS)
    frame.to_csv(file, index=False)


def broken(file: Path, count: int) -> None:
    """A file each row of which begins with a quote that ends early."""
    lines = (f'"Great" number {n},pos\n' for n in range(count))
    file.write_text("text,label\n" + "".join(lines), encoding="utf-8")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(repeats: int, folder: Path) -> Iterator[dict[str, Any]]:
    """One result line for each of what is read."""
    for make in (numbers, mixed):
        file = folder / f"{make.__name__}.csv"
        make(file)
        works: Mapping[str, Callable[[], object]] = {
            "pandas.read_csv": lambda file=file: pandas.read_csv(file),
            "reader": lambda file=file: delimited.read("source", file),
            "load_data": lambda file=file: load_data(str(file)),
        }
        for work in works.values():
            work()
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(repeats):
            for name, work in works.items():
                times[name].append(seconds(work))
        for name in ("reader", "load_data"):
            yield line(f"{make.__name__}, {name}", times[name], times["pandas.read_csv"])
    files = {count: folder / f"{count}.csv" for count in (BROKEN, 2 * BROKEN)}
    taken: dict[int, list[float]] = {count: [] for count in files}
    for count, file in files.items():
        broken(file, count)
    for _ in range(repeats):
        for count, file in files.items():
            taken[count].append(seconds(lambda file=file: delimited.read("source", file)))
    yield line("twice the broken rows", taken[2 * BROKEN], taken[BROKEN])


def line(what: str, times: list[float], others: list[float]) -> dict[str, Any]:
    return {
        "benchmark": "reading",
        "what": what,
        "seconds": round(statistics.median(times), 4),
        "ratio": round(median_ratio(times, others), 2),
        "repeats": len(times),
        **conditions(),
        "pandas": pandas.__version__,
    }


def main() -> None:
    """Measure, print the lines, write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the result lines; replaced whole")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        lines = list(measure(options.repeats, Path(folder)))
    for one in lines:
        print("{what:24} {seconds:8} s, ratio {ratio}".format(**one))
    if options.out is not None:
        write_lines(options.out, lines)


if __name__ == "__main__":
    main()
