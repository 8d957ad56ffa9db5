"""A pretrained network of Transformers as features: one row of each picture or text."""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.models.auto import image_processing_auto, tokenization_auto
from transformers.utils import hub, logging

from dropmax import _check
from dropmax.integrations.transformers.configuration import DropMaxConfig

PICTURES, TEXTS = "pictures", "texts"
STATED = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
"""Poolings as a folder of Sentence Transformers states them, and ours."""
POOLING, LENGTH = "1_Pooling/config.json", "sentence_bert_config.json"
"""Where a folder of Sentence Transformers states them."""
LONGEST = 512
"""Tokens of a text, at most."""
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
        deviation: Of each channel.
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
        mask = inputs >= 0
        if inputs.device.type == "cpu" and not torch.compiler.is_exporting():  # others would wait
            longest = int(mask.sum(1).max()) if len(mask) else 1
            inputs, mask = inputs[:, :longest], mask[:, :longest]
        return self.of_tokens(inputs.long().where(mask, self.model.config.pad_token_id or 0), mask)

    def of_pixels(self, pixel_values: Tensor) -> Tensor:
        """The features of pixels, shifted and scaled."""
        return self._pooled(self.model(pixel_values=pixel_values), None)

    def of_tokens(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """The features of token ids, of which only those in the mask count."""
        output = self.model(input_ids=input_ids, attention_mask=mask.long())
        return self._pooled(output, mask.bool())

    def _pooled(self, output: Any, mask: Tensor | None) -> Tensor:
        if self.pooling == "pooled":
            pooled: Tensor = output.pooler_output
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
        return Pretrained(**config.features)
    processors: Any = image_processing_auto
    of_pictures = config.model_type in processors.IMAGE_PROCESSOR_MAPPING_NAMES
    of_texts = config.model_type in tokenization_auto.TOKENIZER_MAPPING_NAMES
    if of_pictures == of_texts:
        got = _check.Verbatim(f"{name!r}, which is a {config.model_type}")
        must = "name a network of Transformers for pictures or for texts"
        _check.fail("backbone", must, got, "choose another")
    if of_texts:
        tokenizer = tokenizer_of(name)
        stated = _stated(name, LENGTH).get("max_seq_length")
        positions = getattr(config, "max_position_embeddings", None)
        lengths = (tokenizer.model_max_length, stated, positions, LONGEST)
        length = int(min(one for one in lengths if one))
        return Pretrained(TEXTS, _pooling_of_texts(name), length=length)
    processor = _read(AutoImageProcessor, name)
    mean, deviation = processor.image_mean or [0.0] * 3, processor.image_std or [1.0] * 3
    pooling = "cls" if _has_class_token(config) else "pooled"
    return Pretrained(PICTURES, pooling, _size(processor), tuple(mean), tuple(deviation))


def tokenizer_of(name: str) -> Any:
    """The tokenizer of a folder or of a model of the hub.

    Raises:
        ValueError: If there is none.
    """
    tokenizer = _read(AutoTokenizer, name)
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # what it makes of no file
        got = _check.Verbatim(f"{name!r}, without")
        must = "hold a tokenizer"
        _check.fail("backbone", must, got, "save one with its save_pretrained beside the network")
    return tokenizer


def tokens(texts: Sequence[str], *, name: str, length: int) -> Tensor:
    """Token ids of texts, int32 `[N, length]`, -1 after the end of each."""
    found = tokenizer_of(name)(list(texts), truncation=True, max_length=length)["input_ids"]
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

        found: Features = _read(DropMaxForClassification, name).host.features
        return found.train()
    options = {**_without_pooler(config, known), "use_safetensors": True}
    model, report = _read(AutoModel, name, output_loading_info=True, **options)
    if missing := sorted(report["missing_keys"]):
        got = _check.Verbatim(f"{len(missing)} missing, such as {missing[0]}")
        _check.fail("backbone", "have all of its weights", got, "choose another network")
    try:
        return Features(model, known)
    except (ValueError, RuntimeError) as error:
        got = _check.Verbatim(f"{known.size} ({' '.join(str(error).split())[:200]})")
        must = "be one that the pretrained network takes"
        _check.fail("size", must, got, f"leave it out for {known_of(name).size}")


def empty_features(name: str, known: Pretrained) -> Features:
    """A network that is described in a folder, without its weights."""
    config = _read(AutoConfig, name)
    config = config.host if isinstance(config, DropMaxConfig) else config
    return made_features(config, known)


def made_features(config: Any, known: Pretrained) -> Features:
    """A network of a configuration, without weights."""
    return Features(AutoModel.from_config(config, **_without_pooler(config, known)), known)


def save_reader(name: str, known: Pretrained, folder: Path) -> None:
    """Write the tokenizer or the image processor of a network into a folder."""
    reader: Any = AutoTokenizer if known.kind == TEXTS else AutoImageProcessor
    with _without_reports():
        _read(reader, name).save_pretrained(folder)


def _read(reader: Any, name: str, **options: Any) -> Any:
    """What a reader of Transformers makes of a folder or a name, without code of strangers."""
    place = Path(name).expanduser()
    source = {"pretrained_model_name_or_path": str(place) if place.is_dir() else name}
    if reader in (AutoConfig, AutoTokenizer, AutoImageProcessor):
        options["trust_remote_code"] = False
    try:
        with _without_reports():
            return reader.from_pretrained(**source, local_files_only=place.is_dir(), **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
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
    chosen = [key for key, value in stated.items() if value is True and "pooling_mode" in key]
    known = [STATED.get(key.removeprefix("pooling_mode_"), "") for key in chosen]
    if len(known) > 1 or not all(known):
        got = _check.Verbatim(", ".join(chosen))
        must = "state one pooling: the mean, the maximum or the class token"
        _check.fail("backbone", must, got, "choose another network")
    return known[0] if known else "mean"


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
    stated = json.loads(Path(found).read_text(encoding="utf-8"))
    return stated if isinstance(stated, dict) else {}


def _size(processor: Any) -> int:
    """Pixels of a side of what a processor gives."""
    crops = getattr(processor, "do_center_crop", False)
    sizes = [getattr(processor, "crop_size", None) if crops else None, processor.size]
    for size in sizes:
        for side in ("height", "shortest_edge"):
            found = size and (size.get(side) if hasattr(size, "get") else getattr(size, side, None))
            if found:
                return int(found)
    return SIZE
