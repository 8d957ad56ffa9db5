"""Temperatures of a trained classifier, fitted on held-out data, dropped where they harm."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dropmax import _check
from dropmax.heads import Scores

__all__ = [
    "TemperatureScaling",
    "fit_temperature",
]

PRIOR_COUNT = 1.0
"""What the scales being 1 is worth, in instances: separable data would make them infinite."""

LIMIT = 1e3
"""The scales are between 1 / LIMIT and LIMIT."""

STEPS = 100
"""Newton steps at most; a dozen are common."""


class TemperatureScaling(NamedTuple):
    """Scales b and c of log-probabilities, p_k proportional to exp(b logits_k + c log rho_k).

    Attributes:
        scale: b, of the class scores or of the log-probabilities; 1 / b is a temperature.
        gate_scale: c, of log rho; None where there is no gate.
        nll_before: Mean NLL without scales, on the instances that decide (those that fit where none
            decides), in nats.
        nll_after: The same with the scales that were fitted.
        kept: Whether the scales helped there, or were to be kept. If not, both are 1, which changes
            nothing.
    """

    scale: float
    gate_scale: float | None
    nll_before: float
    nll_after: float
    kept: bool

    def log_probs(self, scores: Scores | Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
        """Log-probabilities `[*, K]` with the scales, of what the temperature was fitted on.

        Args:
            scores: `Scores`, or log-probabilities `[*, K]`.

        Raises:
            ValueError: If there is a gate where it was fitted without, or the other way round.
        """
        parts = _parts(scores)
        scales = [self.scale] if self.gate_scale is None else [self.scale, self.gate_scale]
        if parts.shape[-2] != len(scales):
            gated = "have no gate" if self.gate_scale is None else "be Scores with a gate"
            _check.fail("scores", gated, scores, "pass what it was fitted on")
        return _scaled(parts, parts.new_tensor(scales)).log_softmax(-1)


def fit_temperature(
    scores_or_log_probs: Scores | Float[Tensor, "N K"],
    target: Int[Tensor, " N"],
    *,
    if_helps: bool = True,
    generator: torch.Generator | None = None,
) -> TemperatureScaling:
    """Fit temperatures of a trained classifier on held-out data, and keep them if they help.

    The instances are divided into two halves at random. On one half, scales b, c > 0 are fitted:
    they minimize the mean NLL of

        p_k proportional to exp(b logits_k + c log rho_k)

    plus ((b - 1)^2 + (c - 1)^2) / 2N. That is convex, and solved by Newton's method in float64. The
    other half decides: the scales are kept if its NLL falls by more than the standard error of that
    fall. Otherwise both are 1. With few instances it pays to fit on all of them, and to keep what
    comes: pass `if_helps=False`.

    Args:
        scores_or_log_probs: `Scores` `[N, K]` of a head that predicts by a softmax of them, with a
            gate or without (not of sparsemax, sigsoftmax or one_vs_rest). Or log-probabilities
            `[N, K]` of any classifier and method, which have one scale, b.
        target: Class indices `[N]`.
        if_helps: Whether a half of the instances decides. If False all of them fit the scales,
            which are kept whatever they do.
        generator: Divides the instances; the default one if None.

    Returns:
        `TemperatureScaling`. Pass it to `Predictor(..., scaling=)`, or call its `log_probs`.

    Raises:
        ValueError: If a shape, dtype or value does not fit, or there are fewer than two instances.

    Source:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", for one scale and all
        instances; ours for two, and for what decides.

    Examples:
        >>> import torch
        >>> from dropmax.calibration import fit_temperature
        >>> target = torch.arange(600) % 3
        >>> answer = torch.where(torch.arange(600) < 480, target, (target + 1) % 3)  # 80 % right
        >>> log_probs = torch.full((600, 3), 0.005).scatter(1, answer[:, None], 0.99).log()
        >>> generator = torch.Generator().manual_seed(0)
        >>> temperature = fit_temperature(log_probs, target, generator=generator)
        >>> temperature.kept, temperature.log_probs(log_probs).exp().amax(-1).mean().item() < 0.85
        (True, True)
    """
    parts = _parts(scores_or_log_probs).detach().double()
    if parts.ndim != 3:
        must = "be rows [N, K]"
        _check.fail("scores_or_log_probs", must, parts[..., 0, :], "flatten the axes")
    _check.class_target(target, parts[:, 0], parts.shape[-1])
    count = len(target)
    if count < 2:
        _check.fail("target", "hold two instances or more", target, "hold out more")
    _check.boolean("if_helps", if_helps)
    if not if_helps:
        _check.unused({"generator": generator}, "where all instances fit")
    fits = decides = torch.arange(count, device=parts.device)
    if if_helps:
        device = parts.device if generator is None else generator.device
        order = torch.randperm(count, generator=generator, device=device).to(parts.device)
        fits, decides = order[: count // 2], order[count // 2 :]
    scales = _fitted(parts[fits], target[fits])
    ones = torch.ones_like(scales)
    before, after = (_nll(parts[decides], target[decides], both) for both in (ones, scales))
    kept = not if_helps or _falls(before, after)
    final = (scales if kept else ones).tolist()
    return TemperatureScaling(
        final[0],
        final[1] if len(final) == 2 else None,
        before.mean().item(),
        after.mean().item(),
        kept,
    )


def _parts(scores: Scores | Tensor) -> Float[Tensor, "*batch P K"]:
    """What is scaled: scores and log rho, or scores alone, or log-probabilities."""
    if not isinstance(scores, Scores):
        scores = Scores(scores)
    logits, retain_logits = scores.logits, scores.retain_logits
    if retain_logits is None:
        _check.class_tensors(logits)
        return logits.unsqueeze(-2)
    _check.class_tensors(logits, retain_logits=retain_logits)
    return torch.stack([logits, F.logsigmoid(retain_logits)], dim=-2)


def _scaled(
    parts: Float[Tensor, "*batch P K"], scales: Float[Tensor, " P"]
) -> Float[Tensor, "*batch K"]:
    return (scales[:, None] * parts).sum(-2)


def _nll(
    parts: Float[Tensor, "N P K"], target: Tensor, scales: Float[Tensor, " P"]
) -> Float[Tensor, " N"]:
    """NLL of each instance under the scales."""
    return F.cross_entropy(_scaled(parts, scales), target, reduction="none")


def _falls(before: Float[Tensor, " N"], after: Float[Tensor, " N"]) -> bool:
    """Whether the mean NLL falls by more than the standard error of its difference."""
    fall = before - after
    if not bool(fall.isfinite().all()) or len(fall) < 2:
        return False
    return bool(fall.mean() > fall.std() / len(fall) ** 0.5)


def _fitted(parts: Float[Tensor, "N P K"], target: Tensor) -> Float[Tensor, " P"]:
    """The scales of least penalized NLL in [1 / LIMIT, LIMIT], by projected Newton steps."""
    weight = PRIOR_COUNT / len(target)
    features = parts.masked_fill(parts.isneginf(), 0.0)
    of_target = parts[torch.arange(len(target)), :, target]
    scales = torch.ones(parts.shape[1], dtype=parts.dtype, device=parts.device)
    if not bool(of_target.isfinite().all()):
        return scales

    def objective(scales: Tensor) -> Tensor:
        return _nll(parts, target, scales).mean() + weight * (scales - 1.0).square().sum() / 2.0

    value = objective(scales)
    for _ in range(STEPS):
        probs = _scaled(parts, scales).softmax(-1)
        expected = (features * probs[:, None]).sum(-1)
        gradient = (expected - of_target).mean(0) + weight * (scales - 1.0)
        second = torch.einsum("nk,npk,nqk->pq", probs, features, features) / len(target)
        hessian = second - expected.T @ expected / len(target)
        hessian = hessian + weight * torch.eye(len(scales), dtype=parts.dtype, device=parts.device)
        held = ((scales <= 1.0 / LIMIT) & (gradient > 0)) | ((scales >= LIMIT) & (gradient < 0))
        gradient = gradient.masked_fill(held, 0.0)
        free = (~held).to(parts.dtype)
        hessian = hessian * free[:, None] * free + torch.diag(1.0 - free)
        step = torch.linalg.solve(hessian, gradient)
        for _ in range(STEPS):
            moved = (scales - step).clamp(1.0 / LIMIT, LIMIT)
            found = objective(moved)
            if bool(found <= value):
                break
            step = step / 2.0
        else:
            break
        done = bool((moved - scales).abs().max() <= 1e-10 * scales.abs().max())
        scales, value = moved, found
        if done:
            break
    return scales
