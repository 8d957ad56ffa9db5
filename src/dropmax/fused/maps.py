"""A linear map of some of the instances, and its gradients added up in place."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Map(NamedTuple):
    """A linear map of inputs `[N, D]`, and the gradients it adds to; None where none is wanted.

    The gradient of the weight is overwritten by the first instances, the others are zeros at first;
    `held` is the memory of the scores `[n, K]` of a few instances.
    """

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None
    to_inputs: Tensor | None
    to_weight: Tensor | None
    to_bias: Tensor | None
    held: Tensor

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        to_inputs: Tensor | None,
        parameters: Sequence[Tensor | None],
        to_parameters: Sequence[Tensor | None],
        at_once: int,
    ) -> "Map":
        """The map by a weight and a bias, done in the dtype of the inputs, so many at once."""
        weight, bias = (
            None if tensor is None else tensor.to(inputs.dtype) for tensor in parameters
        )
        assert weight is not None
        to_weight, to_bias = to_parameters
        held = inputs.new_empty(min(at_once, len(inputs)), len(weight))
        return cls(inputs, weight, bias, to_inputs, to_weight, to_bias, held)

    def scores(self, rows: slice) -> Tensor:
        """Those of the instances in `rows`, in the memory of the last ones."""
        inputs = self.inputs[rows]
        scores = self.held[: len(inputs)]
        if self.bias is None:
            return torch.mm(inputs, self.weight.t(), out=scores)
        return torch.addmm(self.bias, inputs, self.weight.t(), out=scores)

    def add_gradients(self, rows: slice, to_scores: Tensor) -> None:
        """Add what the gradient of these scores gives."""
        if self.to_bias is not None:
            self.to_bias.add_(to_scores.sum(0))
        inputs, weight = self.inputs[rows], self.weight
        if inputs.dtype == torch.float16:  # no scaled loss keeps these gradients off 0 in its range
            inputs, weight = inputs.float(), weight.float()
        to_scores = to_scores.to(inputs.dtype)
        if self.to_weight is not None:
            _add_product(self.to_weight, to_scores.t(), inputs, keep=rows.start > 0)
        if self.to_inputs is not None:
            _add_product(self.to_inputs[rows], to_scores, weight)


def _add_product(total: Tensor, left: Tensor, right: Tensor, *, keep: bool = True) -> None:
    """total += left @ right in place, or total = left @ right."""
    if total.dtype == left.dtype:
        total.addmm_(left, right, beta=1.0 if keep else 0.0)
    elif keep:
        total += left @ right
    else:
        total.copy_(left @ right)
