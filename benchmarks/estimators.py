"""Defaults of DropMaxClassifier beside scikit-learn's: error, NLL, calibration error and time.

    python benchmarks/estimators.py --data-root FOLDER --out benchmarks/results/estimators.jsonl

Three tables of scikit-learn in five folds, and Banking77 as embeddings with its own test set, which
needs FOLDER/banking77 and the extra `text`. The classifiers take turns fold by fold; a ratio is the
median over folds of a classifier's time to fit by MLPClassifier's on the same fold.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
import torch
from lines import conditions, median_ratio, write_lines
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dropmax import DropMaxClassifier
from dropmax.data import PACKAGED, load_data
from dropmax.metrics import evaluate

FOLDS = 5
BASELINE = "MLPClassifier()"
CLASSIFIERS: Mapping[str, Callable[[], Any]] = {
    "DropMaxClassifier()": lambda: DropMaxClassifier(random_state=0),
    'DropMaxClassifier("softmax")': lambda: DropMaxClassifier("softmax", random_state=0),
    "LogisticRegression()": LogisticRegression,
    BASELINE: lambda: MLPClassifier(random_state=0),
    "scaled LogisticRegression()": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "scaled MLPClassifier()": lambda: make_pipeline(
        StandardScaler(), MLPClassifier(random_state=0)
    ),
}
TABLES = {"digits": load_digits, "wine": load_wine, "breast cancer": load_breast_cancer}


class Fold(NamedTuple):
    """Rows and class indices to train on and to test on."""

    rows: Any
    target: Any
    test_rows: Any
    test_target: Any


def folds(load: Callable[..., Any]) -> Iterator[Fold]:
    rows, target = load(return_X_y=True)
    for known, rest in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(rows, target):
        yield Fold(rows[known], target[known], rows[rest], target[rest])


def banking77(root: Path) -> Iterator[Fold]:
    data = load_data("banking77", encoder=PACKAGED, root=root)
    splits = data.draw(train_per_class=None, validation_per_class=0, seed=0)
    parts = (splits.train.inputs, splits.train.target, splits.test.inputs, splits.test.target)
    yield Fold(*(part.numpy() for part in parts))


def measure(data: str, parts: Sequence[Fold]) -> Iterator[dict[str, Any]]:
    """One result line for each classifier."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CLASSIFIERS}
    times: dict[str, list[float]] = {name: [] for name in CLASSIFIERS}
    for n, fold in enumerate(parts):
        for name, make in CLASSIFIERS.items():
            print(f"\r{data}: fold {n + 1} of {len(parts)}, {name:40}", end="", file=sys.stderr)
            start = time.perf_counter()
            classifier = make().fit(fold.rows, fold.target)
            times[name].append(time.perf_counter() - start)
            with np.errstate(divide="ignore"):
                log_probs = torch.from_numpy(classifier.predict_log_proba(fold.test_rows))
            target = torch.from_numpy(fold.test_target)
            found[name].append(evaluate(log_probs.double(), target)._asdict())
    print(file=sys.stderr)
    for name, metrics in found.items():
        means = {m: statistics.mean(one[m] for one in metrics) for m in ("error", "nll", "ece")}
        yield {
            "benchmark": "estimators",
            "data": data,
            "classifier": name,
            **{metric: round(value, 4) for metric, value in means.items()},
            "seconds": round(statistics.median(times[name]), 4),
            "ratio": round(median_ratio(times[name], times[BASELINE]), 3),
            "folds": len(parts),
            **conditions(),
            "sklearn": sklearn.__version__,
        }


def main() -> None:
    """Measure every data set, print the lines, write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, help="where banking77 lies; left out without")
    parser.add_argument("--out", type=Path, help="file for the result lines; replaced whole")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    parts = {name: list(folds(load)) for name, load in TABLES.items()}
    if options.data_root is not None:
        parts["Banking77"] = list(banking77(options.data_root))
    lines = [line for data, of_data in parts.items() for line in measure(data, of_data)]
    for line in lines:
        print("{data:14} {classifier:30} {error:7} % {nll:7} nats {seconds:8} s".format(**line))
    if options.out is not None:
        write_lines(options.out, lines)


if __name__ == "__main__":
    main()
