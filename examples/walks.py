"""Five walks from a folder on disk to predictions, by the commands that you would type.

Each makes its data, then shows and runs the commands. At the end stands a table.

    python examples/walks.py --data-root DATA [--out FOLDER] [--small] [photos table ...]

photos  300 photos of mixed sizes with EXIF orientations, of cifar100-small, enlarged
texts   900 texts in a CSV file, of banking77
table   a CSV file with categories, dates and gaps, beside scikit-learn's usual pipelines
gray    gray pictures of 16 bits
flags   a parquet file with booleans
"""

import argparse
import io
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas
from PIL import ExifTags, Image

SMALL = 10
"""Epochs of a walk that shows only that it works."""


class Walk(NamedTuple):
    """What is trained on, with which options, and what is predicted; notes to show at the end."""

    data: Path
    options: Sequence[str]
    new: Sequence[Path]
    beside: Sequence[str] = ()


def photos(folder: Path, root: Path, noise: np.random.Generator) -> Walk:
    """Ten kinds of photos, thirty of each, most around 600 x 450, as a phone stores them."""
    rows = pandas.read_parquet(root / "cifar100-small" / "train-00000-of-00001.parquet")
    turned = {3: 180, 6: 90, 8: 270}  # how far a tag turns a stored picture back
    for k in range(10):
        place = folder / "photos" / f"kind {k}"
        place.mkdir(parents=True)
        for n, stored in enumerate(rows[rows["label"] == k]["image"][:30]):
            size = tuple((noise.uniform(0.7, 1.2) * np.array((600, 450))).astype(int).tolist())
            photo = Image.open(io.BytesIO(stored["bytes"])).resize(size, Image.Resampling.BICUBIC)
            tag = int(noise.choice((1, 3, 6, 8)))
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = tag
            photo = photo.rotate(turned.get(tag, 0), expand=True)
            photo.save(place / f"IMG_{n:04}.JPG", exif=exif, quality=90)
    new = sorted((folder / "photos").rglob("*.JPG"))[:3]
    return Walk(folder / "photos", [], new)


def texts(folder: Path, root: Path, noise: np.random.Generator) -> Walk:
    """Questions to a bank, of thirty intents, thirty of each."""
    rows = pandas.read_parquet(root / "banking77" / "train-00000-of-00001.parquet")
    kept = rows[rows["label"] < 30].groupby("label").head(30)
    kept.sample(frac=1.0, random_state=int(noise.integers(2**31))).to_csv(
        folder / "texts.csv", index=False
    )
    kept[["text"]].head(3).to_csv(folder / "new.csv", index=False)
    return Walk(folder / "texts.csv", ["--text-column", "text"], [folder / "new.csv"])


