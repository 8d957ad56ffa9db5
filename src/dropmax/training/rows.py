"""What a run is of: its data set, the rows that train, validate and test, and its classifier."""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

from torch import nn

from dropmax import _check
from dropmax.data import DataSet, DataWarning, LabeledData, Record, Splits, load_data
from dropmax.data.load import load_labeled
from dropmax.data.sources import leaves
from dropmax.data.splits import FEWEST
from dropmax.training.classifier import class_weights, fit_pixels, make_classifier
from dropmax.training.config import RunConfig
from dropmax.training.defaults import described, settled
from dropmax.training.pretrained import known_of, reads_texts, within
from dropmax.training.run import Run


def data_for(
    config: RunConfig, root: str | Path | None = None, record: Record | None = None
) -> DataSet:
    """The data set of a run: images, corrupted or not, rows of a table, or texts as embeddings.

    Args:
        config: The settings.
        root: Where folders of data lie.
        record: What a run fitted to the columns of its table; fitted anew if None.

    Raises:
        ValueError: If its pretrained network takes data of another kind.
    """
    texts, size = None, config.size
    if config.pretrained is not None:
        texts, size = reads_texts(config), known_of(config).size
    data = load_data(
        config.data,
        root=root,
        label_column=config.label_column,
        image_column=config.image_column,
        text_column=config.text_column,
        encoder=texts or config.encoder,
        drop=config.drop,
        keep=config.keep,
        record=record,
        test=config.test,
        split=config.split,
        test_fraction=config.test_fraction,
        size=size,
    )
    return data if config.corruption is None else data.corrupted(config.corruption)


def data_of(run: Run, root: str | Path | None = None) -> DataSet:
    """The data set of a finished run, from the working directory, `root` or the hub.

    Raises:
        ValueError: If it lies elsewhere, or has other classes, columns, shapes or rows by now.
    """
    check_places(run, "data", "test", "encoder", root=root)
    config = within(replace(run.config, size=run.size), run.path)
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
        ValueError: If no row fits the run, or its encoder lies elsewhere.
    """
    check_places(run, "encoder", root=root)
    config = within(run.config, run.path)
    texts = reads_texts(config) if config.pretrained else None
    return load_labeled(
        source,
        root=root,
        class_names=run.class_names,
        shape=run.shape,
        label_column=label_column or config.label_column,
        image_column=config.image_column,
        text_column=run.columns[0] if texts or config.encoder else None,
        encoder=texts or config.encoder,
        size=run.size,
        record=run.record,
    )


def check_places(run: Run, *settings: str, root: str | Path | None) -> None:
    """What settings of a run name lies in the working directory or in `root`: who wrote the run may
    be a stranger.

    Raises:
        ValueError: If it is a file or a folder elsewhere.
    """
    for setting in settings:
        name = getattr(run.config, setting)
        place = None if name is None else leaves(name, root)
        if place is not None:
            got = _check.Verbatim(f"{setting} {name!r} in {run.path}")
            must = "name what lies in the working directory or in root (--data-root)"
            remedy = f"if you trust the run, pass {str(place.resolve().parent)!r} as root"
            _check.fail("run", must, got, remedy)


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


def say_splits(config: RunConfig, data: DataSet, splits: Splits | None = None) -> None:
    """Say on the terminal how many rows of a run train, validate and test, whence they are, and
    how it is trained.
    """
    data = of_classes(config, data)
    splits = splits or draw(config, data)
    said = data.described(splits)
    if config.validation_fraction_of(data) and not len(splits.validation):
        said += f" No row validates: each class has fewer than {FEWEST} rows to train on."
    print(said, file=sys.stderr)
    num_rows = len(splits.train)
    config = settled(config, data.shape, num_rows)
    print(described(config, data.shape, num_rows), file=sys.stderr)


def splits_and_classifier(
    config: RunConfig, data: DataSet, *, joined: bool = False
) -> tuple[Splits, nn.Sequential]:
    """The splits and the untrained classifier of a run.

    If they are joined, the rows for validation train, too, and none validates.

    Raises:
        ValueError: If the settings do not fit the data.
    """
    data = of_classes(config, data)
    splits = draw(config, data)
    config = settled(config, data.shape, len(splits.train))
    if joined:
        none = splits.validation.rows([])
        splits = Splits(splits.train.joined(splits.validation), none, splits.test)
    classifier = make_classifier(config, data.shape, len(data.class_names))
    fit_pixels(classifier, config, splits.train)
    return splits, classifier


def check_settings(config: RunConfig, data: DataSet, splits: Splits) -> None:
    """What a run says of classes, of mixup and of choosing an epoch fits its rows.

    Raises:
        ValueError: If a class has no such name, texts are to be mixed, or no row validates.
    """
    class_weights(config, data.class_names, splits.train.target)
    if config.mixup and config.is_tuned and len(data.shape) == 1:
        must, remedy = "be 0 where a network reads texts", "leave it out"
        _check.fail("mixup", must, config.mixup, remedy)
    for argument in ("patience", "refit"):
        given = getattr(config, argument)
        if given and not len(splits.validation):
            remedy = "leave it out, or let some rows validate"
            _check.fail(argument, "be left out where no row validates", given, remedy)
