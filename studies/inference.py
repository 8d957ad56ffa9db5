"""What the trained gates of a comparison infer: predictive distributions, bound, posterior.

    python -m studies.inference studies/results/mnist-exact --data-root FOLDER \
        --figure docs/images

Reads the runs that `dropmax compare` left there and writes `inference.jsonl`, a line a run whose
head has masks: metrics on the test images by plug-in, Monte Carlo and exactly; on training and
test images the bound and its gap, and how often each posterior retains rivals: the strongest, the
strongest where it is the wrong answer, and the others. A run that has its line is left alone.
`--figure` draws `posterior` there, of the first seed of the paper's DropMax.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dropmax import predictive
from dropmax.analysis import TOLERANCE, uncertainty, variational_gap
from dropmax.compare import RESULTS, append_line, read_lines, run_folder
from dropmax.data import DataSet, LabeledData
from dropmax.functional import softmax_loss
from dropmax.metrics import evaluate
from dropmax.report import draw_posterior
from dropmax.training import RunConfig, data_for, load_run, splits_and_classifier
from dropmax.training.classifier import BATCH, predict
from dropmax.training.run import Run, versions
from dropmax.wrap import find_head
from dropmax.wrap.predictor import scores_of
from studies.ranks import rank_correlation, without_target

LINES = "inference.jsonl"
SAMPLES = (1, 10, 100, 1_000)
SHOWN = "dropmax:preset=paper"
"""The head whose posterior the figure shows."""


def metrics(run: Run, test: LabeledData) -> dict[str, dict[str, float]]:
    """Metrics on the test images by method."""
    classifier = run.classifier()
    head = find_head(classifier)
    scores, log_probs = predict(classifier, test.inputs)
    found = {"plugin": log_probs, "exact": head.log_probs(scores, method="exact")}
    for num_samples in SAMPLES:
        generator = torch.Generator().manual_seed(run.config.seed)
        found[f"monte_carlo {num_samples}"] = head.log_probs(
            scores, method="monte_carlo", num_samples=num_samples, generator=generator
        )
    return {name: evaluate(one, test.target)._asdict() for name, one in found.items()}


def inference(run: Run, split: LabeledData) -> dict[str, Any]:
    """Bound, gap and posteriors on images whose labels are known."""
    classifier = run.classifier()
    target = split.target
    scores = scores_of(classifier, split.inputs, BATCH, correction=True).each(Tensor.double)
    prior = scores.retain_logits
    assert prior is not None
    posterior = find_head(classifier).posterior_logits(scores, target)
    exact = predictive.mask_posterior(
        scores.logits, prior, target, target_kept=True, tolerance=TOLERANCE
    )
    log_probs = predictive.exact(scores.logits, prior)
    rivals = log_probs.scatter(-1, target[:, None], -torch.inf)
    strongest = rivals.argmax(-1)
    others = torch.ones_like(prior, dtype=torch.bool)
    others.scatter_(-1, target[:, None], False).scatter_(-1, strongest[:, None], False)
    mistaken = torch.zeros_like(others)
    wrong = log_probs.argmax(-1) != target
    mistaken[wrong, strongest[wrong]] = True
    groups = {
        "strongest": torch.zeros_like(others).scatter_(-1, strongest[:, None], True),
        "mistaken": mistaken,
        "others": others,
    }
    unsure = uncertainty(scores)
    found: dict[str, Any] = {
        "nll": float(softmax_loss(log_probs, target).mean()),
        "mutual_information": float(unsure.mutual_information.mean()),
        "total_entropy": float(unsure.total_entropy.mean()),
        "target_retained": float(prior.sigmoid().gather(-1, target[:, None]).mean()),
        "rivals_retained": {},
        "alignment": {"exact": alignment(exact - prior, rivals, target)},
    }
    for name, logits in (("prior", prior), ("q", posterior), ("exact", exact)):
        if logits is not None:
            probs = logits.sigmoid()
            found["rivals_retained"][name] = {
                group: float(probs[which].mean()) if which.any() else None
                for group, which in groups.items()
            }
    if posterior is not None:
        result = variational_gap(scores, target, posterior_logits=posterior)
        for name in ("log_likelihood", "elbo", "gap", "distance"):
            found[name] = float(getattr(result, name).mean())
        found["least_gap"] = float(result.gap.min())
        if (posterior != prior).any():
            found["alignment"]["q"] = alignment(posterior - prior, rivals, target)
    return found


def alignment(correction: Tensor, rivals: Tensor, target: Tensor) -> float:
    """The rank correlation over an instance's rivals of correction and probability, in the mean.

    Above 0: the label raises confusing rivals above the rest; below 0: it lowers them most.
    """
    pair = (without_target(values, target) for values in (correction, rivals))
    return float(rank_correlation(*pair).mean())


def line_of(run: Run, data: DataSet) -> dict[str, Any]:
    """The result line of a run."""
    splits, _ = splits_and_classifier(run.config, data)
    return {
        "config": run.config.to_dict(),
        "metrics": metrics(run, data.test),
        "train": inference(run, splits.train),
        "test": inference(run, data.test),
        "digest": data.digest,
        "versions": versions(),
    }


def main() -> None:
    """Evaluate every run that has no line yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what compare wrote, with the runs")
    parser.add_argument("--data-root", type=Path, help="where folders of data lie")
    parser.add_argument("--figure", type=Path, help="folder for the figure")
    options = parser.parse_args()
    configs = [RunConfig.from_dict(line["config"]) for line in read_lines(options.folder / RESULTS)]
    gated = [config for config in configs if config.head.startswith("dropmax")]
    done = [line["config"] for line in read_lines(options.folder / LINES)]
    data = data_for(gated[0], options.data_root)
    for n, config in enumerate(gated):
        print(f"\r{n + 1} of {len(gated)} runs", end="", file=sys.stderr)
        if config.to_dict() not in done:
            run = load_run(run_folder(options.folder, config))
            append_line(options.folder / LINES, line_of(run, data))
    print(file=sys.stderr)
    for config in gated if options.figure else ():
        baseline = run_folder(options.folder, RunConfig(**{**config.to_dict(), "head": "softmax"}))
        if config.head == SHOWN and config.seed == 0 and baseline.is_dir():
            run = load_run(run_folder(options.folder, config))
            draw_posterior(run, data, options.figure, baseline=load_run(baseline))


if __name__ == "__main__":
    main()
