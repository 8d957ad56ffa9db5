"""How `DropMaxClassifier` trains: all epochs, or as many as there is something to gain."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from dropmax import _check
from dropmax.estimator.bar import epoch_bar
from dropmax.estimator.network import Rows, make_optimizer, one_cycle, steps_of, train_epoch


class Fitting(NamedTuple):
    """What decides a fit, by the names of `DropMaxClassifier`."""

    alpha: float
    batch_size: int
    learning_rate_init: float
    max_iter: int
    n_iter_no_change: int
    tol: float
    verbose: bool


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
    with epoch_bar(fitting.max_iter, shown=fitting.verbose) as advance:
        while len(losses) < fitting.max_iter and since < fitting.n_iter_no_change:
            loss = train_epoch(
                network,
                optimizer,
                rows,
                target,
                weight,
                batch_size=fitting.batch_size,
                generator=generator,
                schedule=schedule,
            )
            losses.append(loss)
            advance(loss)
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


def check_parameters(function: str, parameters: Mapping[str, Any]) -> None:
    """The parameters of `DropMaxClassifier` fit; the head's are checked where it is made."""
    widths = parameters["hidden_layer_sizes"]
    if not isinstance(widths, Sequence):
        must = "be a sequence of widths"
        _check.fail(function, "hidden_layer_sizes", must, widths, "pass (100,)")
    for width in widths:
        _check.integer(function, "hidden_layer_sizes", width, low=1)
    if parameters["batch_size"] != "auto":
        _check.integer(function, "batch_size", parameters["batch_size"], low=1)
    for name in ("max_iter", "n_iter_no_change"):
        _check.integer(function, name, parameters[name], low=1)
    for name in ("alpha", "tol"):
        _check.number(function, name, parameters[name], low=0.0)
    step = parameters["learning_rate_init"]
    _check.number(function, "learning_rate_init", step, low=0.0, open_low=True)
    share = parameters["validation_fraction"]
    inside = {"open_low": True, "open_high": True}
    _check.number(function, "validation_fraction", share, low=0.0, high=1.0, **inside)


def scaler_for(table: Any) -> StandardScaler:
    """Deviation 1 and mean 0; zeros of sparse rows stay zeros."""
    return StandardScaler(with_mean=not hasattr(table, "toarray"))


def normalized(weight: Any) -> Tensor:
    """Weights of mean 1; the scaler refuses those that are all 0."""
    return torch.from_numpy(weight / weight.mean())


def _copied(network: nn.Sequential) -> dict[str, Any]:
    return copy.deepcopy(network.state_dict())
