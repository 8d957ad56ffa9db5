"""A linear map of some of the instances, and its gradients added up in place."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Map(NamedTuple):
    """A linear map of inputs `[N, D]`, and the gradients it adds to; None where none is wanted."""

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    to_inputs: Tensor | None
    to_weight: Tensor | None
    to_bias: Tensor | None

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        to_inputs: Tensor | None,
        parameters: Sequence[Tensor | None],
        to_parameters: Sequence[Tensor | None],
    ) -> "Map":
        """The map by a weight and a bias, done in the dtype of the inputs."""
        weight, bias = (
            None if tensor is None else tensor.to(inputs.dtype) for tensor in parameters
        )
        assert weight is not None
        return cls(inputs, weight, bias, to_inputs, *to_parameters)

    def scores(self, rows: slice) -> Tensor:
        """Those of the instances in `rows`."""
        return F.linear(self.inputs[rows], self.weight, self.bias)

    def add_gradients(self, rows: slice, to_scores: Tensor) -> None:
        """Add what the gradient of these scores gives."""
        if self.to_bias is not None:
            self.to_bias.add_(to_scores.sum(0))
        to_scores = to_scores.to(self.inputs.dtype)
        if self.to_weight is not None:
            _add_product(self.to_weight, to_scores.t(), self.inputs[rows])
        if self.to_inputs is not None:
            _add_product(self.to_inputs[rows], to_scores, self.weight)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, in place."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
