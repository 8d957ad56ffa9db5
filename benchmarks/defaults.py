"""What the command gives without options, beside settings that were written down before.

    python benchmarks/defaults.py --data-root FOLDER --out benchmarks/results/defaults.jsonl

Five data sets, five seeds: photos of six animals, 25 of each to train on, in folders; 100 images a
class of MNIST and 10 texts a class of Banking77, which lie in FOLDER; and two tables of
scikit-learn. Each run has a line. The best of the settings is that of the least validation error
over the seeds. If it was interrupted, the same command goes on: lines are kept as they are made.
"""

import argparse
import itertools
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sklearn.datasets import load_breast_cancer, load_digits

from dropmax._progress import progress_bar
from dropmax.compare.lines import append_line, read_lines
from dropmax.data import PACKAGED, DataSet, load_data
from dropmax.training import RunConfig, data_for, train

ANIMALS = ("bear", "fox", "leopard", "lion", "tiger", "wolf")
PICTURES_A_CLASS = 25
"""So many train, and as many test."""
SEEDS = range(5)
AUTO = "no option"


class Case(NamedTuple):
    """Data, what names them in a command, and the settings beside the defaults."""

    options: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    heads: tuple[str, ...] = ("dropmax",)


OF_IMAGES = {
    "paper": {"protocol": "paper"},
    "modern": {"protocol": "modern"},
    "modern, 100 epochs": {"protocol": "modern", "epochs": 100},
    "modern, cnn, 60 epochs": {"protocol": "modern", "backbone": "cnn", "epochs": 60},
}
OF_TEXTS = {
    "paper, hidden": {"protocol": "paper", "backbone": "hidden"},
    "modern, hidden": {"protocol": "modern", "backbone": "hidden"},
    "modern, hidden, 100 epochs": {"protocol": "modern", "backbone": "hidden", "epochs": 100},
    "modern, identity, 100 epochs": {"protocol": "modern", "backbone": "identity", "epochs": 100},
}
OF_TABLES = {
    "paper": {"protocol": "paper"},
    "modern": {"protocol": "modern"},
    "modern, 100 epochs": {"protocol": "modern", "epochs": 100},
    "modern, hidden, 100 epochs": {"protocol": "modern", "backbone": "hidden", "epochs": 100},
}
OF_ANIMALS = {"modern, cnn, 40 epochs": {"protocol": "modern", "backbone": "cnn", "epochs": 40}}
TEXTS = {"encoder": PACKAGED, "text_column": "text"}
CASES = {
    "animals": Case({}, OF_ANIMALS, heads=("dropmax", "softmax")),
    "mnist": Case({"train_per_class": 100}, OF_IMAGES),
    "banking77": Case({"train_per_class": 10, **TEXTS}, OF_TEXTS),
    "digits": Case({}, OF_TABLES),
    "breast_cancer": Case({}, OF_TABLES),
}


def animals(root: Path, seed: int, folder: Path) -> Path:
    """Folders train and test, with a folder of pictures for each animal."""
    from PIL import Image

    train = load_data("cifar100-small", root=root).train
    names = load_data("cifar100-small", root=root).class_names
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
    for animal in ANIMALS:
        rows = [n for n in order if train.target[n] == names.index(animal)]
        for split, start in (("train", 0), ("test", PICTURES_A_CLASS)):
            place = folder / split / animal
            place.mkdir(parents=True)
            for n in rows[start : start + PICTURES_A_CLASS]:
                pixels = train.inputs[n : n + 1][0].permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(place / f"{n}.png")
    return folder


def table(name: str, folder: Path) -> Path:
    """A table of scikit-learn as a CSV file."""
    maker = {"digits": load_digits, "breast_cancer": load_breast_cancer}[name]
    frame = maker(as_frame=True).frame.rename(columns={"target": "label"})
    frame.to_csv(folder / f"{name}.csv", index=False)
    return folder / f"{name}.csv"


@cache
def source(case: str, root: Path, seed: int) -> str:
    """What the command is given: a folder or a file of its own, or a name of what lies in the root.

    The folder is left to the system.
    """
    if case not in ("animals", "digits", "breast_cancer"):
        return case
    folder = Path(tempfile.mkdtemp())
    return str(animals(root, seed, folder) if case == "animals" else table(case, folder))


@cache
def loaded(case: str, root: Path, seed: int) -> DataSet:
    """The data of a case; only the animals differ by the seed."""
    return data_for(RunConfig(source(case, root, seed), "softmax", **CASES[case].options), root)


def line(case: str, root: Path, seed: int, head: str, setting: str) -> dict[str, Any]:
    """The result line of a run."""
    torch.set_num_threads(1)
    data = loaded(case, root, seed if case == "animals" else 0)
    options = {**CASES[case].options, **CASES[case].settings.get(setting, {})}
    config = RunConfig(data.name, head, seed=seed, **options)
    with tempfile.TemporaryDirectory() as folder:
        run = train(config, Path(folder, "run"), data=data, progress=False)
    kept = ("validation", "test", "epochs", "steps", "seconds", "threads", "digest", "versions")
    metrics = {name: run.metrics[name] for name in kept if name in run.metrics}
    return {
        "benchmark": "defaults",
        "case": case,
        "setting": setting,
        "config": {**run.settled.to_dict(), "data": case},
        **metrics,
    }


def key(one: Mapping[str, Any]) -> tuple[str, int, str, str]:
    return one["case"], one["config"]["seed"], one["config"]["head"], one["setting"]


def main() -> None:
    """Measure what has no line yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True, help="where the data sets lie")
    parser.add_argument("--out", type=Path, required=True, help="file for the result lines")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    options = parser.parse_args()
    done = {key(one) for one in read_lines(options.out)}
    every = [
        (case, seed, head, setting)
        for case, seed in itertools.product(CASES, SEEDS)
        for head in CASES[case].heads
        for setting in (AUTO, *CASES[case].settings)
    ]
    missing = [one for one in every if one not in done]
    with (
        progress_bar(len(every), "runs", done=len(every) - len(missing)) as advance,
        ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool,
    ):
        running = {
            pool.submit(line, case, options.data_root, seed, head, setting): case
            for case, seed, head, setting in missing
        }
        for finished in as_completed(running):
            append_line(options.out, finished.result())
            advance(1.0, running[finished])


if __name__ == "__main__":
    main()
