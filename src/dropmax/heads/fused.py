"""A head whose loss can be computed from the features, without holding their scores."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax.axis import LOCAL
from dropmax.functional import Objective
from dropmax.functional.instances import IGNORE_INDEX
from dropmax.heads.base import Head, required
from dropmax.heads.settings import WEIGHTS

OF_OBJECTIVE = (
    "aux_prior",
    "masks",
    "temperature",
    "floor",
    "num_samples",
    "plugin_share",
    "plugin_focus",
)
"""The settings that `functional.dropmax_objective` takes."""


class FusedHead(Head):
    """`fused_loss` beside `loss`; the settings are explained in `DropMaxHead`."""

    objective: str
    posterior: str | None

    def _check_weights(
        self,
    ) -> None:
        """The weights of the terms are numbers of at least 0."""
        raise NotImplementedError

    def _options(self, names: Sequence[str]) -> dict[str, Any]:
        """Those of the settings that the objective has."""
        options = {name: getattr(self, name) for name in names}
        return {name: value for name, value in options.items() if value is not None}

    @property
    def can_fuse(self) -> bool:
        """Whether `fused_loss` takes this head, by its objective, its posterior and its axis."""
        return all(value in able for _, value, able in self._fused_needs())

    def _fused_needs(self) -> list[tuple[str, Any, tuple[Any, ...]]]:
        """Attributes, their values, and the values that they may have."""
        from dropmax.fused.arguments import POSTERIORS  # late: it takes the compiler along

        return [
            ("objective", self.objective, ("variational",)),
            ("posterior", self.posterior, POSTERIORS),
            ("axis", self.axis, (LOCAL,)),
        ]

    def fused_loss(
        self,
        features: Float[Tensor, "*batch D"],
        target: Tensor,
        *,
        weight: Tensor | None = None,
        ignore_index: int = IGNORE_INDEX,
        label_smoothing: float | None = None,
        reduction: str = "mean",
        sample_weight: Tensor | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Objective:
        """`loss` of the features, for very many classes: their scores are never held.

        The same values and gradients under the same noise, a few instances at a time, by
        `dropmax.fused.linear_dropmax_objective`. Only `total` carries a gradient. In a model that
        is wrapped, by DistributedDataParallel say, it is to be called in the model's forward.

        Args:
            features: `[*, D]`, as `forward` takes them.
            target: As in `loss`, and so the seven below.
            weight: Class weights `[K]`.
            ignore_index: Instances of this class index do not count.
            label_smoothing: Of the nll; the head's own if None.
            reduction: "mean", "sum" or "none".
            sample_weight: Weights of the instances `[*]`.
            noise: Uniforms in (0, 1) `[*, K]`, or `[S, *, K]` for S samples.
            generator: The source of the noise.

        Raises:
            ValueError: If an argument does not fit, or the head's objective or posterior needs
                more than one pass over the classes ("marginal", "exact"), or has no such maps;
                in the backward pass if a second derivative is asked for.

        Examples:
            >>> import torch
            >>> from dropmax.heads import DropMaxHead
            >>> head = DropMaxHead(16, 1_000)
            >>> head.fused_loss(torch.randn(8, 16), torch.arange(8)).total.backward()
            >>> head.weight.grad.shape
            torch.Size([1000, 16])
        """
        from dropmax.fused import linear_dropmax_objective  # late, too

        self._check_weights()
        for argument, value, able in self._fused_needs():
            if value not in able:
                must = f"be {' or '.join(map(str, able))}"
                remedy = "call loss of the scores, head.loss(head(features), target)"
                _check.fail(f"the head's {argument}", must, value, remedy)
        objective: Objective = linear_dropmax_objective(
            features,
            self.weight,
            self.bias,
            required(self.retain_weight),
            self.retain_bias,
            self.correction_weight,
            self.correction_bias,
            target,
            gate_weight=self.gate_weight,
            posterior=self.posterior,
            class_weight=weight,
            ignore_index=ignore_index,
            label_smoothing=self.label_smoothing if label_smoothing is None else label_smoothing,
            reduction=reduction,
            sample_weight=sample_weight,
            noise=noise,
            generator=generator,
            **self._options((*OF_OBJECTIVE, *WEIGHTS)),
        )
        return objective
