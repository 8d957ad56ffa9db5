"""What a run is: the settings that decide its numbers, and the training protocols."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, NamedTuple

from dropmax import _check
from dropmax.data import DataSet
from dropmax.data.load import RULES
from dropmax.training.networks import BACKBONES

VALIDATION_FRACTION = 0.15


class Protocol(NamedTuple):
    """How a network is trained.

    Attributes:
        epochs: Passes over the training images.
        batch_size: The number of images in a step, on each device.
        lr: The highest learning rate.
        weight_decay: The factor, through `dropmax.decay_groups`.
        optimizer: "adam" or "adamw".
        schedule: One of `SCHEDULES`.
        augment: Whether colored images are flipped and cropped.
        standardize: Whether pixels get mean 0 and deviation 1 a channel, else 0 to 1.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    optimizer: str
    schedule: str
    augment: bool
    standardize: bool


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "paper": Protocol(200, 100, 1e-3, 1e-4, "adam", "thirds", augment=False, standardize=False),
        "modern": Protocol(
            30, 100, 3e-3, 1e-2, "adamw", "one_cycle", augment=True, standardize=True
        ),
    }
)
"""The authors' protocol (their code), and one as networks are trained today."""

LEAST_MIXUP = 0.01
"""Of a smaller alpha the shares, nearly all 0 or 1, cannot be drawn from gammas in float32."""

AUTO = "auto"
"""The protocol "modern" with a network, a batch size, a length and rates that suit the data."""

SCHEDULES = ("constant", "linear", "cosine", "one_cycle", "thirds")
"""How the learning rate goes on from its highest value: it stays, falls to 0 on a line or a cosine,
rises and falls, or is a tenth and a hundredth in the second and the last third of the epochs."""

METHODS = ("plugin", "exact")

CURVE_POINTS = 10
"""How often, about, a run is evaluated for its learning curve."""

PRETRAINED = "hf:"
"""How the name of a pretrained network of Transformers starts, as a backbone."""

TUNES = ("none", "all", "lora")
"""What of a pretrained network is trained; "lora" is matrices of low rank beside its own."""

LATER = (
    "method",
    "num_classes",
    "corruption",
    "augment",
    "dropout",
    "mixup",
    "decay_gates",
    "encoder",
    "text_column",
    "test",
    "test_fraction",
    "validation_fraction",
    "class_weight",
    "size",
    "drop",
    "keep",
    "lr",
    "backbone_lr",
    "weight_decay",
    "warmup",
    "schedule",
    "clip",
    "patience",
    "refit",
    "tune",
    "accumulate",
    "gradient_checkpointing",
)
"""Settings that the first runs did not have."""

RENAMED = {"predictive": "method"}
"""What settings were called in the first runs and lines; the protocol "paper" was "official"."""


