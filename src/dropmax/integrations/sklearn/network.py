"""The network of `DropMaxClassifier`: dense layers and a head, and the epochs that train it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dropmax.heads import decay_groups, make_head
from dropmax.integrations.sklearn.rows import Rows
from dropmax.wrap import find_head
from dropmax.wrap.predictor import scores_of

WARM_UP = 0.1
"""The share of the steps in which the step size rises; it falls in the others, by a cosine."""

PREDICTED_AT_ONCE = 4096
"""Rows that are predicted in one batch."""


def make_network(
    in_features: int, hidden_layer_sizes: Sequence[int], head: str, num_classes: int, seed: int
) -> nn.Sequential:
    """Dense layers with ReLU and a head; the seed decides the initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for width in hidden_layer_sizes:
            layers += [nn.Linear(in_features, width), nn.ReLU()]
            in_features = width
        return nn.Sequential(*layers, make_head(head, in_features, num_classes))


def make_optimizer(network: nn.Module, learning_rate: float, alpha: float) -> torch.optim.AdamW:
    """AdamW, whose decay spares the gate."""
    return torch.optim.AdamW(decay_groups(network, alpha), lr=learning_rate)


def one_cycle(
    optimizer: torch.optim.Optimizer, learning_rate: float, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The step size rises to `learning_rate` and falls to next to nothing over so many steps."""
    if steps < 3:
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    rising = max(WARM_UP, 2.0 / steps)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=rising, cycle_momentum=False
    )


def train_epoch(
    network: nn.Sequential,
    optimizer: torch.optim.Optimizer,
    rows: Rows,
    target: Tensor,
    weight: Tensor,
    *,
    batch_size: int,
    generator: torch.Generator,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> tuple[float, float]:
    """Train on every row once, in random order; the mean objective and its nll, in nats."""
    head = find_head(network)
    total, nll = torch.zeros(()), torch.zeros(())
    for chosen in torch.split(torch.randperm(len(rows), generator=generator), batch_size):
        optimizer.zero_grad()
        objective = head.loss(
            network(rows[chosen.numpy()]),
            target[chosen],
            sample_weight=weight[chosen],
            reduction="sum",
            generator=generator,
        )
        (objective.total / len(chosen)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if schedule is not None:
            schedule.step()
        total += objective.total.detach()
        nll += objective.nll.detach()
    return total.item() / len(rows), nll.item() / len(rows)


def steps_of(count: int, batch_size: int) -> int:
    """Batches in which so many rows are trained on once."""
    return math.ceil(count / batch_size)


def accuracy_of(
    network: nn.Sequential, scaler: Any, table: Any, target: Tensor, weight: Any
) -> float:
    """The weighted share of rows whose most probable class is theirs."""
    scores = scores_of(network, Rows(table, scaler), PREDICTED_AT_ONCE, correction=False)
    right = (find_head(network).log_probs(scores).argmax(-1) == target).numpy()
    return float(np.average(right, weights=weight) if weight.any() else right.mean())
