"""Bytes of a report, and how long it takes to be written and opened.

    python benchmarks/report.py --data-root FOLDER --out benchmarks/results/report.jsonl

It is written of MNIST's 10,000 images for testing, of Banking77's texts, both of which lie in
FOLDER, and of a made set of 50,000 texts of 1,000 classes. The ratio is by the time in which
scikit-learn and matplotlib write a table of the classes and a picture of the confusion matrix, in
turns. Opening is by Chromium, where it is installed (apt), to the page's load event, offline.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lines import conditions, median_ratio, write_lines
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, classification_report
from torch import Tensor

from dropmax import Scores, report
from dropmax.data import PACKAGED
from dropmax.training import RunConfig, data_for, draw, train
from dropmax.training.classifier import predict

CLASSES, ROWS = 1_000, 50_000


class Judged(NamedTuple):
    """What a report is written of."""

    name: str
    log_probs: Tensor
    target: Tensor
    scores: Scores
    inputs: Any
    class_names: tuple[str, ...]


def trained(config: RunConfig, root: Path) -> Judged:
    """Test rows of a data set, as a run sees them."""
    data = data_for(config, root)
    test = draw(config, data).test
    with tempfile.TemporaryDirectory() as out:
        run = train(config, out, data=data, threads=torch.get_num_threads())
        said = predict(run.classifier(), test.inputs)
    inputs = test.inputs if test.inputs.ndim == 4 else test.texts
    names = data.class_names
    return Judged(data.name, said.log_probs, test.target, said.scores, inputs, names)


def made() -> Judged:
    """Rows of many classes, most of which are right; neighbors are confused."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(CLASSES, (ROWS,), generator=generator)
    logits = torch.randn(ROWS, CLASSES, generator=generator)
    logits[torch.arange(ROWS), target] += 5.0 * torch.rand(ROWS, generator=generator)
    logits[torch.arange(ROWS), (target + 1) % CLASSES] += 2.0
    gate = torch.randn(ROWS, CLASSES, generator=generator)
    texts = [f"text {n} of a customer who asks for help with an order " * 3 for n in range(ROWS)]
    names = tuple(f"class {k}" for k in range(CLASSES))
    return Judged("made", logits.log_softmax(-1), target, Scores(logits, gate), texts, names)


def ours(judged: Judged, folder: Path) -> None:
    """The report and its spreadsheets."""
    fields = judged._asdict()
    del fields["name"]
    report.write(folder / "report.html", **fields)


def theirs(judged: Judged, folder: Path) -> None:
    """A table of the classes, and the confusion matrix."""
    answer, target = judged.log_probs.argmax(1).numpy(), judged.target.numpy()
    labels = range(len(judged.class_names))
    table = classification_report(
        target, answer, labels=labels, target_names=judged.class_names, zero_division=0.0
    )
    (folder / "classes.txt").write_text(table)
    figure = Figure(figsize=(12, 12))
    display = ConfusionMatrixDisplay.from_predictions(
        target,
        answer,
        labels=labels,
        ax=figure.subplots(),
        include_values=len(labels) <= 100,
        xticks_rotation="vertical",
    )
    display.figure_.savefig(folder / "matrix.png")


def opened(file: Path, repeats: int) -> float | None:
    """Seconds until a page is loaded, the median; None where no browser is."""
    browser = shutil.which("chromium")
    if browser is None:
        return None
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for _ in range(repeats):
            page = chromium.new_context(offline=True).new_page()
            times.append(seconds(lambda page=page: page.goto(file.as_uri())))
            page.close()
        chromium.close()
    return statistics.median(times)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(cases: Iterator[Judged], repeats: int) -> Iterator[dict[str, Any]]:
    """A line for each."""
    for judged in cases:
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        with tempfile.TemporaryDirectory() as out:
            folder, beside = Path(out, "ours"), Path(out, "theirs")
            folder.mkdir()
            beside.mkdir()
            for _ in range(repeats):
                times["theirs"].append(seconds(lambda j=judged, b=beside: theirs(j, b)))
                times["ours"].append(seconds(lambda j=judged, f=folder: ours(j, f)))
            file = folder / "report.html"
            to_open = opened(file, repeats)
            size = file.stat().st_size
        yield {
            "benchmark": "report",
            "data": judged.name,
            "rows": len(judged.target),
            "classes": len(judged.class_names),
            "bytes": size,
            "seconds": round(statistics.median(times["ours"]), 2),
            "ratio": round(median_ratio(times["ours"], times["theirs"]), 2),
            "seconds_to_open": None if to_open is None else round(to_open, 2),
            **conditions(),
        }


def main() -> None:
    """Measure, and write the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help="where the data sets lie")
    parser.add_argument("--out", type=Path, required=True, help="file for the result lines")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = RunConfig("mnist", "dropmax", train_per_class=100, epochs=10)
    texts = RunConfig("banking77", "dropmax", train_per_class=10, encoder=PACKAGED)
    cases = (
        case()
        for case in (
            lambda: trained(images, options.data_root),
            lambda: trained(texts, options.data_root),
            made,
        )
    )
    lines = []
    for line in measure(cases, options.repeats):
        print(line)
        lines.append(line)
    write_lines(options.out, lines)


if __name__ == "__main__":
    main()
