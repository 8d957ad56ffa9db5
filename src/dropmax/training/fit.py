"""Train one run, from where it was left."""

import json
import logging
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from dropmax import _check
from dropmax._files import holds_something, make_folder, write_whole
from dropmax.data import DataSet, DataWarning, LabeledData, Record, Splits, load_data
from dropmax.data.load import load_labeled
from dropmax.metrics import reliability
from dropmax.training.classifier import (
    class_weights,
    fit_pixels,
    make_classifier,
    method_of,
    predict,
)
from dropmax.training.config import RunConfig
from dropmax.training.run import (
    CONFIG,
    EXAMPLES,
    HISTORY,
    METRICS,
    RESUME,
    WEIGHTS,
    Run,
    describe,
    load_run,
    read_description,
    to_json,
    versions,
)
from dropmax.wrap import find_head

NUM_EXAMPLES = 8
"""A run keeps so many of its inputs."""


def train(
    config: RunConfig,
    out: str | Path,
    *,
    data: DataSet | None = None,
    root: str | Path | None = None,
    progress: bool = True,
    examples: bool = True,
    accelerator: str = "auto",
    devices: int | str = 1,
    strategy: str = "auto",
    precision: str = "32-true",
) -> Run:
    """Train a classifier and write its run; one that was interrupted goes on, a finished one stays.

    Everything is seeded by (seed, epoch): a run that was killed and goes on gives the numbers of
    the uninterrupted one, bit for bit at the same number of threads. Bad settings raise before
    anything is written.

    Args:
        config: The settings.
        out: The directory to write.
        data: The data set that `config` names, where it is loaded already.
        root: Where folders of data lie; the environment variable DROPMAX_DATA if None.
        progress: Whether to say how many rows train, validate and test, and to show a bar over
            epochs with the time left.
        examples: Whether the run keeps up to eight training inputs, so that it can be exported
            without its data.
        accelerator: As `lightning.pytorch.Trainer` takes it, and so the three below.
        devices: How many devices, or which.
        strategy: How they work together.
        precision: Of the arithmetic.

    Returns:
        The finished run.

    Raises:
        ValueError: If a setting or the data do not fit, or `out` is of another experiment.
        OSError: If `out` cannot be written; what was there before still is.
        TrainingError: If a term of the loss stops being finite; it is named.

    Examples:
        >>> import tempfile
        >>> from dropmax.training import RunConfig, train
        >>> config = RunConfig("digits", "softmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run = train(config, out, progress=False)
        >>> sorted(run.metrics["test"])
        ['brier', 'ece', 'error', 'floored', 'nll']
    """
    data = of_classes(config, data or data_for(config, root))
    splits, classifier = splits_and_classifier(config, data)
    weight = class_weights(config, data.class_names, splits.train.target)
    folder = Path(out)
    description = describe(config, data)
    _check_folder(folder, description, data)
    if (folder / METRICS).is_file():
        (folder / RESUME).unlink(missing_ok=True)
        return load_run(folder)
    resume = _resume_state(folder)

    with _check.extra("train"):
        from lightning.fabric.utilities.exceptions import MisconfigurationException
        from lightning.pytorch import Trainer

    from dropmax.training.callbacks import EpochBar, WholeCheckpoints, resume_state
    from dropmax.training.module import RunModule

    module = RunModule(config, classifier, splits, weight)
    # Lightning logs what hardware it found at each start, and warns of loaders without workers.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        try:
            trainer = Trainer(
                max_epochs=config.resolved_epochs,
                accelerator=accelerator,
                devices=devices,
                strategy=strategy,
                precision=precision,  # type: ignore[arg-type]
                callbacks=[resume_state(folder), *([EpochBar(config)] if progress else [])],
                plugins=[WholeCheckpoints()],
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
        except (MisconfigurationException, ModuleNotFoundError, ValueError) as error:
            given = accelerator, devices, strategy, precision
            got = _check.Verbatim(f"{', '.join(map(repr, given))} ({error})")
            must = "be what lightning has on this machine"
            remedy = "leave them out"
            _check.fail("accelerator, devices, strategy and precision", must, got, remedy)
        if progress and trainer.is_global_zero:
            print(data.described(splits), file=sys.stderr)
        make_folder(folder)
        write_whole(folder / CONFIG, to_json(description))
        try:
            trainer.fit(module, ckpt_path=resume, weights_only=True)
        except SystemExit:  # how lightning ends where it was interrupted
            raise KeyboardInterrupt from None
    if trainer.is_global_zero:
        _finish(folder, module, data.digest, examples)
    trainer.strategy.barrier()
    return load_run(folder)


def data_for(
    config: RunConfig, root: str | Path | None = None, record: Record | None = None
) -> DataSet:
    """The data set of a run: images, corrupted or not, rows of a table, or texts as embeddings.

    Args:
        config: The settings.
        root: Where folders of data lie.
        record: What a run fitted to the columns of its table; fitted anew if None.
    """
    data = load_data(
        config.data,
        root=root,
        label_column=config.label_column,
        image_column=config.image_column,
        text_column=config.text_column,
        encoder=config.encoder,
        drop=config.drop,
        keep=config.keep,
        record=record,
        test=config.test,
        split=config.split,
        test_fraction=config.test_fraction,
        size=config.size,
    )
    return data if config.corruption is None else data.corrupted(config.corruption)


def data_of(run: Run, root: str | Path | None = None) -> DataSet:
    """The data set of a finished run.

    Raises:
        ValueError: If it has other classes, columns, shapes or rows by now.
    """
    config = replace(run.config, size=run.size)
    data = of_classes(run.config, data_for(config, root, run.record))
    for name in ("class_names", "columns", "shape"):
        expected, found = getattr(run, name), getattr(data, name)
        if found != expected and (expected or name != "columns"):
            must = f"have data of the {name} it was trained with, {', '.join(map(str, expected))}"
            got = _check.Verbatim(", ".join(map(str, found))[:200])
            _check.fail("run", must, got, "restore them, or train again")
    check_digest("run", run.digest, data)
    return data


def labeled_for(
    run: Run, source: str, root: str | Path | None = None, *, label_column: str | None = None
) -> LabeledData:
    """Labeled rows of a source, made as those were on which a run was trained.

    Args:
        run: A finished run.
        source: As `load_data` takes it. If it has a test split, that is taken, otherwise all rows.
        root: The folder that holds the data; the environment variable DROPMAX_DATA if None.
        label_column: The column of labels; that of the run's data if None.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If no row fits the run.
    """
    config = run.config
    return load_labeled(
        source,
        root=root,
        class_names=run.class_names,
        shape=run.shape,
        label_column=label_column or config.label_column,
        image_column=config.image_column,
        text_column=run.columns[0] if config.encoder else None,
        encoder=config.encoder,
        size=run.size,
        record=run.record,
    )


def check_digest(argument: str, digest: str | None, data: DataSet) -> None:
    """The data set is the one of that digest; a warning says where there is none to check.

    Raises:
        ValueError: If it is another.
    """
    if digest is None:
        unchecked = f"written without a digest, so that nothing tells whether {data.name} changed"
        warnings.warn(f"{_check.caller(argument)}: {unchecked}.", DataWarning, stacklevel=3)
    elif digest != data.digest:
        got = _check.Verbatim(f"{digest}, while that of {data.name} is {data.digest}")
        must = "be of the same data set, by the digest of its rows"
        _check.fail(argument, must, got, "restore the data, or name another directory")


def of_classes(config: RunConfig, data: DataSet) -> DataSet:
    """The classes of a run, which may be fewer than those of the data set."""
    if config.num_classes is None:
        return data
    return data.of_classes(config.num_classes, seed=config.seed)


def draw(config: RunConfig, data: DataSet) -> Splits:
    """What a run trains, validates and tests on.

    Raises:
        ValueError: If a class has too few rows.
    """
    return data.draw(
        train_per_class=config.train_per_class,
        validation_per_class=config.validation_per_class,
        validation_fraction=config.validation_fraction_of(data),
        seed=config.seed,
    )


def say_splits(config: RunConfig, data: DataSet) -> None:
    """Say on the terminal how many rows of a run train, validate and test, and whence they are."""
    print(data.described(draw(config, of_classes(config, data))), file=sys.stderr)


def splits_and_classifier(config: RunConfig, data: DataSet) -> tuple[Splits, nn.Sequential]:
    """The splits and the untrained classifier of a run.

    Raises:
        ValueError: If the settings do not fit the data.
    """
    data = of_classes(config, data)
    splits = draw(config, data)
    classifier = make_classifier(config, data.shape, len(data.class_names))
    fit_pixels(classifier, config, splits.train)
    return splits, classifier


def _check_folder(folder: Path, description: dict[str, Any], data: DataSet) -> None:
    """The folder is new, empty, or of this very run."""
    if folder.exists() and not folder.is_dir():
        _check.fail("out", "be a directory", str(folder), "name another")
    found = read_description(folder)
    if found is None and holds_something(folder):
        got = _check.Verbatim(f"{str(folder)!r}, which holds something else")
        _check.fail("out", "be new, empty or a run", got, "name another")
    if found is None:
        return
    if found["config"] == description["config"]:
        check_digest("out", found.get("digest"), data)
    later = {"columns", "record"} if (folder / METRICS).is_file() else {"columns"}
    late = later - set(found)  # the first runs had fewer entries; without a record none goes on
    description = {name: value for name, value in description.items() if name not in late}
    if {**found, "digest": ""} != {**description, "digest": ""}:
        differs = [
            name
            for name, value in {**description["config"], **description}.items()
            if name not in ("config", "digest") and {**found["config"], **found}.get(name) != value
        ]
        got = _check.Verbatim(f"{str(folder)!r} of another experiment ({', '.join(differs)})")
        _check.fail("out", "hold the same experiment", got, "name another directory")


def _resume_state(folder: Path) -> Path | None:
    """The state to go on from, checked to be readable, or None."""
    file = folder / RESUME
    if not file.is_file():
        return None
    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the reader stumble in any way
        got = _check.Verbatim(f"{str(file)!r} ({type(error).__name__})")
        _check.fail("out", "hold a readable state", got, "delete that file to start anew")
    return file


def _finish(folder: Path, module: Any, digest: str, examples: bool) -> None:
    """Write weights, history and, last, the metrics, by which a run is known to be finished."""
    state = {name: t.cpu().contiguous() for name, t in module.classifier.state_dict().items()}
    write_whole(folder / WEIGHTS, safetensors.torch.save(state))
    write_whole(folder / HISTORY, "".join(json.dumps(row) + "\n" for row in module.history))
    if examples:
        inputs = module.splits.train.inputs
        evenly = torch.linspace(0, len(inputs) - 1, min(len(inputs), NUM_EXAMPLES)).long()
        write_whole(folder / EXAMPLES, safetensors.torch.save({"inputs": inputs[evenly]}))
    test = module.splits.test
    method = method_of(module.classifier, module.config)
    judged = {}
    if len(test):
        log_probs = predict(module.classifier, test.inputs, method=method).log_probs
        judged = {"reliability": reliability(log_probs, test.target)._asdict()}
    metrics = {
        **module.history[-1]["curve"],
        **judged,
        "options": find_head(module.classifier).options(),
        "epochs": module.config.resolved_epochs,
        "seconds": round(module.seconds, 3),
        "threads": torch.get_num_threads(),
        "digest": digest,
        "versions": versions(),
    }
    write_whole(folder / METRICS, to_json(metrics))
    (folder / RESUME).unlink(missing_ok=True)
