"""A pretrained network of Transformers as features: one row of each picture or text."""

import hashlib
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BitImageProcessorPil,
)
from transformers.utils import hub, logging

from dropmax import _check
from dropmax._files import identity
from dropmax.errors import DropmaxError
from dropmax.integrations.transformers.configuration import DropMaxConfig

PICTURES, TEXTS = "pictures", "texts"
READING = (
    *(OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError),
    SafetensorError,
)
"""What Transformers raises where a folder is none of its own, or damaged."""
POOLINGS = ("mean", "cls", "max")
"""Of texts, as Sentence Transformers calls them, too."""
POOLING, LENGTH = "1_Pooling/config.json", "sentence_bert_config.json"
"""Where a folder of Sentence Transformers states them."""
LONGEST = 512
"""Tokens of a text, at most."""
TOGETHER = 8
"""Texts of about a length that a CPU takes at once: fewer cost more calls, more cost padding."""
BICUBIC = 3
"""How pictures are resized, by the number that Pillow gives it."""
SIZE = 224
"""Pixels of a side, where a processor does not say."""


class Pretrained(NamedTuple):
    """What is known of a pretrained network before its weights are read.

    Attributes:
        kind: "pictures" or "texts".
        pooling: How a row comes of what it returns: "cls", the class token; "mean" or "max" over
            the tokens; or "pooled", what it pools itself.
        size: Pixels of a side, of pictures; None for texts.
        mean: Of each channel, of pixels from 0 to 1.
        deviation: Of each channel, by which pixels less the mean are divided.
        length: Tokens of a text, at most; None for pictures.
    """

    kind: str
    pooling: str
    size: int | None = None
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    length: int | None = None


class Features(nn.Module):
    """Pixels `[N, C, H, W]`, or token ids `[N, L]` of which -1 are none, to features `[N, D]`.

    Args:
        model: As `AutoModel` makes it.
        known: What is known of it.
    """

    def __init__(self, model: Any, known: Pretrained) -> None:
        super().__init__()
        self.model = model
        self.pooling = known.pooling
        if known.size is None:
            self.out_features: int = model.config.hidden_size
        else:
            with torch.no_grad():
                blank = torch.zeros(1, 3, known.size, known.size)
                self.out_features = self.eval()(blank).shape[1]
        self.train()

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.is_floating_point():
            return self.of_pixels(inputs)
        if inputs.device.type == "cpu" and not torch.compiler.is_exporting() and len(inputs):
            return self._by_length(inputs)
        return self._of_rows(inputs)

    def _by_length(self, inputs: Tensor) -> Tensor:
        """The features of texts, of which those of about a length are in the network at once."""
        lengths = (inputs >= 0).sum(1)
        order = lengths.argsort(stable=True)
        longest = lengths.clamp_min(1)
        parts = [inputs[rows, : int(longest[rows[-1]])] for rows in order.split(TOGETHER)]
        return torch.cat([self._of_rows(part) for part in parts])[order.argsort()]

    def _of_rows(self, inputs: Tensor) -> Tensor:
        mask = inputs >= 0
        return self.of_tokens(inputs.long().where(mask, self.model.config.pad_token_id or 0), mask)

    def of_pixels(self, pixel_values: Tensor) -> Tensor:
        """The features of pixels, shifted and scaled."""
        return self._pooled(self.model(pixel_values=pixel_values), None)

    def of_tokens(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """The features of token ids, of which only those in the mask count."""
        output = self.model(input_ids=input_ids, attention_mask=mask.long())
        return self._pooled(output, mask.bool())

    def _pooled(self, output: Any, mask: Tensor | None) -> Tensor:
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if self.pooling == "pooled" and pooled is not None:
            return pooled.flatten(1)
        hidden: Tensor = output.last_hidden_state
        if hidden.ndim == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        if self.pooling == "cls":
            return hidden[:, 0]
        if mask is None:
            mask = hidden.new_ones(hidden.shape[:2], dtype=torch.bool)
        if self.pooling == "max":
            return hidden.masked_fill(~mask[..., None], -torch.inf).amax(1)
        weight = mask[..., None].to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)


