"""What scores and gates know about wrong labels, unknown classes and coverage, on Banking77.

    python -m studies.uncertainty --data-root FOLDER --out studies/results/uncertainty

`DropMaxClassifier` on MiniLM embeddings: softmax, label smoothing and DropMax. Three questions,
a file of lines each, and a line a head, seed and source of the score; what has its lines is left
alone:

    labels     a twentieth of the training labels is flipped, each to another class at random; every
               row is judged by a classifier that was not trained on it (five folds)
    scope      20 of the 77 intents are left out of training; test rows are judged, and sorted by
               how sure the classifier is of its answer
    conformal  20 divisions of the test set, one half for the threshold, at 90 % coverage
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import sklearn
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

import dropmax
from dropmax import DropMaxClassifier, Scores
from dropmax.analysis import fit_conformal, label_suspicion, scope_suspicion
from dropmax.compare import append_line, read_lines
from dropmax.data import PACKAGED, LabeledData, load_data
from dropmax.metrics import coverage, detection
from dropmax.training.run import versions
from studies.variants import EARLIER, register_variants

HEADS = ("softmax", "softmax:label_smoothing=0.1", EARLIER)
SEEDS = range(3)
SPLITS = 20
LEVEL = 0.9
FLIPPED = 0.05
FOLDS = 5
LEFT_OUT = 20


FIRST_DEFAULTS: dict[str, Any] = {
    "hidden_layer_sizes": (100,),
    "alpha": 0.1,
    "max_iter": 50,
    "n_iter_no_change": 10,
}
"""Of `DropMaxClassifier`, with which the committed lines were made."""


def fitted(head: str, seed: int, rows: Tensor, target: Tensor) -> DropMaxClassifier:
    classifier = DropMaxClassifier(head, random_state=seed, **FIRST_DEFAULTS)
    return classifier.fit(rows.numpy(), target.numpy())


def predictions(classifier: DropMaxClassifier, scores: Scores) -> dict[str, Tensor]:
    """Log-probabilities by source: of the scores alone, and with the gate where there is one."""
    head = dropmax.find_head(classifier.network_)
    sources = {"logits": scores.logits.log_softmax(-1)}
    if scores.retain_logits is not None:
        sources["gate"] = scores.retain_logits.log_softmax(-1)
        sources["both"] = head.log_probs(scores)
        sources["exact"] = head.log_probs(scores, method="exact")
    return sources


def labels(head: str, seed: int, train: LabeledData, _: LabeledData) -> Iterator[dict[str, Any]]:
    """How well labels that were flipped on purpose are found."""
    generator = torch.Generator().manual_seed(seed)
    num_classes = int(train.target.max()) + 1
    flipped = torch.rand(len(train.target), generator=generator) < FLIPPED
    shift = torch.randint(1, num_classes, (len(train.target),), generator=generator)
    given = torch.where(flipped, (train.target + shift) % num_classes, train.target)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    found: dict[str, Tensor] = {}
    for known, rest in folds.split(train.inputs[:].numpy(), given.numpy()):
        classifier = fitted(head, seed, train.inputs[known], given[known])
        scores = classifier.head_scores(train.inputs[rest].numpy())
        if scores.retain_logits is None:
            suspicion = {"logits": -scores.logits.log_softmax(-1)[range(len(rest)), given[rest]]}
        else:
            suspicion = label_suspicion(scores, given[rest])._asdict()
        for source, value in suspicion.items():
            found.setdefault(source, torch.zeros(len(given), dtype=value.dtype))[rest] = value
    for source, value in found.items():
        yield {"source": source, **detection(value, flipped)._asdict()}


def scope(head: str, seed: int, train: LabeledData, test: LabeledData) -> Iterator[dict[str, Any]]:
    """How well rows of classes that are left out are told apart, and errors by coverage."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(int(train.target.max()) + 1, generator=generator)
    unknown = torch.isin(test.target, order[:LEFT_OUT])
    kept = ~torch.isin(train.target, order[:LEFT_OUT])
    classifier = fitted(head, seed, train.inputs[kept], train.target[kept])
    scores = classifier.head_scores(test.inputs[:].numpy())
    if scores.retain_logits is None:
        suspicion = {"logits": -scores.logits.logsumexp(-1)}
    else:
        suspicion = scope_suspicion(scores)._asdict()
    known = test.target[~unknown]
    index = torch.searchsorted(torch.from_numpy(classifier.classes_), known)
    for source, log_probs in predictions(classifier, scores).items():
        area = coverage(log_probs[~unknown], index).area
        line = {"source": source, "error_area": area}
        if source in suspicion:
            line |= detection(suspicion[source], unknown)._asdict()
            line |= {"unsure_auroc": detection(-log_probs.amax(-1), unknown).auroc}
        yield line


def conformal(
    head: str, seed: int, train: LabeledData, test: LabeledData
) -> Iterator[dict[str, Any]]:
    """Coverage and size of randomised sets; `seed` is of the division, not of the classifier."""
    classifier = once(head, train)
    sources = predictions(classifier, classifier.head_scores(test.inputs[:].numpy()))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(test.target), generator=generator)
    known, rest = order[: len(order) // 2], order[len(order) // 2 :]
    for source, log_probs in sources.items():
        threshold = fit_conformal(
            log_probs[known], test.target[known], level=LEVEL, generator=generator
        )
        sets = threshold.sets(log_probs[rest], generator=generator)
        covered = sets.gather(1, test.target[rest, None]).double().mean().item()
        size = sets.sum(-1).double().mean().item()
        yield {"source": source, "coverage": 100.0 * covered, "size": size}


@cache
def once(head: str, train: LabeledData) -> DropMaxClassifier:
    """One classifier for all divisions of the test set."""
    return fitted(head, 0, train.inputs[:], train.target)


Question = Callable[[str, int, LabeledData, LabeledData], Iterator[dict[str, Any]]]
QUESTIONS: Mapping[str, tuple[Question, range]] = {
    "labels": (labels, SEEDS),
    "scope": (scope, SEEDS),
    "conformal": (conformal, range(SPLITS)),
}


def main() -> None:
    """Answer what has no line yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder of the lines")
    parser.add_argument("--data-root", type=Path, help="where banking77 lies")
    options = parser.parse_args()
    register_variants(HEADS)
    data = load_data("banking77", encoder=PACKAGED, root=options.data_root)
    splits = data.draw(train_per_class=None, validation_per_class=0, seed=0)
    options.out.mkdir(parents=True, exist_ok=True)
    known = {"digest": data.digest, "versions": {**versions(), "sklearn": sklearn.__version__}}
    for name, (question, seeds) in QUESTIONS.items():
        file = options.out / f"{name}.jsonl"
        done = {(line["head"], line["seed"]) for line in read_lines(file)}
        for head in HEADS:
            for seed in seeds:
                print(f"\r{name}: {head}, seed {seed}{'':20}", end="", file=sys.stderr)
                if (head, seed) in done:
                    continue
                for answer in list(question(head, seed, splits.train, splits.test)):
                    append_line(file, {"head": head, "seed": seed, **answer, **known})
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
