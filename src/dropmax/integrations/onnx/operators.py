"""Functions that ONNX lacks, out of those it has, without a loss of digits.

torch's own translation is Log(Sigmoid(x)), Log(1 + x), Exp(x) - 1 and Log(Exp(x) + Exp(y)). In
onnxruntime the first is -inf below -18 and the last over- and underflows: where a gate is certain
and the logits are large, probabilities are wrong in the first digit.

Nothing in them is infinite or NaN for finite arguments, also what they throw away: static
quantization takes the range of every number that is computed.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor


def log1p(x: Tensor) -> Tensor:
    """log(1 + x): what rounding does to 1 + x is the same in both factors (Kahan)."""
    total = 1.0 + x
    added = total - 1.0
    lost = added == 0.0
    return torch.where(lost, x, total.log() * (x / torch.where(lost, 1.0, added)))


def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1."""
    return (0.5 * x).tanh() * (x.exp() + 1.0)


def log_sigmoid(x: Tensor) -> Tensor:
    """-log(1 + exp(-x)), linear where x is far below 0."""
    return x.clamp(max=0.0) - torch.log1p((-x.abs()).exp())


def logaddexp(x: Tensor, y: Tensor) -> Tensor:
    """log(exp(x) + exp(y)), the larger of the two taken out."""
    larger = torch.maximum(x, y)
    return torch.where(larger.isinf(), larger, larger + torch.log1p((-(x - y).abs()).exp()))


DECOMPOSITIONS: Mapping[object, Callable[..., Tensor]] = MappingProxyType(
    {
        torch.ops.aten.log1p.default: log1p,
        torch.ops.aten.expm1.default: expm1,
        torch.ops.aten.log_sigmoid.default: log_sigmoid,
        torch.ops.aten.logaddexp.default: logaddexp,
    }
)
"""What `ExportedProgram.run_decompositions` puts in the place of each."""
