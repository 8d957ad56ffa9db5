"""DropMaxClassifier's defaults on embeddings of few texts, beside a tuned logistic regression.

    python benchmarks/few_texts.py --data-root FOLDER --out benchmarks/results/few_texts.jsonl
    python benchmarks/few_texts.py --data-root FOLDER --choice \
        --out benchmarks/results/few_texts_choice.jsonl

HWU64 and Banking77, which lie in FOLDER, as MiniLM embeddings: 5, 10 and 30 texts of each class are
drawn, five times, and judged on the test set. The logistic regression has the C of least error in
cross-validation on the texts drawn. Differences are paired by draw, with the 95 % interval by
Student's t. If it was interrupted, the same command goes on: lines are kept as they are made.

With --choice the candidates for the default with more than ten classes stand beside softmax. Their
draws are others, and validation rows judge them: this is where the default is chosen, not shown.
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

CANDIDATES: Mapping[str, Callable[[int], str]] = {
    "softmax": lambda _: "softmax",
    "share 0.9": lambda _: published(0.9),
    "share 0.99": lambda _: published(0.99),
    "share 1 - 10 / K": lambda classes: published(1.0 - 10 / classes),
    "share 1 - (10 / K)^2": lambda classes: published(1.0 - (10 / classes) ** 2),
    "earlier default": lambda classes: published(
        1.0 - 10 / classes, strength=4.0 * (10 / classes) ** 1.6, aux_weight=10 / classes
    ),
    "share 0.9, no focus": lambda _: published(0.9, focus=0.0),
    "share 0.99, no focus": lambda _: published(0.99, focus=0.0),
    "share 1 - (10 / K)^2, no focus": lambda classes: published(
        1.0 - (10 / classes) ** 2, focus=0.0
    ),
    "earlier default, no focus": lambda classes: published(
        1.0 - 10 / classes,
        strength=4.0 * (10 / classes) ** 1.6,
        aux_weight=10 / classes,
        focus=0.0,
    ),
}
"""The candidates for the default by name: how the head is asked for, by the number of classes."""
CHOICE_DRAWS = range(100, 105)
VALIDATION_PER_CLASS = {5: 10, 10: 10, 30: 3}
"""By the texts of a class; the rarest intent has 33."""


def published(
    share: float, strength: float = 1.0, aux_weight: float = 1.0, focus: float = 1.0
) -> str:
    """DropMax as published with a share of the plug-in's cross-entropy."""
    return (
        f"dropmax:preset=paper,plugin_share={share!r},plugin_focus={focus!r},"
        f"kl_weight={strength!r},entropy_weight={strength!r},aux_weight={aux_weight!r}"
    )


def line(data: DataSet, per_class: int, draw: int, name: str, choice: bool) -> dict[str, Any]:
    """The result line of a classifier and a draw."""
    held = VALIDATION_PER_CLASS[per_class] if choice else 0
    splits = data.draw(train_per_class=per_class, validation_per_class=held, seed=draw)
    if choice:
        head = CANDIDATES[name](len(data.class_names))
        classifier: Any = DropMaxClassifier(head, random_state=draw)
    else:
        classifier = CLASSIFIERS[name](min(FOLDS, per_class))
    split, judges = ("validation", splits.validation) if choice else ("test", splits.test)
    rows, target = splits.train.inputs[:].numpy(), splits.train.target.numpy()
    start = time.perf_counter()
    classifier.fit(rows, target)
    seconds = time.perf_counter() - start
    with np.errstate(divide="ignore"):
        log_probs = torch.from_numpy(classifier.predict_log_proba(judges.inputs[:].numpy()))
    return {
        "benchmark": "few_texts",
        "data": data.name,
        "per_class": per_class,
        "config": {"head": name, "seed": draw},
        split: evaluate(log_probs.double(), judges.target)._asdict(),
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
    parser.add_argument("--choice", action="store_true", help="the candidates, by validation rows")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    done = {key(one) for one in read_lines(options.out)}
    names, draws = (CANDIDATES, CHOICE_DRAWS) if options.choice else (CLASSIFIERS, DRAWS)
    every = list(itertools.product(DATA, PER_CLASS, draws, names))
    missing = [one for one in every if one not in done]
    loaded = {
        name: load_data(name, root=options.data_root, encoder=PACKAGED)
        for name in dict.fromkeys(data for data, *_ in missing)
    }
    with progress_bar(len(every), "fits", done=len(every) - len(missing)) as advance:
        for data, per_class, draw, name in missing:
            append_line(options.out, line(loaded[data], per_class, draw, name, options.choice))
            advance(1.0, f"{data}, {per_class} a class")


def key(one: Mapping[str, Any]) -> tuple[str, int, int, str]:
    return one["data"], one["per_class"], one["config"]["seed"], one["config"]["head"]


if __name__ == "__main__":
    main()
