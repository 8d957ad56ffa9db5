"""How `DropMaxClassifier` trains: all epochs, or as many as there is something to gain."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import (
    check_consistent_length,
    check_random_state,
    column_or_1d,
    compute_sample_weight,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data
from torch import Tensor, nn

from dropmax import _check
from dropmax._progress import progress_bar
from dropmax.integrations.sklearn.network import make_optimizer, one_cycle, steps_of, train_epoch
from dropmax.integrations.sklearn.rows import Rows, is_mixed

SHOWN = 20
"""How many classes an error names."""
LARGEST_BATCH = 200
"""What batch_size="auto" does not exceed."""


PLENTY = 10
"""Rows of a class, of which fewer are scarce."""
NO_SCARCITY = 0.0
WIDTHS, ALPHAS, EPOCHS = (100, 512), (0.1, 1.0), (50, 200)
"""The least and the most that "auto" gives."""
PATIENCE = 10
"""What n_iter_no_change is with early stopping if it is None."""


class Fitting(NamedTuple):
    """What decides a fit, by the names of `DropMaxClassifier`."""

    alpha: float
    batch_size: int
    learning_rate_init: float
    max_iter: int
    n_iter_no_change: int
    tol: float
    verbose: bool

    @classmethod
    def of(cls, classifier: Any, count: int, scarcity: float) -> "Fitting":
        """The parameters of a classifier for so many rows, by how scarce they are."""
        batch_size = LARGEST_BATCH if classifier.batch_size == "auto" else classifier.batch_size
        epochs, alpha = classifier.max_iter, classifier.alpha
        epochs = round(max(EPOCHS[0], scarcity * EPOCHS[1])) if epochs == "auto" else int(epochs)
        patience = classifier.n_iter_no_change
        if patience is None:
            patience = PATIENCE if classifier.early_stopping else epochs
        return cls(
            alpha=max(ALPHAS[0], scarcity**2 * ALPHAS[1]) if alpha == "auto" else float(alpha),
            batch_size=min(int(batch_size), count),
            learning_rate_init=float(classifier.learning_rate_init),
            max_iter=epochs,
            n_iter_no_change=int(patience),
            tol=float(classifier.tol),
            verbose=bool(classifier.verbose),
        )


def scarcity_of(per_class: float) -> float:
    """How scarce the rows are, from 0 to 1, where a class has so many on average."""
    return min(1.0, math.sqrt(PLENTY / per_class))


def widths_of(classifier: Any, scarcity: float) -> tuple[int, ...]:
    """The widths of the dense layers of a classifier."""
    if isinstance(classifier.hidden_layer_sizes, str):
        return (round(max(WIDTHS[0], scarcity * WIDTHS[1])),)
    return tuple(int(width) for width in classifier.hidden_layer_sizes)


def shape_of(classifier: Any) -> str | tuple[int, ...]:
    """What the parameters say of the dense layers."""
    widths = classifier.hidden_layer_sizes
    return widths if isinstance(widths, str) else tuple(map(int, widths))


def rows_and_labels(classifier: Any, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
    """Rows and labels of classes, as scikit-learn checks them.

    Rows are float64, dense or sparse; those that a record will read stay as they are.
    """
    if is_mixed(X) if reset else classifier.record_ is not None:
        validate_data(classifier, X, skip_check_array=True, reset=reset)
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
    else:
        X, y = validate_data(classifier, X, y, accept_sparse="csr", dtype=np.float64, reset=reset)
    check_classification_targets(y)
    return X, y


def seeds_of(random_state: Any) -> list[int]:
    """Of the initial weights, of order and noise, and of what is held out."""
    random = check_random_state(random_state)
    return [int(random.randint(np.iinfo(np.int32).max)) for _ in range(3)]


def fit_epochs(
    network: nn.Sequential,
    rows: Rows,
    target: Tensor,
    weight: Tensor,
    fitting: Fitting,
    *,
    generator: torch.Generator,
    accuracy: Callable[[], float] | None,
) -> tuple[list[float], list[float]]:
    """Train a network in place.

    Args:
        network: Dense layers and a head.
        rows: Scaled rows.
        target: Class indices of the rows.
        weight: Their weights, of mean 1.
        fitting: The parameters.
        generator: The source of order and noise.
        accuracy: Of the network on rows held out; with it, the best weights are kept.

    Returns:
        The mean objective of each epoch in nats, and that accuracy where there is one.
    """
    optimizer = make_optimizer(network, fitting.learning_rate_init, fitting.alpha)
    steps = fitting.max_iter * steps_of(len(rows), fitting.batch_size)
    schedule = one_cycle(optimizer, fitting.learning_rate_init, steps)
    losses: list[float] = []
    scores: list[float] = []
    best, kept, since = math.inf, None, 0
    with progress_bar(fitting.max_iter, "epochs", shown=fitting.verbose) as advance:
        while len(losses) < fitting.max_iter and since < fitting.n_iter_no_change:
            loss, nll = train_epoch(
                network,
                optimizer,
                rows,
                target,
                weight,
                batch_size=fitting.batch_size,
                generator=generator,
                schedule=schedule,
            )
            check_loss(loss)
            losses.append(loss)
            advance(1.0, f"nll {nll:.3f} nats")
            value = loss
            if accuracy is not None:
                scores.append(accuracy())
                value = -scores[-1]
            since = 0 if value < best - fitting.tol else since + 1
            if value < best:
                best = value
                kept = _copied(network) if accuracy is not None else None
    if kept is not None:
        network.load_state_dict(kept)
    return losses, scores


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """The parameters of `DropMaxClassifier` fit; the head's are checked where it is made."""
    widths = parameters["hidden_layer_sizes"]
    if not isinstance(widths, Sequence) or (isinstance(widths, str) and widths != "auto"):
        must = "be 'auto', or a sequence of widths"
        _check.fail("hidden_layer_sizes", must, widths, "pass (100,)", of=Sequence)
    for width in () if isinstance(widths, str) else widths:
        _check.integer("hidden_layer_sizes", width, low=1)
    for name in ("alpha", "batch_size", "max_iter"):
        if isinstance(parameters[name], str) and parameters[name] != "auto":
            must = "be 'auto', or a number"
            _check.fail(name, must, parameters[name], "choose one of them", of=int)
    if parameters["batch_size"] != "auto":
        _check.integer("batch_size", parameters["batch_size"], low=1)
    if parameters["max_iter"] != "auto":
        _check.integer("max_iter", parameters["max_iter"], low=1)
    if parameters["n_iter_no_change"] is not None:
        _check.integer("n_iter_no_change", parameters["n_iter_no_change"], low=1)
    alpha, step = parameters["alpha"], parameters["learning_rate_init"]
    if alpha != "auto":
        _check.number("alpha", alpha, low=0.0)
    _check.number("tol", parameters["tol"], low=0.0)
    _check.number("learning_rate_init", step, low=0.0, open_low=True)
    if (ALPHAS[1] if alpha == "auto" else alpha) * step >= 1.0:
        must = "be below 1 / learning_rate_init, or the weights grow"
        _check.fail("alpha", must, alpha, "lower it")
    share = parameters["validation_fraction"]
    inside = {"open_low": True, "open_high": True}
    _check.number("validation_fraction", share, low=0.0, high=1.0, **inside)


