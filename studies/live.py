"""What a classifier of digits says of rows that it was not trained on, for the report on the site.

    python -m studies.live

It trains DropMax on ten digits of each class, and writes the predictions to docs/live. The site
makes its report of them, of `read_live`.
"""

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from dropmax import Scores, report
from dropmax._files import write_whole
from dropmax.training import RunConfig, data_for, draw, train
from dropmax.training.classifier import predict
from dropmax.training.run import versions

FILE = Path(__file__).parents[1] / "docs" / "live" / "digits.safetensors"
SETTINGS = RunConfig("digits", "dropmax", split="half", train_per_class=10, validation_per_class=10)


class Live(NamedTuple):
    """What the report is of, as `dropmax.report.write` takes it."""

    log_probs: Tensor
    target: Tensor
    scores: Scores
    inputs: Tensor
    ids: tuple[str, ...]
    class_names: tuple[str, ...]


def write_live() -> None:
    """Train, and write the predictions of the test rows."""
    data = data_for(SETTINGS)
    with tempfile.TemporaryDirectory() as out:
        run = train(SETTINGS, out, data=data, threads=1)
        classifier = run.classifier()
        method, scaling = run.method_and_scaling(classifier)
        test = draw(SETTINGS, data).test
        said = predict(classifier, test.inputs, method=method, scaling=scaling)
    gate = said.scores.retain_logits
    assert gate is not None
    tensors = {"log_probs": said.log_probs.half(), "retain_logits": gate.half()}
    told = {"settings": SETTINGS.to_dict(), "digest": data.digest, "versions": versions()}
    FILE.parent.mkdir(exist_ok=True)
    write_whole(FILE, save(tensors, {name: json.dumps(value) for name, value in told.items()}))


def read_live() -> Live:
    """The predictions, and the digits that they are of."""
    with safe_open(FILE, framework="pt") as file:
        log_probs, gate = (file.get_tensor(name).float() for name in ("log_probs", "retain_logits"))
    data = data_for(SETTINGS)
    test = draw(SETTINGS, data).test
    assert isinstance(test.inputs, Tensor)
    log_probs = log_probs.log_softmax(-1)
    scores = Scores(log_probs, gate)
    return Live(log_probs, test.target, scores, test.inputs, test.ids, data.class_names)


def write_report(folder: Path) -> None:
    """Write the report of the predictions, and the spreadsheets beside it."""
    title = "DropMax on digits, ten of each class to train on"
    report.write(folder / "report.html", **read_live()._asdict(), title=title)


if __name__ == "__main__":
    write_live()
