"""The classifier of a run: pixels, backbone and head in one nn.Sequential."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dropmax import _check
from dropmax.calibration import TemperatureScaling
from dropmax.data import LabeledData
from dropmax.data.pictures import Inputs
from dropmax.heads import Scores, make_head
from dropmax.training.config import RunConfig, epoch_seed
from dropmax.training.networks import make_backbone, out_features
from dropmax.training.pixels import Pixels
from dropmax.training.pretrained import make_pretrained
from dropmax.wrap import find_head
from dropmax.wrap.predictor import scores_of

BALANCED = "balanced"
"""The class weights by which all classes count the same."""
BATCH = 100
"""Instances that are predicted in one batch."""


def make_classifier(
    config: RunConfig, shape: tuple[int, ...], num_classes: int, *, weights: bool = True
) -> nn.Sequential:
    """The untrained classifier of a run: one seed gives every head the same initial backbone.

    A pretrained network has its weights, unless they are read later.

    Raises:
        ValueError: If the head or the backbone is not known, or does not fit.
    """
    if config.pretrained is not None:
        return make_pretrained(config, num_classes, weights=weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(epoch_seed(config.seed, -1))
        backbone = make_backbone(config.backbone, shape)
        head = make_head(config.head, out_features(backbone), num_classes)
    if config.dropout:
        backbone.append(nn.Dropout(config.dropout))
    for layer in backbone.modules():  # images with their channels last are faster on CPUs
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return nn.Sequential(OrderedDict(pixels=Pixels(shape), backbone=backbone, head=head))


def standardizes(config: RunConfig, train: LabeledData) -> bool:
    """Whether a run standardizes as its protocol says; the record of a table has done so before."""
    of_table = train.inputs.ndim == 2 and config.encoder is None
    return config.resolved.standardize and not of_table and config.pretrained is None


def fit_pixels(classifier: nn.Sequential, config: RunConfig, train: LabeledData) -> None:
    """Standardize the classifier's input by the training images, where the run does."""
    if standardizes(config, train):
        pixels = classifier.get_submodule("pixels")
        assert isinstance(pixels, Pixels)
        pixels.fit(train.inputs)


def class_weights(
    config: RunConfig, class_names: Sequence[str], target: Tensor
) -> Float[Tensor, " K"] | None:
    """The weights of the classes in training, or None.

    Balanced weights are N / (K N_k), where N_k of the N training rows are of class k.

    Raises:
        ValueError: If a weight is no number of at least 0, or of no class.
    """
    if not config.class_weight:
        return None
    counts = target.bincount(minlength=len(class_names))
    if config.class_weight == (BALANCED,):
        return len(target) / (len(class_names) * counts.float())
    weight = torch.ones(len(class_names))
    named = [given.rpartition("=")[0].strip() or given for given in config.class_weight]
    if BALANCED in config.class_weight or len(set(named)) < len(named):
        got = _check.Verbatim(", ".join(config.class_weight))
        must = f"be {BALANCED} alone, or name each class once"
        _check.fail("class_weight", must, got, "leave some out")
    for given in config.class_weight:
        name, _, number = (part.strip() for part in given.rpartition("="))
        _check.choice("class_weight", name or given, [*class_names, BALANCED])
        try:
            weight[class_names.index(name)] = float(number)
        except ValueError:
            _check.fail("class_weight", "be NAME=WEIGHT", given, "give a number")
    if not weight.isfinite().all() or weight.min() < 0.0 or not weight[target].any():
        got = _check.Verbatim(", ".join(config.class_weight))
        _check.fail("class_weight", "be finite and at least 0, one above 0", got, "change them")
    return weight


class Prediction(NamedTuple):
    """Scores, but for the correction, and log-probabilities of images, on the CPU.

    Log-probabilities are those of the run's temperature, if it has one.
    """

    scores: Scores
    log_probs: Tensor


def retain_probs_of(predictions: Sequence[Prediction]) -> Tensor | None:
    """What the gate of a head says of the rows of all, one after the other; None without one."""
    gates = [one.scores.retain_logits for one in predictions]
    found = [gate.float().sigmoid() for gate in gates if gate is not None]
    return torch.cat(found) if found else None


def method_of(classifier: nn.Module, config: RunConfig) -> str:
    """What a run's metrics are of: as it says, the plug-in where the head has no masks."""
    able = config.method in find_head(classifier).predictive_methods
    return config.method if able else "plugin"


def predict(
    classifier: nn.Module,
    images: Inputs,
    batch_size: int = BATCH,
    *,
    method: str = "plugin",
    scaling: TemperatureScaling | None = None,
) -> Prediction:
    """What a trained classifier says of images.

    Raises:
        ValueError: If the head does not predict by that method.
    """
    head = find_head(classifier)
    without_samples = [name for name in head.predictive_methods if name != "monte_carlo"]
    _check.choice("method", method, without_samples)
    scores = scores_of(classifier, images, batch_size, correction=False)
    with torch.no_grad():
        log_probs = head.log_probs(scores, method=method)
    return Prediction(scores, log_probs if scaling is None else scaling.log_probs(log_probs))


def mixed(
    inputs: Tensor, target: Tensor, num_classes: int, *, alpha: float
) -> tuple[Tensor, Tensor]:
    """Inputs each mixed with another one, and the probabilities of their classes `[N, K]`.

    The share is one for all, drawn from Beta(alpha, alpha), and so is the order of the others.

    Source:
        Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization".
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    others = torch.randperm(len(inputs), device=inputs.device)
    inputs = inputs if inputs.is_floating_point() else inputs.float()
    labels = F.one_hot(target, num_classes).to(inputs.dtype)
    return torch.lerp(inputs[others], inputs, share), torch.lerp(labels[others], labels, share)


def flipped_and_cropped(images: Tensor, padding: int = 4) -> Tensor:
    """Each image mirrored by chance, and shifted by up to `padding` pixels over a black border."""
    count, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    top = torch.randint(2 * padding + 1, (count, 1))
    left = torch.randint(2 * padding + 1, (count, 1))
    mirrored = torch.rand(count, 1) < 0.5
    rows = top + torch.arange(height)
    columns = torch.where(mirrored, torch.arange(width).flip(0), torch.arange(width)) + left
    index = torch.arange(count)[:, None, None, None]
    channel = torch.arange(images.shape[1])[None, :, None, None]
    return padded[index, channel, rows[:, None, :, None], columns[:, None, None, :]]