def weights_of(table: Any, y: Any, sample_weight: Any, class_weight: Any, classes: Any) -> Any:
    """The weights of rows, those of their classes in them; a class that is not named has 1."""
    weight = _check_sample_weight(sample_weight, table, dtype=np.float64, ensure_non_negative=True)
    if isinstance(class_weight, Mapping):
        known = classes.tolist()
        for label in class_weight:
            if label not in known:
                got = _check.Verbatim(repr(label))
                shown = ", ".join(map(repr, known[:SHOWN])) + ", ..." * (len(known) > SHOWN)
                must = f"name classes, which are {shown}"
                _check.fail("class_weight", must, got, "name them as y does")
            _check.number("class_weight", class_weight[label], low=0.0)
        weight = weight * np.array([class_weight.get(label, 1.0) for label in y], dtype=float)
    elif class_weight is not None:
        if class_weight != "balanced":
            must = "be 'balanced', weights by class, or None"
            _check.fail("class_weight", must, class_weight, "pass a dict", of=str)
        weight = weight * compute_sample_weight(class_weight, y)
    if not weight.any():
        must = "leave a row some weight"
        got = _check.Verbatim("zeros alone")
        _check.fail("sample_weight and class_weight", must, got, "weigh some rows")
    return weight


def check_built(classifier: Any) -> None:
    """The network of a classifier is that of its parameters."""
    head, widths = classifier.head, shape_of(classifier)
    if classifier._built != (head, widths):
        must = "stay as they were when the network was made"
        got = _check.Verbatim(f"{head!r} and {widths}")
        remedy = "call fit without warm_start"
        _check.fail("head and hidden_layer_sizes", must, got, remedy)


def indices_of(y: Any, classes: Any) -> Tensor:
    """Labels as indices of sorted classes."""
    found = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    unknown = y[classes[found] != y]
    if len(unknown):
        must = "hold the classes of the first call alone"
        _check.fail("y", must, _check.Verbatim(repr(unknown[0])), "name all classes")
    return torch.from_numpy(found)


def check_loss(loss: float) -> None:
    """The objective is still a number."""
    if not math.isfinite(loss):
        must = "let the objective stay finite"
        got = _check.Verbatim(f"{loss} nats")
        remedy = "lower it, or alpha, and look at the scale of X"
        _check.fail("learning_rate_init", must, got, remedy)


def normalized(weight: Any) -> Tensor:
    """Weights of mean 1."""
    return torch.from_numpy(weight / weight.mean())


def _copied(network: nn.Sequential) -> dict[str, Any]:
    return copy.deepcopy(network.state_dict())
