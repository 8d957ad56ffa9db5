"""A head with a gate: for each class the probability that it is retained."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dropmax import _check, predictive
from dropmax._check import at_least_float32
from dropmax.axis import ClassAxis
from dropmax.functional.masking import gated_logits
from dropmax.heads.base import Head, Map, initialize, required
from dropmax.heads.scores import Scores

SAMPLING = ("num_samples", "noise", "generator")
INTEGRATION = ("tolerance", "num_nodes")
"""The options of the methods "monte_carlo" and "exact"."""

GATE = (
    "gate_weight",
    "retain_weight",
    "retain_bias",
    "correction_weight",
    "correction_bias",
)
"""The parameters of the gate, in the order in which they are made."""


class GatedHead(Head):
    """A head with a gate, which learns the probability that each class is retained.

    Besides `weight` and `bias` it has `retain_weight [K, D]` and `retain_bias`. If its objective
    uses a correction, it has `correction_weight` and `correction_bias`, too. With a low rank it
    has `gate_weight [r, D]`, and the other weights of the gate are `[K, r]`.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        gate_rank: The rank r of the retain and correction maps, which then share `gate_weight
            [r, D]`. It saves time and memory with very many classes. None is full rank.
        retain_bias_init: The initial retain bias. Above 0, classes start retained.
        **shared: label_smoothing, bias, device and dtype, as in `Head`.

    Attributes:
        floor: The weight of a class whose retain probability is 0, in the plug-in.

    Raises:
        ValueError: If an argument does not fit.
    """

    predictive_methods: ClassVar[tuple[str, ...]] = ("plugin", "monte_carlo", "exact")
    _ours: ClassVar[tuple[str, ...]] = (Head.__module__, __name__)

    floor: float
    gate_weight: nn.Parameter | None
    retain_weight: nn.Parameter
    retain_bias: nn.Parameter | None
    correction_weight: nn.Parameter | None
    correction_bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        gate_rank: int | None = None,
        retain_bias_init: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(in_features, num_classes, **shared)
        _check.number("retain_bias_init", retain_bias_init)
        if self.bias is None and retain_bias_init != 0.0:
            must = "be 0 where bias is False"
            _check.fail("retain_bias_init", must, retain_bias_init, "leave the biases on")
        if gate_rank is not None:
            _check.integer("gate_rank", gate_rank, low=1)
            if gate_rank > in_features:
                must = f"be at most in_features, {in_features}"
                _check.fail("gate_rank", must, gate_rank, "leave it out for full rank")
        self.gate_rank = gate_rank
        self.retain_bias_init = retain_bias_init
        for name in GATE:
            self.register_parameter(name, None)
        if gate_rank is not None:
            self.gate_weight = nn.Parameter(self.weight.new_empty(gate_rank, in_features))
            initialize(self.gate_weight)
        self._add_branch("retain", retain_bias_init)

    def _add_branch(self, branch: str, bias_init: float = 0.0) -> None:
        """Add the map to the scores of a branch."""
        width = self.in_features if self.gate_rank is None else self.gate_rank
        weight = nn.Parameter(self.weight.new_empty(self.out_features, width))
        setattr(self, f"{branch}_weight", weight)
        initialize(weight)
        if self.bias is not None:
            bias = torch.full_like(self.bias, bias_init, requires_grad=False)
            setattr(self, f"{branch}_bias", nn.Parameter(bias))
        self.branches = (*self.branches, branch)

    def reset_parameters(self) -> None:
        """Start anew: Glorot-uniform weights, zero biases, and the retain bias asked for."""
        super().reset_parameters()
        for parameter in self.gate_parameters():
            initialize(parameter)
        if self.retain_bias is not None:
            nn.init.constant_(self.retain_bias, self.retain_bias_init)

    def gate_parameters(self) -> list[nn.Parameter]:
        """The parameters of the retain and correction branches, which weight decay spares."""
        parameters = (self._parameters[name] for name in GATE)
        return [parameter for parameter in parameters if parameter is not None]

    def _maps(self, features: Tensor, *, correction: bool) -> list[Map]:
        weight, bias, gate, *of_gate = self._local("weight", "bias", *GATE)
        _check.features(features, required(weight))
        if gate is None:
            (features,) = self.axis.spread(features)
            gated = features
        else:
            features, gated = self.axis.spread(features, F.linear(features, gate))
        retain_weight, retain_bias, correction_weight, correction_bias = of_gate
        maps = [
            Map(features, required(weight), bias),
            Map(gated, required(retain_weight), retain_bias),
        ]
        if correction_weight is not None and correction:
            maps.append(Map(gated, correction_weight, correction_bias))
        return maps

    def log_probs(
        self, scores: Scores, *, method: str = "plugin", **options: Any
    ) -> Float[Tensor, "*batch K"]:
        if method not in ("monte_carlo", "exact") or method not in self.predictive_methods:
            return super().log_probs(scores, method=method, **options)
        self._check_scores(scores, ("retain",))
        function = getattr(predictive, method)
        others = SAMPLING if method == "exact" else INTEGRATION
        _check.unused({name: options.get(name) for name in others}, f"for method {method!r}")
        if method == "monte_carlo" and options.get("num_samples") is None:
            must = "be given for method 'monte_carlo'"
            _check.fail("num_samples", must, None, "pass a number of masks")
        own = {name: value for name, value in options.items() if name not in others}
        log_probs: Tensor = function(
            scores.logits, required(scores.retain_logits), **own, axis=self.axis
        )
        return log_probs

    def _plugin_logits(self, scores: Scores) -> Tensor:
        return gated_plugin(scores, self.floor, self.axis)

    def options(self) -> dict[str, Any]:
        own = {"gate_rank": self.gate_rank, "retain_bias_init": self.retain_bias_init}
        return super().options() | own


def gated_plugin(scores: Scores, floor: float, axis: ClassAxis) -> Tensor:
    """The logits of the plug-in of a gate, float32 at least."""
    logits, retain_logits = scores.logits, required(scores.retain_logits)
    _check.class_tensors(logits, axis, retain_logits=retain_logits)
    return gated_logits(at_least_float32(logits), at_least_float32(retain_logits), floor)