def table(folder: Path, root: Path, noise: np.random.Generator) -> Walk:  # noqa: ARG001
    """Customers who leave by a rule of city, plan, age and date; gaps, and a tenth is random."""
    count = 2_000
    frame = pandas.DataFrame(
        {
            "customer_id": noise.permutation(count) + 10_000,
            "city": noise.choice(["Bonn", "Köln", "Ulm", "Kiel", "Jena"], count),
            "plan": noise.choice(["basic", "plus", "pro"], count, p=[0.5, 0.3, 0.2]),
            "age": noise.normal(45, 12, count).round(),
            "since": pandas.Timestamp("2020-01-01")
            + pandas.to_timedelta(noise.integers(0, 1800, count), "D"),
            "paperless": noise.random(count) < 0.5,
        }
    )
    old = (frame["since"].dt.year < 2022).astype(float)
    score = 1.5 * old + 1.0 * (frame["plan"] == "basic") - (frame["age"] - 45) / 15
    score += frame["city"].map({"Bonn": 1.0, "Köln": -1.0}).fillna(0.0) - 1.0
    frame["label"] = np.where(score > 0, "leaves", "stays")
    random = noise.random(count) < 0.1
    frame.loc[random, "label"] = noise.choice(["leaves", "stays"], random.sum())
    for name in ("city", "age", "since"):
        frame.loc[noise.random(count) < 0.08, name] = None
    train, test = frame[: count // 2], frame[count // 2 :]
    (folder / "churn").mkdir()
    train.to_csv(folder / "churn" / "train.csv", index=False)
    test.to_csv(folder / "churn" / "test.csv", index=False)
    test.drop(columns="label").head(5).to_csv(folder / "new.csv", index=False)
    beside = _scikit_learn(folder / "churn")
    return Walk(folder / "churn", [], [folder / "new.csv"], beside)


def _scikit_learn(folder: Path) -> list[str]:
    """The errors of two classifiers of scikit-learn on the same files."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    def read(name: str) -> tuple[Any, Any]:
        rows = pandas.read_csv(folder / f"{name}.csv", parse_dates=["since"])
        rows["since"] = (rows["since"] - pandas.Timestamp("2020-01-01")).dt.days
        return rows.drop(columns=["label", "customer_id"]), rows["label"]

    numbers = make_column_selector(dtype_include=["number", "bool"])
    others = make_column_selector(dtype_exclude=["number", "bool"])
    filled = SimpleImputer(strategy="median", add_indicator=True)
    linear = make_column_transformer(
        (make_pipeline(filled, StandardScaler()), numbers),
        (OneHotEncoder(min_frequency=5, handle_unknown="infrequent_if_exist"), others),
    )
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    trees = make_column_transformer((codes, others), remainder="passthrough")
    (inputs, target), (new, truth) = read("train"), read("test")
    said = []
    for classifier, columns in (
        (LogisticRegression(max_iter=1_000), linear),
        (HistGradientBoostingClassifier(random_state=0), trees),
    ):
        fitted = make_pipeline(columns, classifier).fit(inputs, target)
        error = 100.0 * (fitted.predict(new) != truth).mean()
        said.append(f"{type(classifier).__name__} {error:.1f} %")
    return said


def gray(folder: Path, root: Path, noise: np.random.Generator) -> Walk:  # noqa: ARG001
    """Four textures as an instrument stores them: 16 bits, of which it uses a part."""
    rows, columns = np.mgrid[:40, :40]
    waves = {"flat": 0 * rows, "rows": rows, "columns": columns, "diagonal": rows + columns}
    for name, phase in waves.items():
        (folder / "scans" / name).mkdir(parents=True)
        for n in range(40):
            wave = np.sin(phase / noise.uniform(1.0, 2.0) + noise.uniform(0, 6))
            pixels = 9_000 + 2_500 * wave + noise.normal(0, 2_500, rows.shape)
            Image.fromarray(pixels.clip(0, 65_535).astype(np.uint16)).save(
                folder / "scans" / name / f"{n}.png"
            )
    new = sorted((folder / "scans").rglob("*.png"))[:3]
    return Walk(folder / "scans", [], new)


def flags(folder: Path, root: Path, noise: np.random.Generator) -> Walk:  # noqa: ARG001
    """Symptoms as booleans, some not asked for; the disease is what two of them say."""
    count = 800
    symptoms = ("fever", "cough", "rash", "travel", "smokes")
    has = {name: noise.random(count) < 0.5 for name in symptoms}
    diseases = np.array(["cold", "measles", "flu", "both"])[2 * has["fever"] + has["rash"]]
    asked = {name: noise.random(count) > 0.05 for name in symptoms}
    columns = {
        name: pandas.Series(has[name], dtype="boolean").where(asked[name]) for name in symptoms
    }
    frame = pandas.DataFrame({**columns, "label": diseases})
    frame.to_parquet(folder / "symptoms.parquet")
    frame.drop(columns="label").head(4).to_parquet(folder / "new.parquet")
    return Walk(folder / "symptoms.parquet", [], [folder / "new.parquet"])


WALKS: dict[str, Callable[[Path, Path, np.random.Generator], Walk]] = {
    "photos": photos,
    "texts": texts,
    "table": table,
    "gray": gray,
    "flags": flags,
}


def walk(name: str, root: Path, small: bool) -> dict[str, Any]:
    """Make the data, run the commands and say how it went."""
    folder = Path(name)
    folder.mkdir()
    data, options, new, beside = WALKS[name](folder, root, np.random.default_rng(0))
    run = folder / "run"
    length = ["--epochs", SMALL] if small else []
    started = time.perf_counter()
    _show(["train", "--data", data, *options, *length, "--quiet", "--out", run])
    seconds = time.perf_counter() - started
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    _show(["evaluate", run])
    printed = _show(["predict", run, *new])
    lines = [json.loads(line) for line in printed.splitlines()]
    assert lines
    assert not any("error" in line for line in lines), printed
    _show(["export", run, folder / "model.onnx"])
    return {"error": metrics["test"]["error"], "seconds": round(seconds, 1), "beside": beside}


def _show(arguments: Sequence[object]) -> str:
    """Show a command, run it, show what it prints, and return that."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ {shlex.join(['dropmax', *words])}", flush=True)
    command = [sys.executable, "-c", "from dropmax.cli import run; run()", *words]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    print(done.stdout + done.stderr, end="", flush=True)
    if done.returncode:
        sys.exit(f"dropmax {words[0]} ended with exit code {done.returncode}")
    return done.stdout


def main() -> None:
    """Go the walks that are named, or all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("walks", nargs="*", choices=[*WALKS, []], help="all if none is named")
    parser.add_argument("--data-root", type=Path, required=True, help="holds banking77, say")
    parser.add_argument("--out", type=Path, default=Path("walks"), help="a folder to make")
    parser.add_argument("--small", action="store_true", help="train for a few epochs only")
    options = parser.parse_args()
    root = options.data_root.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    os.chdir(options.out)
    found = {name: walk(name, root, options.small) for name in options.walks or WALKS}
    print("\n| walk | error % | seconds of training | beside |\n|---|---|---|---|")
    for name, line in found.items():
        beside = ", ".join(line["beside"]) or "-"
        print(f"| {name} | {line['error']:.1f} | {line['seconds']} | {beside} |")


if __name__ == "__main__":
    main()