@dataclass(frozen=True)
class RunConfig:
    """The settings that decide the numbers of a run.

    Attributes:
        data: A data set, as `dropmax.data.load_data` takes it.
        head: A head, as `dropmax.make_head` takes it.
        backbone: One of `dropmax.training.networks.BACKBONES`, or "hf:" and a folder of
            Transformers or a model of the hub; one that fits the data if None.
        protocol: "auto", which `dropmax.training.defaults.settled` turns into settings that suit
            the data, or one of `PROTOCOLS`.
        epochs: Passes over the training images; the protocol's if None.
        batch_size: The number of images in a step, on each device; the protocol's if None.
        train_per_class: Images of each class to train on; all if None.
        validation_per_class: Images of each class to validate on.
        seed: The seed of the draw, the initial weights, the shuffles and the noise.
        image_column: The column of images; found by its type if None.
        label_column: The column of labels; if None the one of type ClassLabel, or named "label".
        method: How it predicts, and what the metrics measure: "plugin" or "exact". A head without
            masks always predicts by the plug-in.
        num_classes: Take so many of the classes, drawn by the seed; all if None.
        corruption: One of `dropmax.data.CORRUPTIONS`, applied to all images; none if None.
        augment: Whether colored images are flipped and cropped; the protocol's if None.
        dropout: The share of the features that the head does not see in training, in [0, 1).
        mixup: The alpha of mixup: each training input is mixed with another of its batch, and its
            label with that one's, by a share drawn for the batch from Beta(alpha, alpha). At least
            0.01, or 0 for none. With a frozen network its features are mixed. A
            network that reads texts and is trained takes none.
        decay_gates: Whether weight decay covers the gate's parameters, too.
        encoder: For texts, as `dropmax.data.load_data` takes it; None for images and numbers.
        text_column: The column of texts; found by its type if None.
        test: Labeled rows to test on, as `load_data` takes them; those of the data if None.
        split: How rows that no split of the files holds are drawn: "fraction", or "half", the rule
            of this project's studies, by which half of each class is for testing and none validate.
        test_fraction: For "fraction", as `load_data` takes it; a fifth if None.
        validation_fraction: For "fraction", which fraction of the training rows of each class
            validates, as `DataSet.draw` takes it. If None it is 0.15, and 0 if
            `validation_per_class` or a split of the files says what validates.
        class_weight: How much instances of a class count in training: ("balanced",), by which all
            classes count the same, or ("NAME=WEIGHT", ...), where a class that is not named has 1.
        size: To which images are resized and cropped, as `load_data` takes it.
        drop: Columns of a table to leave out.
        keep: Columns of a table to learn from, even if they seem to number its rows.
        lr: The highest learning rate; the protocol's if None.
        backbone_lr: That of the network before the head. If None a tenth of `lr` for a pretrained
            one, and `lr` for any other.
        weight_decay: The factor of weight decay; the protocol's if None.
        warmup: In which share of the steps the rate rises to the highest, in [0, 1). If None as the
            schedule does: 0.3 for "one_cycle", 0 for the others. "thirds" has none.
        schedule: One of `SCHEDULES`; the protocol's if None.
        clip: The norm to which gradients are clipped; they are not if None.
        patience: End if the NLL of validation rows has not fallen for so many epochs, and keep the
            weights of the best epoch. If None all epochs are trained, and the last weights kept.
        refit: Whether training is done once more on training and validation rows together, for as
            many steps as gave the weights that were kept, in epochs of one length.
        tune: What of a pretrained network is trained: "all"; "none", by which its features are
            computed once; or "lora", by which matrices of low rank are, beside the layers of a
            network of texts, and are added to these in the end. "none" if None.
        accumulate: The number of batches whose gradients make a step.
        gradient_checkpointing: Whether a pretrained network computes again in the backward pass
            what it would have to hold.
        calibrate: Whether a temperature is fitted on the validation rows, if there are any, and
            kept if it helps.

    Raises:
        ValueError: If a setting does not fit.

    Examples:
        >>> from dropmax.training import RunConfig
        >>> RunConfig("digits", "dropmax", protocol="paper", lr=1e-4).resolved.epochs
        200
    """

    data: str
    head: str
    backbone: str | None = None
    protocol: str = AUTO
    epochs: int | None = None
    batch_size: int | None = None
    train_per_class: int | None = None
    validation_per_class: int = 0
    seed: int = 0
    image_column: str | None = None
    label_column: str | None = None
    method: str = "plugin"
    num_classes: int | None = None
    corruption: str | None = None
    augment: bool | None = None
    dropout: float = 0.0
    mixup: float = 0.0
    decay_gates: bool = False
    encoder: str | None = None
    text_column: str | None = None
    test: str | None = None
    split: str = "fraction"
    test_fraction: float | None = None
    validation_fraction: float | None = None
    class_weight: tuple[str, ...] = ()
    size: int | None = None
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    lr: float | None = None
    backbone_lr: float | None = None
    weight_decay: float | None = None
    warmup: float | None = None
    schedule: str | None = None
    clip: float | None = None
    patience: int | None = None
    refit: bool = False
    tune: str | None = None
    accumulate: int = 1
    gradient_checkpointing: bool = False
    calibrate: bool = True

    def __post_init__(self) -> None:
        for argument in ("data", "head", "encoder"):
            value = getattr(self, argument)
            if (not isinstance(value, str) or not value) and (argument, value) != ("encoder", None):
                _check.fail(argument, "be a name", value, "name one", of=str)
        idle = "text_column" if self.encoder is None else "image_column"
        if getattr(self, idle) is not None and self.pretrained is None:
            must = f"be None {'without' if self.encoder is None else 'with'} an encoder"
            _check.fail(idle, must, getattr(self, idle), "remove one of the two settings")
        if self.pretrained is not None and self.encoder is not None:
            must = "be None with a pretrained backbone, which takes the texts themselves"
            _check.fail("encoder", must, self.encoder, "leave it out")
        if self.tune is not None:
            _check.choice("tune", self.tune, TUNES)
            if self.pretrained is None:
                remedy = f"leave it out, or name a backbone {PRETRAINED}NAME"
                _check.fail("tune", "be None for a network from scratch", self.tune, remedy)
        _check.integer("accumulate", self.accumulate, low=1)
        _check.boolean("gradient_checkpointing", self.gradient_checkpointing)
        if self.gradient_checkpointing and not self.is_tuned:
            must = "be left out where no pretrained network is trained"
            _check.fail("gradient_checkpointing", must, True, "leave it out, or say what to tune")
        for argument in ("drop", "keep"):
            value = getattr(self, argument)
            if isinstance(value, str) or not all(isinstance(name, str) for name in value):
                _check.fail(argument, "be names of columns", value, "pass a tuple of texts")
            object.__setattr__(self, argument, tuple(value))
        if self.backbone is not None and not self.pretrained:
            _check.choice("backbone", self.backbone, (*BACKBONES, f"{PRETRAINED}NAME"))
        _check.choice("protocol", self.protocol, (AUTO, *PROTOCOLS))
        if self.batch_size is None and self.protocol != AUTO:
            object.__setattr__(self, "batch_size", PROTOCOLS[self.protocol].batch_size)
        _check.choice("method", self.method, METHODS)
        _check.choice("split", self.split, RULES)
        for argument in ("test_fraction", "validation_fraction"):
            value = getattr(self, argument)
            if value is not None:
                _check.number(argument, value, low=0.0, high=1.0, open_high=True)
            if value is not None and self.split == "half":
                _check.fail(argument, "be None where the split is half", value, "leave it out")
        _check.integer("seed", self.seed, low=0)
        _check.integer("validation_per_class", self.validation_per_class, low=0)
        _check.number("dropout", self.dropout, low=0.0, high=1.0, open_high=True)
        _check.number("mixup", self.mixup, low=0.0)
        if 0.0 < self.mixup < LEAST_MIXUP:
            must = f"be 0, or at least {LEAST_MIXUP}"
            _check.fail("mixup", must, self.mixup, "leave it out, or mix more")
        _check.boolean("decay_gates", self.decay_gates)
        if self.augment is not None:
            _check.boolean("augment", self.augment)
        if self.size is not None and self.encoder is not None:
            _check.fail(
                "size", "be None with an encoder", self.size, "remove one of the two settings"
            )
        for argument in (
            "epochs",
            "batch_size",
            "train_per_class",
            "num_classes",
            "size",
            "patience",
        ):
            if getattr(self, argument) is not None:
                _check.integer(argument, getattr(self, argument), low=1)
        self._check_steps()

    def _check_steps(self) -> None:
        """What says how large a step is fits together."""
        for argument in ("lr", "backbone_lr", "clip"):
            if getattr(self, argument) is not None:
                _check.number(argument, getattr(self, argument), low=0.0, open_low=True)
        if self.weight_decay is not None:
            _check.number("weight_decay", self.weight_decay, low=0.0)
        if self.schedule is not None:
            _check.choice("schedule", self.schedule, SCHEDULES)
        if self.warmup is not None:
            _check.number("warmup", self.warmup, low=0.0, high=1.0, open_high=True)
            of_protocol = "one_cycle" if self.protocol == AUTO else self.resolved.schedule
            if (self.schedule or of_protocol) == "thirds":
                remedy = "choose another schedule, cosine say"
                _check.fail("warmup", "be None for the schedule thirds", self.warmup, remedy)
        _check.boolean("refit", self.refit)
        _check.boolean("calibrate", self.calibrate)

    @property
    def pretrained(self) -> str | None:
        """The folder or the name of the pretrained network, if it has one."""
        name = self.backbone or ""
        return name.removeprefix(PRETRAINED) if name.startswith(PRETRAINED) else None

    @property
    def is_frozen(self) -> bool:
        """Whether it has a pretrained network that is not trained."""
        return self.pretrained is not None and self.tune in (None, "none")

    @property
    def is_tuned(self) -> bool:
        """Whether it has a pretrained network that is trained further."""
        return self.pretrained is not None and not self.is_frozen

    @property
    def resolved(self) -> Protocol:
        """The protocol, with what the run says otherwise.

        Raises:
            ValueError: If the protocol is "auto", which the data settle.
        """
        if self.protocol == AUTO:
            remedy = "call dropmax.training.defaults.settled first"
            _check.fail("protocol", "be settled by the data", self.protocol, remedy)
        protocol = PROTOCOLS[self.protocol]
        given = {name: getattr(self, name, None) for name in Protocol._fields}
        return protocol._replace(**{k: value for k, value in given.items() if value is not None})

    def validation_fraction_of(self, data: DataSet) -> float:
        """Which fraction of the training rows of each class validates."""
        if self.validation_fraction is not None:
            return self.validation_fraction
        ruled = self.split == "half" or self.validation_per_class or len(data.validation)
        return 0.0 if ruled else VALIDATION_FRACTION

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON takes them; the later ones only where they are not the default.

        Runs and lines that were written before there was a choice are of the same settings so.
        """
        defaults = {field.name: field.default for field in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in LATER or value != defaults[name]
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "RunConfig":
        """The settings that `to_dict` gave, under the names of today.

        Those without a split are of a run that was written when there was one rule, half; and those
        without calibrate of one that fitted no temperature.

        Raises:
            ValueError: If a setting is unknown or does not fit.
        """
        known = [field.name for field in fields(cls)]
        named = {
            "split": "half",
            "calibrate": False,
            **{RENAMED.get(name, name): value for name, value in settings.items()},
        }
        for name in named:
            _check.choice("a setting", name, known)
        if named.get("protocol") == "official":
            named["protocol"] = "paper"
        lists = {name: tuple(value) for name, value in named.items() if isinstance(value, list)}
        return cls(**{**named, **lists})


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's shuffle and noise; epoch -1 is the initial weights."""
    return seed * 1_000_000 + epoch + 1
