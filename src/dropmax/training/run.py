"""The directory that a run leaves: settings, class names, metrics, history, weights."""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

import dropmax
from dropmax import _check
from dropmax.analysis.conformal import ConformalSets, sets_at
from dropmax.calibration import TemperatureScaling
from dropmax.data import DataSet, LabeledData, Record
from dropmax.errors import DropmaxFileNotFoundError
from dropmax.training.classifier import make_classifier, method_of
from dropmax.training.config import RunConfig
from dropmax.training.pixels import Pixels
from dropmax.training.pretrained import (
    from_transformers,
    identity_of,
    known_of,
    on_features,
    within,
)

FORMAT = 1
"""The version of the directory's layout."""

CONFIG, METRICS, HISTORY, WEIGHTS, EXAMPLES, CONFORMAL = (
    "run.json",
    "metrics.json",
    "epochs.jsonl",
    "model.safetensors",
    "examples.safetensors",
    "conformal.safetensors",
)
FORMER_CONFIG = "config.json"
"""What CONFIG was called in the first runs; Transformers calls its own so."""
OF_TRANSFORMERS = "config.json"
"""The configuration by which Transformers loads a run on a pretrained network."""
RESUME, BEST = "resume.ckpt", "best.ckpt"
"""What an unfinished run goes on from, and its weights of least validation NLL; deleted at its end.
"""
SELECTION = "selection"
"""The run within a run that says for how many steps to train on all rows."""


