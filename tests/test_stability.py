"""A thousand steps of training under autocast with logits of a thousand, each step checked."""

import pytest
import torch
from tolerances import TOLERANCES
from variants import INTEGRALS, VARIANTS

import dropmax

STEPS, LARGEST = 1000, 1000.0

pytestmark = pytest.mark.slow


def truth_of(head, scores, target, noise, **options):
    """Loss and gradients of the scores in float64."""
    exact = [None if s is None else s.detach().double().requires_grad_() for s in scores]
    total = head.loss(dropmax.Scores(*exact), target, noise=noise, **options).total
    return total, torch.autograd.grad(total, [s for s in exact if s is not None])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_thousand_steps_with_logits_of_a_thousand(name, dtype):
    """Every step: loss as in float64 of the same scores, gradients of the scores, too; all finite.

    Class weights and soft labels in turn with indices. In float16 the loss is scaled, and the
    scaler may leave out steps while it finds its scale.
    """
    integrates = name in INTEGRALS
    rows, options = (2, {"num_nodes": 4000}) if integrates else (32, {})  # 2,000 nats apart
    head = dropmax.make_head(name, 16, 10, **options)
    with torch.no_grad():
        features = torch.randn(rows, 16)
        features *= LARGEST / head(features).logits.abs().max()
    weight = torch.rand(10) + 0.5
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-6)
    scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16)
    rtol, atol = TOLERANCES[dtype, "large logits"]
    if integrates:
        atol = TOLERANCES[torch.float32, "exact"][1]
    skipped, largest, start = 0, 0.0, head.weight.detach().clone()
    # a posterior for each class is an integral for each: ten times as long
    for step in range(STEPS // 10 if name == "dropmax_computed" else STEPS):
        target = torch.randint(10, (rows,))
        if step % 3 == 2:
            target = torch.rand(rows, 10).softmax(-1)
        options = {"weight": weight, "label_smoothing": 0.1} if step % 3 == 1 else {}
        noise = torch.rand(rows, 10).clamp(1e-6, 1 - 1e-6)
        with torch.autocast("cpu", dtype):
            scores = head(features)
            assert scores.logits.dtype == dtype
            total = head.loss(scores, target, noise=noise, **options).total
        for branch in scores:
            if branch is not None:
                branch.retain_grad()
        exact, exact_gradients = truth_of(head, scores, target, noise, **options)
        assert abs(total.item() - exact.item()) <= 1e-5 * abs(exact.item()) + 1e-4
        scale = scaler.get_scale()
        optimizer.zero_grad()
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        finite = all(parameter.grad.isfinite().all() for parameter in head.parameters())
        if finite:
            used = [branch for branch in scores if branch is not None]
            for branch, expected in zip(used, exact_gradients, strict=True):
                error = (branch.grad.double() / scale - expected).abs().max()
                assert error <= rtol * expected.abs().max() + atol
        scaler.step(optimizer)
        scaler.update()
        skipped += not finite
        largest = max(largest, scores.logits.abs().max().item())
    assert largest >= 0.99 * LARGEST
    assert not torch.equal(head.weight, start)
    assert all(parameter.isfinite().all() for parameter in head.parameters())
    assert skipped <= (20 if dtype == torch.float16 else 0)
