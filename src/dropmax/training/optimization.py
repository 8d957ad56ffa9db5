"""How large the steps of a run are: optimizer, weight decay, learning rate and its schedule."""

import math
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, OneCycleLR

from dropmax.heads import decay_groups
from dropmax.training.config import RunConfig

PRETRAINED_SHARE = 0.1
"""The learning rate of a pretrained network by that of the head, unless a run says otherwise."""
RISE = 0.3
"""In which share of its steps the schedule "one_cycle" rises, unless a run says otherwise."""


def make_optimizer(classifier: nn.Sequential, config: RunConfig) -> torch.optim.Optimizer:
    """The optimizer of a run, whose network before the head may have a learning rate of its own."""
    lr, before = config.resolved.lr, config.backbone_lr
    if before is None and config.pretrained and config.tune == "all":
        before = PRETRAINED_SHARE * lr
    if before is None:
        groups = _groups(classifier, config)
    else:
        groups = [
            *({**group, "lr": before} for group in _groups(classifier[:-1], config)),
            *_groups(classifier[-1], config),
        ]
    if config.resolved.optimizer == "adam":
        return torch.optim.Adam(groups, lr=lr)
    return torch.optim.AdamW(groups, lr=lr)


def _groups(part: nn.Module, config: RunConfig) -> list[dict[str, Any]]:
    decay = config.resolved.weight_decay
    if config.decay_gates:
        return [{"params": list(part.parameters()), "weight_decay": decay}]
    return [group for group in decay_groups(part, decay) if group["params"]]


def make_schedule(optimizer: torch.optim.Optimizer, config: RunConfig, steps: int) -> LRScheduler:
    """What sets the learning rates before each of so many steps, epochs of equal numbers."""
    highest = [group["lr"] for group in optimizer.param_groups]
    name, epochs = config.resolved.schedule, config.resolved.epochs
    if name == "one_cycle":
        rise = RISE if config.warmup is None else config.warmup
        return OneCycleLR(optimizer, highest, total_steps=steps, pct_start=rise)
    if name == "thirds":
        thirds = max(epochs // 3, 1), max(2 * epochs // 3, 2)
        return MultiStepLR(optimizer, [third * steps // epochs for third in thirds])
    warm = round((config.warmup or 0.0) * steps)
    return LambdaLR(optimizer, partial(_factor, name, warm, steps))


def _factor(name: str, warm: int, steps: int, step: int) -> float:
    """The learning rate at a step, from 0, as a share of the highest."""
    if step < warm:
        return (step + 1) / (warm + 1)
    if name == "constant":
        return 1.0
    left = (steps - step) / (steps - warm)
    return left if name == "linear" else (1.0 - math.cos(math.pi * left)) / 2.0