class Standardize(nn.Module):
    """Features shifted and scaled a column, as they were fitted."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def fit(self, rows: Tensor) -> None:
        """Take the mean and deviation of the columns; a constant one is shifted only."""
        varies = rows.amax(0) > rows.amin(0)
        deviation = rows.double().std(0).where(varies, 1.0)
        self.mean.copy_(rows.double().mean(0))
        self.deviation.copy_(deviation)

    def forward(self, rows: Tensor) -> Tensor:
        return (rows - self.mean) / self.deviation


HIDDEN = 512
"""The width of that layer, as that of the small network `hidden`."""


def hidden_layer(width: int) -> nn.Sequential:
    """What stands on features of a network that is not trained."""
    return nn.Sequential(Standardize(width), nn.Linear(width, HIDDEN), nn.ReLU())


def known_of(name: str) -> Pretrained:
    """What a folder, or a model of the hub, says of itself.

    Raises:
        ValueError: If there is none, or it lacks a tokenizer or an image processor.
    """
    config = _read(AutoConfig, name)
    if isinstance(config, DropMaxConfig) and config.features:
        stated = config.features.items()
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stated}
        return Pretrained(**known)
    model: Any = AutoModel._model_mapping.get(type(config), None)
    takes = getattr(model, "main_input_name", None)
    if takes not in ("pixel_values", "input_ids") or config.is_encoder_decoder or _sees(config):
        got = _check.Verbatim(f"{name!r}, which is a {config.model_type}")
        must = "name a network of Transformers for pictures or for texts alone"
        _check.fail("backbone", must, got, "choose another")
    try:
        return _of_texts(name, config) if takes == "input_ids" else _of_pictures(name, config)
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DropmaxError):
            raise
        got = _check.Verbatim(f"{name!r} ({type(error).__name__}: {error})")
        _check.fail("backbone", "be described as Transformers does", got, "choose another")


def _sees(config: Any) -> bool:
    """Whether a network takes pictures and texts."""
    return hasattr(config, "vision_config") and hasattr(config, "text_config")


def _of_texts(name: str, config: Any) -> Pretrained:
    stated = _stated(name, LENGTH).get("max_seq_length")
    pad = config.pad_token_id  # RoBERTa and its kin count positions from the one after it
    positions = getattr(config, "max_position_embeddings", None) or 0
    positions -= pad + 1 if pad in (1, 2) else 0
    lengths = (tokenizer_of(name).model_max_length, stated, positions, LONGEST)
    length = int(min(one for one in lengths if one and one > 0))
    return Pretrained(TEXTS, _pooling_of_texts(name), length=length)


def _of_pictures(name: str, config: Any) -> Pretrained:
    """As the image processor says; pixels are those from 0 to 1."""
    processor = _read(AutoImageProcessor, name)
    mean, deviation = [0.0] * 3, [1.0] * 3
    if getattr(processor, "do_normalize", True):
        mean, deviation = list(processor.image_mean), list(processor.image_std)
    unit = 255.0 * (processor.rescale_factor if getattr(processor, "do_rescale", True) else 1.0)
    mean, deviation = [one / unit for one in mean], [one / unit for one in deviation]
    pooling = "cls" if _has_class_token(config) else "pooled"
    return Pretrained(PICTURES, pooling, _size(name, processor), tuple(mean), tuple(deviation))


def tokenizer_of(name: str) -> Any:
    """The tokenizer of a folder or of a model of the hub.

    Raises:
        ValueError: If there is none.
    """
    tokenizer = _read(AutoTokenizer, name)
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # what it makes of no file
        got = _check.Verbatim(f"{name!r}, which has none")
        must = "hold a tokenizer"
        _check.fail("backbone", must, got, "save one with its save_pretrained beside the network")
    return tokenizer


def identity_of(name: str) -> str:
    """A hash of the files of a folder, or of a name on the hub and its commit there."""
    if Path(name).expanduser().is_dir():
        return identity(name)
    commit = _read(AutoConfig, name)._commit_hash
    return hashlib.sha256(f"{name}@{commit}".encode()).hexdigest()


def tokens(texts: Sequence[str], *, name: str, length: int) -> Tensor:
    """Token ids of texts, int32 `[N, length]`, -1 after the end of each."""
    options = {"truncation": True, "max_length": length}
    found = tokenizer_of(name)(list(texts), **options)["input_ids"]
    ids = torch.full((len(found), length), -1, dtype=torch.int32)
    for row, one in zip(ids, found, strict=True):
        row[: len(one)] = torch.tensor(one, dtype=torch.int32)
    return ids


def pretrained_features(name: str, known: Pretrained) -> Features:
    """A network with the weights of a folder, or of a model of the hub.

    Raises:
        ValueError: If weights are missing or cannot be read.
    """
    config = _read(AutoConfig, name)
    if isinstance(config, DropMaxConfig):
        from dropmax.integrations.transformers.model import DropMaxForClassification

        return _tried(_read(DropMaxForClassification, name).host.features.model, name, known)
    options = {**_without_pooler(config, known), "use_safetensors": True}
    model, report = _read(AutoModel, name, output_loading_info=True, **options)
    if missing := sorted(report["missing_keys"]):
        got = _check.Verbatim(f"{len(missing)} missing, such as {missing[0]}")
        _check.fail("backbone", "have all of its weights", got, "choose another network")
    return _tried(model, name, known)


@torch.no_grad()
def _tried(model: Any, name: str, known: Pretrained) -> Features:
    """The features of a network, which it gives, and of the same input the same ones."""
    if known.size is None:
        inputs = torch.zeros(1, known.length or 1, dtype=torch.int32)
    else:
        inputs = torch.linspace(-1.0, 1.0, 3 * known.size**2).view(1, 3, known.size, known.size)
    try:
        found = Features(model, known).eval()
        same = torch.equal(found(inputs), found(inputs))
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        _without_features(name, known, f"{type(error).__name__}: {reason}")
    if not same:
        _without_features(name, known, "others each time")
    return found.train()


def _without_features(name: str, known: Pretrained, reason: str) -> NoReturn:
    own = known_of(name).size
    if known.size != own:
        got = _check.Verbatim(f"{known.size} ({reason})")
        must = "be one that the pretrained network takes"
        _check.fail("size", must, got, f"leave it out for {own}")
    must = "give the features of a picture or a text"
    _check.fail("backbone", must, _check.Verbatim(f"{name!r} ({reason})"), "choose another network")


def empty_features(name: str, known: Pretrained) -> Features:
    """A network that is described in a folder, without its weights."""
    config = _read(AutoConfig, name)
    config = config.host if isinstance(config, DropMaxConfig) else config
    return made_features(config, known)


def made_features(config: Any, known: Pretrained) -> Features:
    """A network of a configuration, without weights."""
    return Features(AutoModel.from_config(config, **_without_pooler(config, known)), known)


def save_reader(name: str, known: Pretrained, folder: Path) -> None:
    """Write the tokenizer of a network into a folder, or an image processor that does what
    `dropmax.data` does with pictures.
    """
    if known.size is None:
        reader = tokenizer_of(name)
        reader.model_max_length = known.length
    else:
        side = {"height": known.size, "width": known.size}
        reader = BitImageProcessorPil(
            size={"shortest_edge": known.size},
            crop_size=side,
            resample=BICUBIC,
            image_mean=list(known.mean),
            image_std=list(known.deviation),
            do_convert_rgb=True,
        )
    with _without_reports():
        reader.save_pretrained(folder)


def _read(reader: Any, name: str, **options: Any) -> Any:
    """What a reader of Transformers makes of a folder or a name, without code of strangers."""
    place = Path(name).expanduser()
    source = {"pretrained_model_name_or_path": str(place) if place.is_dir() else name}
    if reader in (AutoConfig, AutoTokenizer, AutoImageProcessor):
        options["trust_remote_code"] = False
    try:
        with _without_reports():
            return reader.from_pretrained(**source, local_files_only=place.is_dir(), **options)
    except READING as error:
        if not place.exists() and (place.parent.is_dir() or name.count("/") > 1):
            must = "be a folder of Transformers, or a model of the hub"
            _check.fail("backbone", must, f"{name}, which is not there", "check the path")
        reason = " ".join(str(error).split())[:200]
        got = _check.Verbatim(f"{name!r} ({type(error).__name__}: {reason})")
        needs = {AutoTokenizer: "hold a tokenizer", AutoImageProcessor: "hold an image processor"}
        must = needs.get(reader, "be a folder or a model of the hub that Transformers reads")
        _check.fail("backbone", must, got, "check the path, the name and the network")


@contextmanager
def _without_reports() -> Iterator[None]:
    """Transformers tells at length which weights of a checkpoint it did not need."""
    level, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bar:
            logging.enable_progress_bar()


def _without_pooler(config: Any, known: Pretrained) -> dict[str, Any]:
    """The option by which a model has no pooler that it does not need."""
    model: Any = AutoModel._model_mapping[type(config)]
    takes = "add_pooling_layer" in inspect.signature(model).parameters
    return {"add_pooling_layer": False} if takes and known.pooling != "pooled" else {}


def _has_class_token(config: Any) -> bool:
    with torch.device("meta"), _without_reports():
        model = AutoModel.from_config(config)
    return any(name.endswith("cls_token") for name, _ in model.named_parameters())


def _pooling_of_texts(name: str) -> str:
    """The pooling that a folder of Sentence Transformers states, else the mean."""
    stated = _stated(name, POOLING)
    modes = [key for key, value in stated.items() if value is True and "pooling_mode_" in key]
    chosen = [re.sub(r"pooling_mode_|_tokens?$", "", mode) for mode in modes]
    if named := stated.get("pooling_mode"):  # how its later releases state it
        chosen = list(named) if isinstance(named, list | tuple) else [str(named)]
    if len(chosen) > 1 or not set(chosen) <= set(POOLINGS):
        got = _check.Verbatim(", ".join(chosen))
        must = "state one pooling: the mean, the maximum or the class token"
        _check.fail("backbone", must, got, "choose another network")
    return chosen[0] if chosen else POOLINGS[0]


def _stated(name: str, file: str) -> Mapping[str, Any]:
    """What a JSON file beside a model holds; nothing if there is none."""
    place = Path(name).expanduser()
    quietly = {
        f"_raise_exceptions_for_{what}": False
        for what in ("gated_repo", "missing_entries", "connection_errors")
    }
    found = place / file if place.is_dir() else hub.cached_file(name, file, **quietly)
    if found is None or not Path(found).is_file():
        return {}
    try:
        stated = json.loads(Path(found).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        got = _check.Verbatim(f"{file} of {name!r} ({type(error).__name__}: {error})")
        _check.fail("backbone", "be readable", got, "restore it")
    return stated if isinstance(stated, dict) else {}


def _size(name: str, processor: Any) -> int:
    """Pixels of a side of what a processor gives."""
    crops = getattr(processor, "do_center_crop", False)
    stated: Any = (crops and getattr(processor, "crop_size", None)) or processor.size or {}
    found = {
        side: stated[side] for side in ("height", "width", "shortest_edge") if stated.get(side)
    }
    if len(set(found.values())) > 1:
        got = _check.Verbatim(f"{name!r}, of {found}")
        _check.fail("backbone", "take square pictures", got, "choose another network")
    return int(next(iter(found.values()), SIZE))
