"""What the trained gates of a part say of its test images, in lines that need no runs to draw."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dropmax import _check, predictive
from dropmax._files import write_whole
from dropmax.compare.lines import RESULTS, read_lines
from dropmax.compare.runs import run_folder
from dropmax.data import DataSet
from dropmax.data.splits import by_class
from dropmax.metrics import evaluate
from dropmax.report.instances import Judged, instances, judge, rounded
from dropmax.report.png import to_png
from dropmax.training import Run, RunConfig, load_run
from dropmax.training.run import versions
from studies.ranks import ranks

GATES = "gates.jsonl"
BASELINE = "softmax"
"""The head whose answers say what is easy and what is confused with what."""

NUM_MASKS = 500
"""Masks over which the predictive distribution is spread."""

QUANTILES = (5, 25, 50, 75, 95)
"""Of that distribution, in percent."""

PICTURES = 6
"""Images whose most and least retained classes are named."""

NAMED = 5
"""How many classes are named at either end."""


def write_gates(
    folder: str | Path,
    data: DataSet,
    head: str,
    *,
    seeds: Sequence[int],
    baseline: str = BASELINE,
) -> list[dict[str, Any]]:
    """Write what the gates of a head say of the test images, to `gates.jsonl` beside the runs.

    A line a "kind", each with "config" (of the gated run), "baseline", "seed" and "versions"; the
    first five are of the first seed:

    - "instances": `dropmax.report.instances.instances`.
    - "spread": of the easiest and of the most difficult of these images, under 500 hard masks from
      the prior, the "quantiles" of p(y = k | z) by percent, its "mean", and the "exact" predictive.
    - "correlation": the "matrix" of correlations of the classes' retain probabilities.
    - "predictive": `dropmax.metrics.Metrics` of "plugin" and "exact".
    - "retained", of colored images alone: the five "most" and "least" retained classes of the first
      image by the hash of the draw of each of six classes, evenly spaced.
    - "ranks", one for each seed: `studies.ranks.ranks`.

    Args:
        folder: What `compare` or a part of a study left: `results.jsonl`, and the runs.
        data: Its data set.
        head: A head with a gate whose masks are random, by the name that its lines have.
        seeds: Of the runs of both heads, two or more.
        baseline: The head whose answers say what is easy and what is confused with what.

    Returns:
        The lines.

    Raises:
        ValueError: If there are fewer than two seeds, a run is missing, the head has no random
            masks, the baseline is always right, or the images are others; nothing is written then.

    Examples:
        >>> import tempfile
        >>> from dropmax.data import load_data
        >>> from dropmax.compare import Comparison, compare
        >>> from studies import write_gates
        >>> from dropmax.training import RunConfig
        >>> base = RunConfig("digits", "softmax", train_per_class=5, epochs=1)
        >>> comparison = Comparison(base, heads=("softmax", "dropmax"), seeds=(0, 1))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     _ = compare(comparison, out, progress=False)
        ...     lines = write_gates(out, load_data("digits"), "dropmax", seeds=(0, 1))
        >>> [line["kind"] for line in lines]
        ['instances', 'spread', 'correlation', 'predictive', 'ranks', 'ranks']
    """
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        must = "hold at least two, each once"
        _check.fail("seeds", must, seeds, "the confusions are those of other seeds")
    runs = [[_run(Path(folder), name, seed) for name in (head, baseline)] for seed in seeds]
    judged = {run.config.seed: judge(run, data, other) for run, other in runs}
    first = judged[seeds[0]]
    if "exact" not in first.head.predictive_methods:
        _check.fail("head", "have random masks", head, "name one of DropMax")
    if not first.difficult():
        got = _check.Verbatim(f"{baseline!r} with seed {seeds[0]}, which is always right")
        _check.fail("baseline", "have wrong answers", got, "name another")
    found: list[tuple[str, Judged, dict[str, Any]]] = [
        ("instances", first, instances(first)),
        ("spread", first, _spread(first)),
        ("correlation", first, _correlation(first)),
        ("predictive", first, _predictive(first)),
    ]
    if data.shape[0] == 3:
        found.append(("retained", first, _retained(first)))
    found += [("ranks", judged[seed], body) for seed, body in ranks(judged).items()]
    lines = [
        {
            "kind": kind,
            "config": one.run.config.to_dict(),
            "baseline": baseline,
            "seed": one.run.config.seed,
            **body,
            "digest": data.digest,
            "versions": versions(),
        }
        for kind, one, body in found
    ]
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)
    write_whole(Path(folder, GATES), text)
    return lines


def _run(folder: Path, head: str, seed: int) -> Run:
    """A run that has its line in the folder."""
    configs = [RunConfig.from_dict(line["config"]) for line in read_lines(folder / RESULTS)]
    found = [config for config in configs if (config.head, config.seed) == (head, seed)]
    if not found:
        got = _check.Verbatim(f"none of {head!r} with seed {seed} in {folder / RESULTS}")
        _check.fail("folder", "hold the run of every seed", got, "train what is missing")
    return load_run(run_folder(folder, found[0]))


def _spread(judged: Judged) -> dict[str, Any]:
    easy = set(judged.easy())
    shown = {
        "easy": next(n for n in judged.order() if n in easy),
        "difficult": judged.difficult()[0],
    }
    index = torch.tensor(list(shown.values()))
    logits, retain_logits = judged.scores.logits[index], judged.retain_logits[index]
    generator = torch.Generator().manual_seed(judged.run.config.seed)
    # one mask for each of many copies, so that what each mask gives is seen
    probs = predictive.monte_carlo(
        logits.expand(NUM_MASKS, -1, -1),
        retain_logits.expand(NUM_MASKS, -1, -1),
        num_samples=1,
        generator=generator,
    ).exp()
    levels = torch.tensor(QUANTILES, dtype=probs.dtype) / 100.0
    quantiles = rounded(probs.quantile(levels, dim=0))
    mean, exact = rounded(probs.mean(0)), rounded(predictive.exact(logits, retain_logits).exp())
    return {
        "num_masks": NUM_MASKS,
        "class_names": list(judged.data.class_names),
        **{
            name: {
                **_picture(judged, n),
                "quantiles": {
                    str(q): values[row] for q, values in zip(QUANTILES, quantiles, strict=True)
                },
                "mean": mean[row],
                "exact": exact[row],
            }
            for row, (name, n) in enumerate(shown.items())
        },
    }


def _correlation(judged: Judged) -> dict[str, Any]:
    matrix = torch.corrcoef(judged.retain_logits.sigmoid().T)
    return {
        "class_names": list(judged.data.class_names),
        # None for a class whose retain probability never varies
        "matrix": [[None if r != r else r for r in row] for row in rounded(matrix, 3)],
    }


def _predictive(judged: Judged) -> dict[str, Any]:
    exact = judged.head.log_probs(judged.scores, method="exact")
    methods = {"plugin": judged.log_probs, "exact": exact}
    return {name: evaluate(found, judged.target)._asdict() for name, found in methods.items()}


def _retained(judged: Judged) -> dict[str, Any]:
    names = judged.data.class_names
    drawn = by_class(judged.data.test, len(names), judged.run.config.seed)
    classes = [k for k, rows in enumerate(drawn) if rows]
    count = min(PICTURES, len(classes))
    shown = [drawn[classes[i * len(classes) // count]][0] for i in range(count)]
    return {
        "images": [
            {**_picture(judged, n), **_ends(judged.retain_logits[n].sigmoid(), names)}
            for n in shown
        ]
    }


def _ends(retain: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
    """The classes most and least retained, each from the end inwards."""
    order = retain.argsort(descending=True, stable=True).tolist()
    named = min(NAMED, len(order) // 2)
    rho = rounded(retain)
    return {
        end: [{"class": names[k], "rho": rho[k]} for k in classes]
        for end, classes in (("most", order[:named]), ("least", order[::-1][:named]))
    }


def _picture(judged: Judged, n: int) -> dict[str, Any]:
    target = int(judged.target[n])
    return {
        "index": n,
        "target": target,
        "name": judged.data.class_names[target],
        "baseline": int(judged.answer[n]),
        "png": to_png(judged.data.test.inputs[n]),
    }
