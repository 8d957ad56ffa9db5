"""How many of the labels that were flipped are among as many suspects, beside cleanlab's.

    python benchmarks/suspects.py --data-root FOLDER --out benchmarks/results/suspects.jsonl

Of Banking77's texts for training, which lie in FOLDER, as MiniLM embeddings, 5 % get another label.
Each text is judged by one of five folds' classifiers, as `dropmax report --suspects cross-validate`
does. The report ranks the texts whose label is not the answer; cleanlab (Northcutt et al. 2021,
"Confident Learning") ranks all of them, by the same probabilities. Some of Banking77's own labels
are wrong, and no ranking can tell those from the flipped. If it was interrupted, the same command
goes on.
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cleanlab
import numpy as np
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from lines import conditions

from dropmax.compare.lines import append_line, read_lines
from dropmax.data import PACKAGED, DataSet, load_data
from dropmax.report.rows import Rows
from dropmax.training import HeldOut, RunConfig, held_out, train

DATA = "banking77"
SHARE, FOLDS = 0.05, 5
HEADS = ("softmax", "dropmax")
SEEDS = range(3)


def flip(data: DataSet, seed: int) -> tuple[DataSet, torch.Tensor]:
    """The data without test rows, some labels another; and which `[N]`."""
    generator = torch.Generator().manual_seed(seed)
    target = data.train.target.clone()
    which = torch.randperm(len(target), generator=generator)[: round(SHARE * len(target))]
    others = len(data.class_names) - 1
    target[which] += 1 + torch.randint(others, (len(which),), generator=generator)
    target %= len(data.class_names)
    flipped = torch.zeros(len(target), dtype=torch.bool)
    flipped[which] = True
    rows = replace(data.train, target=target)
    digest = f"{data.digest}-flipped-{SHARE}-{seed}"
    return replace(data, train=rows, test=rows.rows([]), digest=digest), flipped


def by_report(found: HeldOut, names: tuple[str, ...]) -> list[int]:
    """As the report ranks them."""
    rows = found.data
    return Rows(found.log_probs, rows.target, names, rows.ids, found.splits).suspects()


def by_issues(found: HeldOut, names: tuple[str, ...]) -> list[int]:
    """What cleanlab's filter takes for wrong, by its own ranking."""
    del names
    probs, labels = found.log_probs.double().exp().numpy(), found.data.target.numpy()
    ranked = find_label_issues(labels, probs, return_indices_ranked_by="normalized_margin")
    return [int(n) for n in ranked]


def by_quality(method: str) -> Callable[[HeldOut, tuple[str, ...]], list[int]]:
    """All, by one of cleanlab's scores."""

    def ranking(found: HeldOut, names: tuple[str, ...]) -> list[int]:
        del names
        probs, labels = found.log_probs.double().exp().numpy(), found.data.target.numpy()
        scores = get_label_quality_scores(labels, probs, method=method)
        return [int(n) for n in np.argsort(scores, kind="stable")]

    return ranking


RANKINGS: Mapping[str, Callable[[HeldOut, tuple[str, ...]], list[int]]] = {
    "the report": by_report,
    "cleanlab, find_label_issues": by_issues,
    "cleanlab, self_confidence": by_quality("self_confidence"),
    "cleanlab, normalized_margin": by_quality("normalized_margin"),
    "cleanlab, confidence_weighted_entropy": by_quality("confidence_weighted_entropy"),
}


def lines(data: DataSet, head: str, seed: int, threads: int) -> Iterator[dict[str, Any]]:
    """A line for each ranking of what the folds say."""
    noisy, flipped = flip(data, seed)
    config = RunConfig(DATA, head, encoder=PACKAGED, epochs=1, train_per_class=1, seed=seed)
    with tempfile.TemporaryDirectory() as out:
        run = train(config, out, data=data, progress=False)
        run = replace(run, config=RunConfig(DATA, head, encoder=PACKAGED, seed=seed))
        found = held_out(run, noisy, num_folds=FOLDS, threads=threads)
    rows = {name: n for n, name in enumerate(noisy.train.ids)}
    wrong = flipped[[rows[name] for name in found.data.ids]]
    for ranking, ranked in RANKINGS.items():
        suspects = ranked(found, data.class_names)[: int(wrong.sum())]
        yield {
            "benchmark": "suspects",
            "config": {"head": head, "seed": seed},
            "ranking": ranking,
            "flipped": int(wrong.sum()),
            "suspects": len(suspects),
            "right": round(100.0 * float(wrong[suspects].sum()) / int(wrong.sum()), 2),
            "digest": noisy.digest,
            **conditions(),
            "cleanlab": cleanlab.__version__,
        }


def main() -> None:
    """Measure what has no line yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help=f"where {DATA} lies")
    parser.add_argument("--out", type=Path, required=True, help="file for the result lines")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    done = {(one["config"]["head"], one["config"]["seed"]) for one in read_lines(options.out)}
    missing = [one for one in itertools.product(HEADS, SEEDS) if one not in done]
    data = load_data(DATA, root=options.data_root, encoder=PACKAGED)
    for head, seed in missing:
        for one in lines(data, head, seed, options.threads):
            append_line(options.out, one)
            print(f"{head}, seed {seed}: {one['ranking']}: {one['right']:.1f} %")


if __name__ == "__main__":
    main()
