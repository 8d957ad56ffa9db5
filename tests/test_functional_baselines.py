"""The losses of the baselines: oracle, gradients, limits."""

import math

import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close
from torch.autograd import gradcheck
from variants import dropmax_objective

import dropmax
from dropmax.functional import (
    as_softmax_loss,
    attention_loss,
    class_dropout_loss,
    one_vs_rest_loss,
    sampled_softmax_loss,
    sigsoftmax_loss,
    softmax_loss,
    sparsemax,
    sparsemax_loss,
)


def case(*shape, scale=2.0, dtype=torch.float64):
    logits = (scale * torch.randn(*shape, dtype=dtype)).requires_grad_()
    return logits, torch.randint(shape[-1], shape[:-1]), torch.rand(shape).clamp(1e-6, 1 - 1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("num_classes", [1, 2, 6])
def test_softmax_loss(label_smoothing, num_classes):
    logits, target, _ = case(5, num_classes)
    loss = softmax_loss(logits, target, label_smoothing=label_smoothing)
    expected = [
        reference.softmax_loss(row, t, label_smoothing)
        for row, t in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    assert_close(loss, expected, "value")
    plain = F.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")
    assert_close(loss, plain.detach(), "value")
    assert gradcheck(lambda x: softmax_loss(x, target, label_smoothing=label_smoothing), logits)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("num_classes", [1, 2, 9])
def test_sparsemax_and_its_loss(scale, num_classes):
    logits, target, _ = case(6, num_classes, scale=scale)
    rows = logits.tolist()
    assert_close(sparsemax(logits), [reference.sparsemax(row) for row in rows], "value")
    loss = sparsemax_loss(logits, target)
    expected = [
        reference.sparsemax_loss(row, t) for row, t in zip(rows, target.tolist(), strict=True)
    ]
    assert_close(loss, expected, "value")


@pytest.mark.cpu
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("num_classes", [1, 2, 9])
def test_sparsemax_is_that_of_entmax(scale, num_classes):
    import entmax

    logits, target, _ = case(6, num_classes, scale=scale)
    assert_close(sparsemax(logits), entmax.sparsemax(logits, dim=-1).detach(), "value")
    expected = entmax.sparsemax_loss(logits, target).detach().reshape(target.shape)
    assert_close(sparsemax_loss(logits, target), expected, "value")


def test_gradient_of_the_sparsemax_loss_is_the_residual():
    logits, target, _ = case(6, 5)
    assert gradcheck(lambda x: sparsemax_loss(x, target), logits)
    assert gradcheck(sparsemax, logits)
    (gradient,) = torch.autograd.grad(sparsemax_loss(logits, target).sum(), logits)
    residual = sparsemax(logits) - F.one_hot(target, 5)
    assert_close(gradient, residual.detach(), "value")


def test_sparsemax_keeps_its_digits_at_large_logits():
    logits = torch.tensor([10000.0, 9999.5, 0.0])
    assert sparsemax(logits).tolist() == [0.75, 0.25, 0.0]
    assert_close(sparsemax_loss(logits, torch.tensor(0)), 0.0625, "value")


@pytest.mark.parametrize("sampled_share", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("given_proposal", [False, True])
@pytest.mark.parametrize("num_classes", [1, 2, 8])
def test_sampled_softmax_loss(sampled_share, given_proposal, num_classes):
    logits, target, noise = case(6, num_classes)
    proposal = torch.randn(num_classes).log_softmax(-1) if given_proposal else None
    loss = sampled_softmax_loss(
        logits, target, sampled_share=sampled_share, log_proposal=proposal, noise=noise
    )
    num_negatives = max(1, round(sampled_share * (num_classes - 1)))
    expected = [
        reference.sampled_softmax_loss(
            row, t, u, num_negatives, proposal.tolist() if given_proposal else [0.0] * num_classes
        )
        for row, t, u in zip(logits.tolist(), target.tolist(), noise.tolist(), strict=True)
    ]
    assert_close(loss, expected, "value")
    assert gradcheck(
        lambda x: sampled_softmax_loss(
            x, target, sampled_share=sampled_share, log_proposal=proposal, noise=noise
        ),
        logits,
    )


def test_sampled_softmax_against_every_rival_is_softmax():
    logits, target, noise = case(5, 7)
    loss = sampled_softmax_loss(logits, target, sampled_share=1.0, noise=noise)
    assert_close(loss, softmax_loss(logits, target).detach(), "value")


@pytest.mark.parametrize("uniform", [True, False])
def test_sampled_softmax_draws_from_its_proposal(uniform):
    """One negative of three: by Q without the target. One in 10^6 seeds would fail (4.9 sigma)."""
    draws = 20_000
    probs = torch.tensor([0.25, 0.25, 0.25, 0.25] if uniform else [0.4, 0.3, 0.2, 0.1])
    target = torch.zeros(draws, dtype=torch.long)
    logits = torch.zeros(draws, 4, requires_grad=True)
    loss = sampled_softmax_loss(
        logits, target, sampled_share=0.1, log_proposal=None if uniform else probs.log()
    )
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    counts = (gradient[:, 1:] > 0).sum(0)
    assert counts.sum() == draws
    law = probs[1:] / probs[1:].sum()
    assert (counts / draws - law).abs().lt(4.9 * (law * (1 - law) / draws).sqrt()).all()


@pytest.mark.parametrize("retain_prob", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("num_classes", [1, 2, 8])
def test_class_dropout_loss(retain_prob, num_classes):
    logits, target, noise = case(6, num_classes)
    loss = class_dropout_loss(logits, target, retain_prob=retain_prob, noise=noise)
    expected = [
        reference.class_dropout_loss(row, t, u, retain_prob)
        for row, t, u in zip(logits.tolist(), target.tolist(), noise.tolist(), strict=True)
    ]
    assert_close(loss, expected, "value")
    assert gradcheck(
        lambda x: class_dropout_loss(x, target, retain_prob=retain_prob, noise=noise), logits
    )
    if retain_prob == 1.0:
        assert_close(loss, softmax_loss(logits, target).detach(), "value")


def test_class_dropout_retains_rivals_at_its_rate():
    """One in 10^6 seeds would fail (4.9 sigma)."""
    logits = torch.zeros(20_000, 2)
    loss = class_dropout_loss(logits, torch.zeros(20_000, dtype=torch.long), retain_prob=0.3)
    rate = (loss > 0.5).float().mean()
    assert abs(rate - 0.3) < 4.9 * math.sqrt(0.3 * 0.7 / 20_000)


@pytest.mark.parametrize("floor", [1e-20, 0.1, 0.0])
@pytest.mark.parametrize("num_classes", [1, 2, 6])
def test_attention_loss(floor, num_classes):
    logits, target, _ = case(5, num_classes)
    retain_logits, _, _ = case(5, num_classes)
    loss = attention_loss(logits, retain_logits, target, floor=floor)
    expected = [
        reference.attention_loss(row, r, t, floor)
        for row, r, t in zip(logits.tolist(), retain_logits.tolist(), target.tolist(), strict=True)
    ]
    assert_close(loss, expected, "value")
    assert gradcheck(
        lambda x, r: attention_loss(x, r, target, floor=floor), (logits, retain_logits)
    )


@given(shift=st.floats(-50, 50), permutation=st.permutations(range(5)))
def test_shift_and_class_permutation_change_nothing(shift, permutation):
    torch.manual_seed(0)
    logits, target, noise = case(3, 5)
    retain_logits, _, _ = case(3, 5)
    permutation = torch.tensor(permutation)
    moved_target = torch.argsort(permutation)[target]

    def losses(logits, retain_logits, target, noise):
        return {
            "softmax": softmax_loss(logits, target, label_smoothing=0.1),
            "sparsemax": sparsemax_loss(logits, target),
            "sampled_softmax": sampled_softmax_loss(logits, target, noise=noise),
            "class_dropout": class_dropout_loss(logits, target, noise=noise),
            "attention": attention_loss(logits, retain_logits, target),
            "sigsoftmax": sigsoftmax_loss(logits - logits.mean(), target),
            "as_softmax": as_softmax_loss(logits, target),
            "one_vs_rest": one_vs_rest_loss(logits - logits.mean(), target),
        }

    plain = losses(logits, retain_logits, target, noise)
    moved = losses(
        logits[:, permutation] + shift,
        retain_logits[:, permutation],
        moved_target,
        noise[:, permutation],
    )
    for name in plain:
        assert_close(plain[name], moved[name].detach(), "value")


def test_class_dropout_is_dropmax_with_a_constant_gate_and_hard_masks():
    logits, target, noise = case(6, 5)
    gate = torch.full_like(logits, math.log(0.3 / 0.7))
    dropmax = dropmax_objective(
        logits, gate, None, target, noise=noise, temperature=1e-9, floor=0.0
    ).nll
    loss = class_dropout_loss(logits, target, retain_prob=0.3, noise=noise)
    assert_close(loss, dropmax.detach(), "value")


PLAIN = {
    "sigsoftmax": (sigsoftmax_loss, reference.sigsoftmax_loss),
    "as_softmax": (
        lambda *given, **options: as_softmax_loss(*given, delta=0.2, **options),
        lambda row, t: reference.as_softmax_loss(row, t, 0.2),
    ),
    "one_vs_rest": (one_vs_rest_loss, reference.one_vs_rest_loss),
}
"""Losses of the logits alone, each with its oracle for one class as the target."""

LABELS = ("indices", "smoothing", "probabilities", "both")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("num_classes", [1, 2, 7])
@pytest.mark.parametrize("name", PLAIN)
def test_losses_of_the_logits_alone(name, num_classes, kind, weighted, masked):
    """By every class as the target, the last one masked or not."""
    loss_of, oracle = PLAIN[name]
    if masked and num_classes == 1:
        return
    logits, target, _ = case(6, num_classes)
    possible = list(range(num_classes - masked))
    with torch.no_grad():
        logits[:, len(possible) :] = -math.inf
    shares = torch.rand(6, len(possible), dtype=torch.float64).softmax(-1)
    shares = F.pad(shares, (0, int(masked)))
    target = target % len(possible)
    smoothing = 0.3 if kind in ("smoothing", "both") else 0.0
    weight = torch.rand(num_classes, dtype=torch.float64) if weighted else None
    label = shares if kind in ("probabilities", "both") else target
    if label is target:
        shares = F.one_hot(target, num_classes).double()
    options = {"weight": weight, "label_smoothing": smoothing}
    loss = loss_of(logits, label, **options)
    factors = torch.ones(num_classes) if weight is None else weight
    factors = factors * ((1.0 - smoothing) * shares + smoothing / num_classes)
    expected = [
        math.fsum(row[k] * oracle(given, k) for k in possible)
        for row, given in zip(factors.tolist(), logits.tolist(), strict=True)
    ]
    assert_close(loss, expected, "value")
    finite = logits.detach()[:, possible].requires_grad_()

    def of_possible(x):
        return loss_of(F.pad(x, (0, int(masked)), value=-math.inf), label, **options)

    assert gradcheck(of_possible, finite)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.isfinite().all()
    assert not gradient[:, len(possible) :].any()


@pytest.mark.parametrize("delta", [1e-30, 0.05, 0.5, 1.0])
def test_as_softmax_drops_the_same_rivals_for_every_kind_of_label(delta):
    """Classes that are alike, too: none of them is dropped for another one."""
    logits = torch.tensor([[0.0, 1.0, 1.0, 3.0], [2.0, 2.0, 2.0, 2.0]], dtype=torch.float64)
    for k in range(4):
        target = torch.full((2,), k)
        loss = as_softmax_loss(logits, target, delta=delta)
        soft = as_softmax_loss(logits, F.one_hot(target, 4).double(), delta=delta)
        expected = [reference.as_softmax_loss(row, k, delta) for row in logits.tolist()]
        assert_close(loss, expected, "value")
        assert_close(soft, expected, "value")


def test_as_softmax_is_softmax_at_delta_1_and_0_where_the_target_leads():
    logits, target, _ = case(50, 7)
    loss = as_softmax_loss(logits, target, delta=1.0)
    assert_close(loss, softmax_loss(logits, target).detach(), "value")
    probs = logits.softmax(-1)
    rivals = probs.scatter(-1, target[:, None], 0.0).amax(-1)
    leads = probs.gather(-1, target[:, None])[:, 0] - rivals > 0.1
    assert leads.any()
    assert torch.equal(as_softmax_loss(logits, target) == 0.0, leads)


def test_sigsoftmax_is_attention_with_the_gate_tied_to_the_score():
    logits, target, _ = case(6, 5)
    tied = attention_loss(logits, logits, target, floor=0.0)
    assert_close(sigsoftmax_loss(logits, target), tied.detach(), "value")
    large = logits + 100.0
    assert_close(sigsoftmax_loss(large, target), softmax_loss(large, target).detach(), "value")


def test_one_vs_rest_is_torchs_binary_cross_entropy_summed():
    logits, target, _ = case(6, 5)
    one_hot = F.one_hot(target, 5).double()
    plain = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(-1)
    assert_close(one_vs_rest_loss(logits, target), plain.detach(), "value")
    sure = torch.tensor([1e4, -1e4, -1e4])
    assert one_vs_rest_loss(sure, torch.tensor(0)).item() == 0.0
    assert one_vs_rest_loss(torch.tensor([40.0, -40.0]), torch.tensor(0)).item() > 0.0


@pytest.mark.parametrize("name", ["sigsoftmax", "one_vs_rest"])
def test_what_heads_with_a_sigmoid_predict(name):
    logits, _, _ = case(6, 5)
    head = dropmax.make_head(name, 3, 5, dtype=torch.float64)
    probs = head.log_probs(dropmax.Scores(logits)).exp()
    assert_close(probs.sum(-1), torch.ones(6), "value")
    masses = logits.sigmoid() * (logits.exp() if name == "sigsoftmax" else 1.0)
    assert_close(probs, (masses / masses.sum(-1, keepdim=True)).detach(), "value")
