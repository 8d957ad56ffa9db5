"""A fitted `DropMaxClassifier` as one safetensors file, with JSON in its header."""

import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from sklearn.preprocessing import StandardScaler
from torch import nn

from dropmax import _check
from dropmax._files import write_whole
from dropmax.data.record import Record
from dropmax.errors import DropmaxFileNotFoundError
from dropmax.integrations.sklearn.network import make_network

FORMAT = "dropmax-classifier-1"
HEADER = "dropmax"
SCALING = ("mean_", "var_", "scale_", "n_samples_seen_")
"""What a `StandardScaler` learns."""


def save(classifier: Any, path: Path) -> None:
    """Write a fitted classifier, whole or not at all."""
    if not path.parent.is_dir():
        got = _check.Verbatim(str(path))
        error = DropmaxFileNotFoundError
        _check.fail("path", "be in a folder", got, "make the folder", error=error)
    state = classifier.network_.state_dict()
    tensors = {f"network.{name}": tensor.contiguous() for name, tensor in state.items()}
    for name in SCALING:
        value = getattr(classifier.scaler_, name)
        if value is not None:
            tensors[f"scaler.{name}"] = torch.from_numpy(np.array(value, dtype=np.float64))
    described = {
        "format": FORMAT,
        "parameters": _parameters(classifier),
        "widths": [one.out_features for one in classifier.network_ if type(one) is nn.Linear],
        "classes": classifier.classes_.tolist(),
        "class_dtype": classifier.classes_.dtype.str,
        "n_features": classifier.n_features_in_,
        "feature_names": list(getattr(classifier, "feature_names_in_", ())),
        "record": None if classifier.record_ is None else classifier.record_.to_dict(),
        "centered": classifier.scaler_.with_mean,
        "loss_curve": classifier.loss_curve_,
    }
    metadata = {HEADER: json.dumps(described)}
    write_whole(path, safetensors.torch.save(tensors, metadata))


def load(cls: Any, path: Path) -> Any:
    """Read what `save` wrote."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if described["format"] != FORMAT:
            raise KeyError(described["format"])
        return _restored(cls, described, tensors)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        _broken(path, error)


def _restored(cls: Any, described: dict[str, Any], tensors: dict[str, Any]) -> Any:
    parameters = described["parameters"]
    weights = parameters["class_weight"]
    if isinstance(weights, list):
        parameters["class_weight"] = {label: weight for label, weight in weights}  # noqa: C416
    if isinstance(parameters["hidden_layer_sizes"], list):
        parameters["hidden_layer_sizes"] = tuple(parameters["hidden_layer_sizes"])
    classifier = cls(**parameters)
    classifier.classes_ = np.array(described["classes"], dtype=np.dtype(described["class_dtype"]))
    classifier.n_features_in_ = described["n_features"]
    if described["feature_names"]:
        classifier.feature_names_in_ = np.array(described["feature_names"], dtype=object)
    classifier.loss_curve_ = described["loss_curve"]
    classifier.n_iter_ = len(classifier.loss_curve_)
    record = described.get("record")
    classifier.record_ = None if record is None else Record.from_dict(record)
    width = classifier.n_features_in_ if record is None else classifier.record_.width
    scaler = StandardScaler(with_mean=described["centered"])
    for name in SCALING:
        value = tensors.get(f"scaler.{name}")
        setattr(scaler, name, None if value is None else value.numpy()[()])
    scaler.n_features_in_ = width
    classifier.scaler_ = scaler
    classifier.network_ = make_network(
        width,
        described.get("widths", classifier.hidden_layer_sizes),
        classifier.head,
        len(classifier.classes_),
        seed=0,
    )
    state = {
        name.removeprefix("network."): tensor
        for name, tensor in tensors.items()
        if name.startswith("network.")
    }
    classifier.network_.load_state_dict(state)
    classifier._built = classifier.head, classifier.hidden_layer_sizes
    return classifier


def _parameters(classifier: Any) -> dict[str, Any]:
    """The parameters as JSON has them; a random state that is no seed is left out."""
    parameters = classifier.get_params(deep=False)
    parameters["head"], widths = classifier._built
    parameters["hidden_layer_sizes"] = widths
    if not isinstance(parameters["random_state"], int | np.integer):
        parameters["random_state"] = None
    if isinstance(parameters["class_weight"], dict):
        parameters["class_weight"] = list(parameters["class_weight"].items())
    return {name: _plain(value) for name, value in parameters.items()}


def _plain(value: Any) -> Any:
    """A number of numpy as one of Python."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def _broken(path: Path, error: Exception) -> NoReturn:
    got = _check.Verbatim(f"{path} ({' '.join(str(error).split())[:200]})")
    must = "be a file that save wrote"
    _check.fail("path", must, got, "check the path, or save again", error=_check.kind_of(error))
