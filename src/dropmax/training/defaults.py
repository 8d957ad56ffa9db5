"""What a run is trained with where its protocol is "auto": by its data and the number of rows."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from dropmax.training.config import AUTO, RunConfig
from dropmax.training.networks import Shape, backbone_for

PICTURES, TEXTS, TABLE = "pictures", "texts", "rows of a table"
FEATURES, TUNED = "features", "a pretrained network"
"""Of a pretrained network that is frozen, and one that is trained."""


class Default(NamedTuple):
    """What suits data of a kind.

    Attributes:
        lr: The highest learning rate.
        weight_decay: The factor of weight decay.
        steps: How many steps suit `ROWS` rows. More rows take more, with their square root.
    """

    lr: float
    weight_decay: float
    steps: int


ROWS = 1_000
"""The number of rows for which `Default.steps` is given."""
FEWEST_EPOCHS = 5
"""However many rows there are, each is seen so often."""
BATCH_SIZE = 32

DEFAULTS: Mapping[str, Default] = MappingProxyType(
    {
        PICTURES: Default(3e-3, 1e-2, steps=1_600),
        TEXTS: Default(3e-3, 3e-1, steps=1_000),
        TABLE: Default(3e-3, 1e-1, steps=1_000),
        FEATURES: Default(3e-3, 3e-1, steps=1_000),
        TUNED: Default(3e-3, 1e-2, steps=300),
    }
)
"""By the kind of the data. They were chosen on validation rows, and by no test row."""


def settled(config: RunConfig, shape: Shape, num_rows: int) -> RunConfig:
    """The settings of a run with what the protocol "auto" chooses; those of others as they are.

    Args:
        config: The settings.
        shape: Of an instance: `(C, H, W)` of a picture, or `(D,)`.
        num_rows: The number of training rows.

    Returns:
        Settings of the protocol "modern". What `config` says itself stays.

    Examples:
        >>> from dropmax.training import RunConfig
        >>> from dropmax.training.defaults import settled
        >>> settled(RunConfig("photos", "dropmax"), (3, 64, 64), 240).backbone
        'average_cnn'
    """
    if config.protocol != AUTO:
        return config
    default = DEFAULTS[kind_of(config, shape)]
    if config.pretrained is not None:
        default = DEFAULTS[FEATURES if config.is_frozen else TUNED]
    batch_size = config.batch_size or BATCH_SIZE
    steps = default.steps * (num_rows / ROWS) ** 0.5
    of_epoch = -(-num_rows // (batch_size * config.accumulate))
    epochs = max(FEWEST_EPOCHS, round(steps / of_epoch))
    return replace(
        config,
        protocol="modern",
        backbone=config.backbone or network_for(shape),
        batch_size=batch_size,
        epochs=config.epochs or epochs,
        lr=config.lr or default.lr,
        weight_decay=default.weight_decay if config.weight_decay is None else config.weight_decay,
    )


def network_for(shape: Shape) -> str:
    """The network that "auto" chooses for instances of a shape.

    One hidden layer for rows, and for pictures that with a global average, but for small ones: the
    `cnn` for gray ones up to 32 pixels, and `mlp` below 16.
    """
    if len(shape) != 3:
        return "hidden"
    if min(shape[1:]) < 16:
        return "mlp"
    return "cnn" if shape[0] == 1 and max(shape[1:]) <= 32 else "average_cnn"


def kind_of(config: RunConfig, shape: Shape) -> str:
    """What the data of a run are: pictures, texts or rows of a table."""
    if len(shape) == 3:
        return PICTURES
    return TABLE if config.encoder is None and config.pretrained is None else TEXTS


def described(config: RunConfig, shape: Shape, num_rows: int) -> str:
    """In a line, what a run is trained with; its protocol is not "auto"."""
    backbone = config.backbone or backbone_for(shape)
    how = config.resolved
    steps = -(-num_rows // (config.resolved.batch_size * config.accumulate))
    colored = len(shape) == 3 and shape[0] == 3 and not config.is_frozen
    augmented = ", crops and flips" if how.augment and colored else ""
    origin = "from scratch"
    if config.pretrained is not None:
        backbone = config.pretrained
        origin = "pretrained and frozen" if config.is_frozen else "pretrained and trained further"
    return (
        f"{num_rows:,} {kind_of(config, shape)}, {origin}: {backbone}, "
        f"{_counted(how.epochs, 'epoch')} of {_counted(steps, 'step')}, "
        f"learning rate {how.lr:g}{augmented}."
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
