"""What a gate says of the test images that a baseline finds easy, and of those it gets wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dropmax import _check
from dropmax.data import DataSet
from dropmax.heads import Scores
from dropmax.heads.base import Head, required
from dropmax.predictive import mask_posterior
from dropmax.report.png import to_png
from dropmax.training import Run
from dropmax.training.classifier import BATCH, predict
from dropmax.wrap import find_head
from dropmax.wrap.predictor import scores_of

INSTANCES = 10
"""How many easy and how many difficult images are shown."""

DIGITS = 6
"""Decimals of the probabilities in a line."""


@dataclass(frozen=True)
class Judged:
    """The test images as a gated run and its baseline see them.

    Attributes:
        run: The gated run.
        head: Its trained head.
        data: The data set.
        scores: Of the gated run, float64 `[N, K]`.
        log_probs: Of the gated run, by the plug-in `[N, K]`.
        baseline_log_probs: Of the baseline `[N, K]`.
    """

    run: Run
    head: Head
    data: DataSet
    scores: Scores
    log_probs: Tensor
    baseline_log_probs: Tensor

    @property
    def target(self) -> Tensor:
        """The classes of the images `[N]`."""
        return self.data.test.target

    @property
    def answer(self) -> Tensor:
        """What the baseline takes the images for `[N]`."""
        return self.baseline_log_probs.argmax(-1)

    @property
    def retain_logits(self) -> Tensor:
        """Logits of the retain probabilities `[N, K]`."""
        return required(self.scores.retain_logits)

    def order(self) -> list[int]:
        """The images from easy to difficult, by the baseline's probability of the target."""
        at_target = self.baseline_log_probs.gather(-1, self.target[:, None]).squeeze(-1)
        return at_target.argsort(descending=True, stable=True).tolist()

    def easy(self) -> list[int]:
        """The easiest image of each class, of the first ten classes."""
        first: dict[int, int] = {}
        for n in self.order():
            first.setdefault(int(self.target[n]), n)
        return [first[k] for k in sorted(first)][:INSTANCES]

    def difficult(self) -> list[int]:
        """The ten most difficult images that the baseline gets wrong, the worst first."""
        wrong = self.answer != self.target
        return [n for n in reversed(self.order()) if wrong[n]][:INSTANCES]


def check_data(run: Run, data: DataSet) -> None:
    """The data are of the classes and the shape of a run.

    Raises:
        ValueError: If they are not.
    """
    if (run.shape, run.class_names) != (data.shape, data.class_names):
        got = _check.Verbatim(f"{data.name}, of other classes or sizes")
        _check.fail("data", "be those of the run", got, "load its data set")


def judge(run: Run, data: DataSet, baseline: Run | None = None) -> Judged:
    """Predict the test images by a gated run and by its baseline, or by the run alone.

    Raises:
        ValueError: If the head has no gate, or a run does not fit the images; in the name of
            `function`.
    """
    for one in (run, baseline or run):
        check_data(one, data)
    classifier = run.classifier()
    head = find_head(classifier)
    scores = scores_of(classifier, data.test.inputs, BATCH, correction=True)
    log_probs = head.log_probs(scores)
    if scores.retain_logits is None:
        got = _check.Verbatim(repr(run.config.head))
        _check.fail("run", "have a gate", got, "draw it of DropMax or attention")
    baseline_log_probs = log_probs
    if baseline is not None:
        baseline_log_probs = predict(baseline.classifier(), data.test.inputs).log_probs
    scores = scores.each(Tensor.double)
    return Judged(run, head, data, scores, log_probs, baseline_log_probs)


def instances(judged: Judged) -> dict[str, Any]:
    """Retain probabilities of easy and of difficult images, before and after the label is known.

    Returns:
        "class_names", "easy" and "difficult": of each image its index in the test split, "target",
        "baseline" (its answer), "png", and over the classes "rho", "q" (the posterior that training
        draws masks from) and "exact" (the exact posterior), both 1 at the target and None for a
        head without posterior, and "plugin" (probabilities).
    """
    return {
        "class_names": list(judged.data.class_names),
        "easy": _described(judged, judged.easy()),
        "difficult": _described(judged, judged.difficult()),
    }


def _described(judged: Judged, rows: Sequence[int]) -> list[dict[str, Any]]:
    if not rows:
        return []
    index = torch.tensor(rows)
    target = judged.target[index]
    scores = judged.scores.each(lambda branch: branch[index])
    retain_logits = required(scores.retain_logits)
    columns: dict[str, Any] = {
        "index": rows,
        "target": target.tolist(),
        "baseline": judged.answer[index].tolist(),
        "png": [to_png(image) for image in judged.data.test.inputs[index]],
        "rho": rounded(retain_logits.sigmoid()),
        "q": [None] * len(rows),
        "exact": [None] * len(rows),
        "plugin": rounded(judged.log_probs[index].double().exp()),
    }
    posterior = judged.head.posterior_logits(scores, target)
    if posterior is not None:
        exact = mask_posterior(scores.logits, retain_logits, target, target_kept=True)
        for name, logits in (("q", posterior), ("exact", exact)):
            columns[name] = rounded(logits.double().sigmoid().scatter(-1, target[:, None], 1.0))
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def rounded(values: Tensor, digits: int = DIGITS) -> list[Any]:
    """The numbers of a tensor with so many decimals."""
    return values.round(decimals=digits).tolist()
