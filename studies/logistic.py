"""scikit-learn's logistic regression on the draws of our runs: the baseline of linear heads.

    python -m studies.logistic --data banking77 --encoder all-minilm-l6-v2 --data-root FOLDER \
        --train-per-class 5 --validation-per-class 5 --out logistic.jsonl

Writes a line a seed, with the metrics of our lines. The rows are scaled as the protocol of our runs
scales them. The inverse strength C of the L2 penalty is the best by the log-likelihood in five-fold
cross-validation on the training rows. A seed that has its line is left alone.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import sklearn
import torch
from sklearn.linear_model import LogisticRegressionCV
from torch import Tensor

from dropmax.compare import append_line, read_lines
from dropmax.data import DataSet
from dropmax.metrics import evaluate, reliability
from dropmax.training import RunConfig, data_for
from dropmax.training.classifier import standardizes
from dropmax.training.config import PROTOCOLS
from dropmax.training.pixels import Pixels
from dropmax.training.run import versions

HEAD = "logistic_regression"
FOLDS = 5
GRID = tuple(10.0 ** (step / 2) for step in range(-6, 9))
"""The values of C that are tried: 0.001 to 10,000, in half powers of ten."""


def line_of(config: RunConfig, data: DataSet) -> dict[str, Any]:
    """Fit one seed and say how it went."""
    splits = data.draw(
        train_per_class=config.train_per_class,
        validation_per_class=config.validation_per_class,
        seed=config.seed,
    )
    pixels = Pixels(data.shape).double()
    if standardizes(config, splits.train):
        pixels.fit(splits.train.inputs)
    started = time.perf_counter()
    model = LogisticRegressionCV(
        Cs=GRID,
        l1_ratios=(0.0,),
        cv=FOLDS,
        scoring="neg_log_loss",
        max_iter=10_000,
        use_legacy_attributes=False,
    ).fit(_rows(pixels, splits.train.inputs[:]), splits.train.target.numpy())
    seconds = time.perf_counter() - started
    log_probs = {
        name: torch.from_numpy(model.predict_log_proba(_rows(pixels, split.inputs[:])))
        for name, split in splits._asdict().items()
        if len(split.target)
    }
    metrics = {
        name: evaluate(found, getattr(splits, name).target)._asdict()
        for name, found in log_probs.items()
    }
    return {
        "config": config.to_dict(),
        **metrics,
        "reliability": reliability(log_probs["test"], splits.test.target)._asdict(),
        "options": {"C": float(model.C_)},
        "seconds": round(seconds, 3),
        "threads": torch.get_num_threads(),
        "digest": data.digest,
        "versions": {**versions(), "sklearn": sklearn.__version__},
        "jobs": 1,
        "gate": None,
    }


def _rows(pixels: Pixels, images: Tensor) -> Any:
    return pixels(images).flatten(1).numpy()


def main() -> None:
    """Fit every seed that has no line yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the file of lines")
    parser.add_argument("--data", required=True, help="as dropmax train takes it")
    parser.add_argument("--encoder", help="of a data set of texts")
    parser.add_argument("--data-root", type=Path, help="where folders of data lie")
    parser.add_argument("--protocol", default="modern", choices=PROTOCOLS, help="for its scaling")
    parser.add_argument("--train-per-class", type=int)
    parser.add_argument("--validation-per-class", type=int, default=0)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=range(5), help="0 to 4 if not given"
    )
    options = parser.parse_args()
    configs = [
        RunConfig(
            options.data,
            HEAD,
            backbone="identity",
            protocol=options.protocol,
            train_per_class=options.train_per_class,
            validation_per_class=options.validation_per_class,
            seed=seed,
            encoder=options.encoder,
            split="half",
            calibrate=False,
        )
        for seed in options.seeds
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = [RunConfig.from_dict(line["config"]) for line in read_lines(options.out)]
    data = data_for(configs[0], options.data_root)
    for n, config in enumerate(configs):
        print(f"\r{n + 1} of {len(configs)} seeds", end="", file=sys.stderr)
        if config not in done:
            append_line(options.out, line_of(config, data))
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
