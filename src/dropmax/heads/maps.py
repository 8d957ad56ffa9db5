"""The linear maps of a head: features to scores."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dropmax import _check
from dropmax.heads.scores import Scores

BRANCHES = ("retain", "correction")

_predicting: ContextVar[bool] = ContextVar("predicting", default=False)


@contextmanager
def predicting() -> Iterator[None]:
    """Within, heads leave out the map of the correction, which the loss alone uses.

    In this thread, and not in compiled code, where what nothing uses is left out anyway: compile a
    function that ends with `log_probs` or `predict`.

    Examples:
        >>> import torch
        >>> from dropmax.heads import DropMaxHead, predicting
        >>> head = DropMaxHead(16, 5)
        >>> with predicting():
        ...     head(torch.randn(8, 16)).correction_logits is None
        True
    """
    if torch.compiler.is_compiling():
        yield
        return
    before = _predicting.set(True)
    try:
        yield
    finally:
        _predicting.reset(before)


class LinearMaps(nn.Module):
    """The parameters of a head, as `Head` names them, and the scores that they give."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    gate_weight: nn.Parameter | None
    retain_weight: nn.Parameter | None
    retain_bias: nn.Parameter | None
    correction_weight: nn.Parameter | None
    correction_bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        branches: tuple[str, ...],
        gate_rank: int | None,
        retain_bias_init: float,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        _check.integer("in_features", in_features, low=1)
        _check.integer("num_classes", num_classes, low=1)
        _check.boolean("bias", bias)
        if gate_rank is not None:
            _check.integer("gate_rank", gate_rank, low=1)
            if gate_rank > in_features:
                must = f"be at most in_features, {in_features}"
                _check.fail("gate_rank", must, gate_rank, "leave it out for full rank")
        self.in_features = in_features
        self.out_features = num_classes
        self.branches = branches
        self.gate_rank = gate_rank
        self.retain_bias_init = retain_bias_init

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.weight = parameter(num_classes, in_features)
        self.register_parameter("bias", parameter(num_classes) if bias else None)
        gate_weight = None if gate_rank is None else parameter(gate_rank, in_features)
        self.register_parameter("gate_weight", gate_weight)
        for branch in BRANCHES:
            width = in_features if gate_rank is None else gate_rank
            weight = parameter(num_classes, width) if branch in branches else None
            branch_bias = parameter(num_classes) if branch in branches and bias else None
            self.register_parameter(f"{branch}_weight", weight)
            self.register_parameter(f"{branch}_bias", branch_bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform weights, zero biases, and the retain bias that was asked for."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)
        if self.retain_bias is not None:
            nn.init.constant_(self.retain_bias, self.retain_bias_init)

    def gate_parameters(self) -> list[nn.Parameter]:
        """The parameters of the retain and correction branches, which weight decay spares."""
        return [
            parameter
            for name, parameter in self.named_parameters(recurse=False)
            if name.startswith(("gate", *BRANCHES))
        ]

    def forward(self, features: Float[Tensor, "*batch D"]) -> Scores:
        """Map features `[*, D]` to scores `[*, K]`.

        Raises:
            ValueError: If features do not fit the weights.
        """
        _check.features(features, self.weight)
        logits = F.linear(features, self.weight, self.bias)
        if self.gate_weight is not None:
            features = F.linear(features, self.gate_weight)
        left_out = not torch.compiler.is_compiling() and _predicting.get()
        return Scores(
            logits,
            _branch(features, self.retain_weight, self.retain_bias),
            None if left_out else _branch(features, self.correction_weight, self.correction_bias),
        )


def _branch(features: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """The scores of a branch that the head may lack."""
    return None if weight is None else F.linear(features, weight, bias)
