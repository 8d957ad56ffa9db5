"""DropMaxClassifier's defaults on embeddings of few texts, beside a tuned logistic regression.

    python benchmarks/few_texts.py --data-root FOLDER --out benchmarks/results/few_texts.jsonl

HWU64 and Banking77, which lie in FOLDER, as MiniLM embeddings: 5, 10 and 30 texts of each class are
drawn, five times, and judged on the test set. The logistic regression has the C of least error in
cross-validation on the texts drawn. Differences are paired by draw, with the 95 % interval by
Student's t. If it was interrupted, the same command goes on: lines are kept as they are made.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from lines import conditions
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from dropmax import DropMaxClassifier
from dropmax._progress import progress_bar
from dropmax.compare.lines import append_line, read_lines
from dropmax.data import PACKAGED, DataSet, load_data
from dropmax.metrics import evaluate

TUNED = "LogisticRegression, C tuned"
CLASSIFIERS: Mapping[str, Callable[[int], Any]] = {
    TUNED: lambda folds: GridSearchCV(
        LogisticRegression(max_iter=1000),
        {"C": [0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]},
        cv=StratifiedKFold(folds, shuffle=True, random_state=0),
    ),
    "DropMaxClassifier()": lambda _: DropMaxClassifier(random_state=0),
    'DropMaxClassifier("softmax")': lambda _: DropMaxClassifier("softmax", random_state=0),
}
DATA = ("hwu64", "banking77")
PER_CLASS = (5, 10, 30)
DRAWS = range(5)
FOLDS = 5


def line(data: DataSet, per_class: int, draw: int, name: str) -> dict[str, Any]:
    """The result line of a classifier and a draw."""
    splits = data.draw(train_per_class=per_class, seed=draw)
    rows, target = splits.train.inputs[:].numpy(), splits.train.target.numpy()
    start = time.perf_counter()
    classifier = CLASSIFIERS[name](min(FOLDS, per_class)).fit(rows, target)
    seconds = time.perf_counter() - start
    with np.errstate(divide="ignore"):
        log_probs = torch.from_numpy(classifier.predict_log_proba(splits.test.inputs[:].numpy()))
    return {
        "benchmark": "few_texts",
        "data": data.name,
        "per_class": per_class,
        "config": {"head": name, "seed": draw},
        "test": evaluate(log_probs.double(), splits.test.target)._asdict(),
        "seconds": round(seconds, 3),
        "digest": data.digest,
        **conditions(),
        "sklearn": sklearn.__version__,
    }


def main() -> None:
    """Measure what has no line yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help="where the data sets lie")
    parser.add_argument("--out", type=Path, required=True, help="file for the result lines")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    done = {key(one) for one in read_lines(options.out)}
    every = list(itertools.product(DATA, PER_CLASS, DRAWS, CLASSIFIERS))
    missing = [one for one in every if one not in done]
    loaded = {
        name: load_data(name, root=options.data_root, encoder=PACKAGED)
        for name in dict.fromkeys(data for data, *_ in missing)
    }
    with progress_bar(len(every), "fits", done=len(every) - len(missing)) as advance:
        for data, per_class, draw, name in missing:
            append_line(options.out, line(loaded[data], per_class, draw, name))
            advance(1.0, f"{data}, {per_class} a class")


def key(one: Mapping[str, Any]) -> tuple[str, int, int, str]:
    return one["data"], one["per_class"], one["config"]["seed"], one["config"]["head"]


if __name__ == "__main__":
    main()
