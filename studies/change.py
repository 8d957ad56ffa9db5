"""What trained runs come to on test images that have changed since."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dropmax._files import make_folder, write_whole
from dropmax.compare.lines import RESULTS, read_lines
from dropmax.compare.runs import finished, run_folder
from dropmax.data import DataSet
from dropmax.metrics import evaluate, reliability
from dropmax.training import RunConfig, load_run
from dropmax.training.classifier import method_of, predict


def changed_folder(folder: str | Path, corruption: str) -> Path:
    """Where the lines of a comparison's runs on corrupted images are."""
    return Path(f"{folder}-on-{corruption}")


def write_changed(
    folder: str | Path, configs: Sequence[RunConfig], data: DataSet, corruption: str
) -> list[dict[str, Any]]:
    """Test finished runs on corrupted images; their lines join those in `FOLDER-on-CORRUPTION`.

    Args:
        folder: What `compare` or a part of a study left: `results.jsonl`, and the runs.
        configs: The settings of the runs.
        data: The data set they were trained on.
        corruption: One of `dropmax.data.CORRUPTIONS`, done to the test images.

    Returns:
        The new lines: those of the runs with "test" and "reliability" of the corrupted images,
        "tested_on", and no learning curve.

    Raises:
        ValueError: If a run is missing or there is no such corruption; nothing is written then.

    Examples:
        >>> import tempfile
        >>> from dropmax.data import load_data
        >>> from dropmax.compare import Comparison, compare
        >>> from studies import write_changed
        >>> from dropmax.training import RunConfig
        >>> base = RunConfig("digits", "softmax", train_per_class=5, epochs=1)
        >>> comparison = Comparison(base, heads=("softmax",), seeds=(0,))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     _ = compare(comparison, out + "/clean", progress=False)
        ...     runs = comparison.configs()
        ...     (line,) = write_changed(out + "/clean", runs, load_data("digits"), "background")
        >>> line["tested_on"]
        'background'
    """
    test = data.corrupted(corruption).test
    lines = []
    for config, line in finished(configs, folder).items():
        classifier = load_run(run_folder(folder, config)).classifier()
        log_probs = predict(classifier, test.inputs, method=method_of(classifier, config)).log_probs
        changed = {
            "test": evaluate(log_probs, test.target)._asdict(),
            "reliability": reliability(log_probs, test.target)._asdict(),
            "tested_on": corruption,
        }
        lines.append({**{k: v for k, v in line.items() if k != "curve"}, **changed})
    out = make_folder(changed_folder(folder, corruption))
    all_lines = [*read_lines(out / RESULTS), *lines]
    write_whole(out / RESULTS, "".join(json.dumps(line) + "\n" for line in all_lines))
    return lines