@dataclass(frozen=True)
class Run:
    """A finished run, read from its directory.

    Attributes:
        path: The directory.
        config: The settings, as they were given.
        settled: Those it was trained with: what its protocol "auto" chose, too.
        class_names: The name of each class index.
        shape: (C, H, W) of an image, or (D,) of a row of numbers.
        columns: The columns that a row is of: of numbers, or of texts; none for images.
        size: To which the shorter side of an image is resized before its center is taken; None
            where images are as they are, and for rows.
        digest: Of the data set; None for a run that was written without one.
        metrics: By split ("train", "validation", "test"), if it is not empty, the fields of
            `dropmax.metrics.Metrics`. Beside them stand "reliability" (of the test split),
            "seconds" (of training), "cpu_seconds" (of all), "threads", "digest" and "versions".
        history: A mapping for each epoch: raw and weighted terms, gate, learning curve.
        record: What was fitted to the columns of a table; None for images and texts.
        scaling: The temperature that its predictions have, on top of their method; None where it
            would not help.
    """

    path: Path
    config: RunConfig
    settled: RunConfig
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    columns: tuple[str, ...]
    size: int | None
    digest: str | None
    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    record: Record | None = None
    scaling: TemperatureScaling | None = None

    def classifier(self) -> nn.Sequential:
        """The trained classifier, in evaluation mode: images or rows to `Scores`.

        Raises:
            ValueError: If the weights cannot be read or do not fit.
        """
        config = within(self.settled, self.path)
        classifier = make_classifier(config, self.shape, len(self.class_names), weights=False)
        file = self.path / WEIGHTS
        try:
            weights = safetensors.torch.load_file(file)
            if config.pretrained is not None:
                weights = from_transformers(classifier, weights)
            classifier.load_state_dict(weights)
        except (OSError, SafetensorError, RuntimeError) as error:
            _broken(file, error)
        return classifier.eval()

    def judging(self, splits: Sequence[LabeledData]) -> tuple[nn.Sequential, Sequence[LabeledData]]:
        """Its classifier and splits, to predict them.

        Of a frozen network these are what comes after it, and features, which are in the cache from
        training; unless the network of the run has been changed since.
        """
        classifier, network = self.classifier(), self.metrics.get("network")
        if not self.settled.is_frozen or network is None:
            return classifier, splits
        config = within(self.settled, self.path)
        tail, parts = on_features(classifier, config, network, splits, torch.device("cpu"))
        for split, part in zip(splits, parts, strict=True):
            first = torch.arange(1 if len(split) else 0)
            with torch.no_grad():
                both = (tail(part.inputs[first]).logits, classifier(split.inputs[first]).logits)
            if not torch.allclose(*both, rtol=1e-3, atol=1e-3):
                return classifier, splits
        return tail, parts

    def method_and_scaling(
        self, classifier: nn.Module, method: str | None = None
    ) -> tuple[str, TemperatureScaling | None]:
        """How its classifier predicts: by a method, or its own if None, and the temperature of it.

        The temperature was fitted for its own method, so that others have none.
        """
        own = method_of(classifier, self.config)
        return (own, self.scaling) if method in (None, own) else (method, None)

    def examples(self) -> Tensor | None:
        """Up to eight training inputs that the run keeps, as its classifier takes them.

        Raises:
            ValueError: If they cannot be read.
        """
        file = self.path / EXAMPLES
        if not file.is_file():
            return None
        try:
            return safetensors.torch.load_file(file)["inputs"]
        except (OSError, SafetensorError, KeyError) as error:
            _broken(file, error)

    def conformal(self, level: float) -> ConformalSets:
        """Sets of classes that hold the true one with a probability of `level`.

        They are of the run's own method, and fitted to the scores that it keeps of its validation
        rows: on these its network was not trained.

        Raises:
            ValueError: If the level is not in (0, 1); if the run keeps no scores, or they cannot be
                read.
        """
        file = self.path / CONFORMAL
        if not file.is_file():
            _check.fail("run", "keep scores of validation rows, for sets", *self._no_scores())
        try:
            scores = safetensors.torch.load_file(file)["scores"]
            if scores.ndim != 1 or not len(scores):
                raise ValueError(f"scores {list(scores.shape)}")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            _broken(file, error)
        return sets_at(level, scores)

    def _no_scores(self) -> tuple[str, str]:
        """Why it keeps no scores of validation rows, and what to do."""
        if self.config.refit:
            why = f"{self.path}, whose network was trained on them by --refit"
            return _check.Verbatim(why), f"ask {self.path / SELECTION}, which was not"
        if "validation" not in self.metrics:
            why = f"{self.path}, which has no validation rows"
            return _check.Verbatim(why), "train again, with some (--validation-fraction)"
        why = f"{self.path}, written before runs kept them"
        return _check.Verbatim(why), "train again, into another folder"

    def recipe(self, classifier: nn.Sequential) -> dict[str, Any]:
        """What makes an input of an instance, as JSON takes it; an exported file states it.

        Under "inside" is what the classifier does by itself: it divides pixels by "unit", subtracts
        the mean of each channel or column, and divides by the deviation.
        """
        if self.config.pretrained is not None and len(self.shape) == 1:
            length = known_of(within(self.settled, self.path)).length
            tokens = {"tokenizer": self.config.pretrained, "length": length, "padding": -1}
            return {"kind": "texts", **tokens, "inside": {}}
        pixels = classifier.get_submodule("pixels")
        assert isinstance(pixels, Pixels)
        inside = {
            "unit": pixels.unit,
            "mean": pixels.mean.flatten().tolist(),
            "deviation": pixels.std.flatten().tolist(),
        }
        if self.config.encoder is not None:
            return {"kind": "texts", "encoder": self.config.encoder, "inside": inside}
        if self.record is not None:
            return {"kind": "table", "record": self.record.to_dict(), "inside": inside}
        names = ("channels", "height", "width")
        found = {"kind": "images", **dict(zip(names, self.shape, strict=True)), "inside": inside}
        if self.size is None:
            return found
        return {**found, "size": self.size, "resize": "shorter side, bicubic", "crop": "center"}


def load_run(path: str | Path) -> Run:
    """Read a finished run.

    Args:
        path: Its directory.

    Raises:
        FileNotFoundError: If it is no run.
        ValueError: If it is not finished, of a later format, or cannot be read.

    Examples:
        >>> from dropmax.training import load_run
        >>> load_run("nowhere")
        Traceback (most recent call last):
        ...
        dropmax.errors.DropmaxFileNotFoundError: load_run: path must be the directory of a run, got
        'nowhere'; check the path.
    """
    folder = Path(path)
    described = read_description(folder)
    if described is None:
        must = "be the directory of a run"
        _check.fail("path", must, str(path), "check the path", error=DropmaxFileNotFoundError)
    if not (folder / METRICS).is_file():
        must = "be a finished run"
        _check.fail("path", must, str(path), "run train again, it goes on")
    try:
        history = (folder / HISTORY).read_text(encoding="utf-8").splitlines()
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        return Run(
            folder,
            RunConfig.from_dict(described["config"]),
            RunConfig.from_dict(described.get("settled", described["config"])),
            tuple(described["class_names"]),
            tuple(described["shape"]),
            tuple(described.get("columns", ())),
            described.get("size"),
            described.get("digest"),
            metrics,
            [json.loads(line) for line in history],
            _record(folder, described),
            _scaling(metrics.get("temperature")),
        )
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        _broken(folder, error)


def _scaling(described: Mapping[str, Any] | None) -> TemperatureScaling | None:
    if described is None:
        return None
    found = TemperatureScaling(**described)
    if not (found.kept is True and 0.0 < float(found.scale) < math.inf):
        raise ValueError(f"temperature {described}")
    return found


def _record(folder: Path, described: Mapping[str, Any]) -> Record | None:
    """What was fitted to the columns of a table.

    The first runs on tables have no record: their columns are numbers, which the classifier
    standardizes, and a gap becomes the mean of the training rows.
    """
    if "record" in described:
        return Record.from_dict(described["record"])
    columns, config = described.get("columns", ()), RunConfig.from_dict(described["config"])
    if not columns or config.encoder is not None or config.pretrained is not None:
        return None
    with safetensors.safe_open(folder / WEIGHTS, framework="pt") as file:
        means = file.get_tensor("pixels.mean").tolist()
    return Record.plain(dict(zip(columns, means, strict=True)))


def read_description(folder: Path) -> dict[str, Any] | None:
    """What `describe` wrote, its settings under the names of today, or None if there is none."""
    names = (name for name in (CONFIG, FORMER_CONFIG) if (folder / name).is_file())
    if (name := next(names, None)) is None:
        return None
    file = folder / name
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        if "model_type" in described:  # a model of Transformers that is no run
            return None
        version = described["format"]
        if version == FORMAT:
            described["config"] = RunConfig.from_dict(described["config"]).to_dict()
    except (OSError, KeyError, TypeError, ValueError) as error:
        _broken(file, error)
    if version != FORMAT:
        got = _check.Verbatim(f"{version!r} in {file}")
        remedy = "use the release of dropmax that wrote it"
        _check.fail("format", f"be {FORMAT}", got, remedy)
    assert isinstance(described, dict)
    return described


def describe(config: RunConfig, settled: RunConfig, data: DataSet) -> dict[str, Any]:
    """What CONFIG holds: the settings that were given and, if it differs, what was made of them."""
    described = {
        "format": FORMAT,
        "config": config.to_dict(),
        "class_names": list(data.class_names),
        "shape": list(data.shape),
        "digest": data.digest,
    }
    if settled != config:
        described["settled"] = settled.to_dict()
    if config.pretrained is not None:
        described["network"] = identity_of(config)
    if data.columns:
        described["columns"] = list(data.columns)
    if data.record is not None:
        described["record"] = data.record.to_dict()
    return described if data.size is None else {**described, "size": data.size}


def versions() -> dict[str, str]:
    """Versions on which numbers depend."""
    return {
        "dropmax": dropmax.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def to_json(value: object) -> str:
    """Readable JSON, without NaN."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _broken(file: Path, error: Exception) -> NoReturn:
    reason = (str(error).splitlines() or [""])[0][:200]
    got = _check.Verbatim(f"{file} ({type(error).__name__}: {reason})")
    _check.fail("path", "hold a readable run", got, "restore it, or train again")
