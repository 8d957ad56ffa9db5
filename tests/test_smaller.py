"""Heads without noise whose posterior is the label: oracle, gradients, a gate tied to the score."""

import math

import pytest
import reference
import torch
import torch.nn.functional as F
from raised import raises
from tolerances import assert_close
from torch.autograd import gradcheck

import dropmax
from dropmax.functional import label_objective, posterior_objective
from dropmax.heads import DropMaxLabelHead, DropMaxTiedHead

HEADS = (DropMaxLabelHead, DropMaxTiedHead)


def case(*shape):
    logits, retain_logits = (2.0 * torch.randn(*shape, dtype=torch.float64) for _ in range(2))
    target = torch.randint(shape[-1], shape[:-1])
    return logits.requires_grad_(), retain_logits.requires_grad_(), target


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["indices", "smoothing", "probabilities", "both"])
@pytest.mark.parametrize("floor", [0.0, 1e-20, 0.1])
@pytest.mark.parametrize("num_classes", [2, 6])
def test_label_objective(num_classes, floor, kind, weighted, masked):
    """The terms by every class as the target, the last one masked or not."""
    logits, retain_logits, target = case(5, num_classes)
    possible = list(range(num_classes - masked))
    with torch.no_grad():
        logits[:, len(possible) :] = -math.inf
    shares = F.pad(torch.rand(5, len(possible), dtype=torch.float64).softmax(-1), (0, int(masked)))
    target = target % len(possible)
    smoothing = 0.3 if kind in ("smoothing", "both") else 0.0
    label = shares if kind in ("probabilities", "both") else target
    if label is target:
        shares = F.one_hot(target, num_classes).double()
    weight = torch.rand(num_classes, dtype=torch.float64) if weighted else None
    options = {"floor": floor, "weight": weight, "label_smoothing": smoothing}
    found = label_objective(logits, retain_logits, label, **options)
    factors = torch.ones(num_classes) if weight is None else weight
    smooth = factors * ((1.0 - smoothing) * shares + smoothing / num_classes)
    sums = [[], [], []]
    for *rows, of_nll, of_rest in zip(
        *(x.tolist() for x in (logits, retain_logits, smooth, factors * shares)), strict=True
    ):
        each = [reference.label_objective(*rows, k, floor) for k in possible]
        for n, (total, share) in enumerate(zip(sums, (of_nll, of_rest, of_rest), strict=True)):
            total.append(math.fsum(share[k] * each[k][n] for k in possible))
    for term, expected in zip(found[1:4], sums, strict=True):
        assert_close(term, expected, "value")
    assert not found.aux.any()
    assert_close(found.total, sum(found[1:]).detach(), "reordered")
    finite = logits.detach()[:, possible].requires_grad_()

    def total(x, r):
        x = F.pad(x, (0, int(masked)), value=-math.inf)
        return label_objective(x, r, label, **options).total

    assert gradcheck(total, (finite, retain_logits))
    for gradient in torch.autograd.grad(found.total.sum(), (logits, retain_logits)):
        assert gradient.isfinite().all()


def test_its_kl_is_that_of_the_posterior_that_is_the_label():
    logits, retain_logits, target = case(7, 5)
    certain = torch.where(F.one_hot(target, 5).bool(), math.inf, -math.inf).double()
    expected = posterior_objective(logits, retain_logits, certain, target)
    found = label_objective(logits, retain_logits, target)
    assert_close(found.kl, expected.kl.detach(), "value")
    assert_close(found.neg_entropy, expected.neg_entropy.detach(), "value")


@pytest.mark.parametrize("make", HEADS)
def test_weights_multiply_the_terms_and_can_be_scheduled(make):
    head = make(6, 5, kl_weight=0.5, entropy_weight=0.25, floor=0.01, dtype=torch.float64)
    features, target = torch.randn(7, 6, dtype=torch.float64), torch.arange(7) % 5
    scores = head(features)
    raw = label_objective(*scores[:2], target, floor=0.01)
    for kl, entropy in ((0.5, 0.25), (0.0, 2.0)):
        head.kl_weight, head.entropy_weight = kl, entropy
        expected = (raw.nll, kl * raw.kl, entropy * raw.neg_entropy, raw.aux)
        found = head.loss(scores, target, reduction="none")
        for term, value in zip(found[1:], expected, strict=True):
            assert_close(term, value.detach(), "reordered")
        assert_close(found.total, sum(expected).detach(), "reordered")
    probs = dropmax.predictive.plugin(*scores[:2], floor=0.01)
    assert_close(head.log_probs(scores), probs.detach(), "reordered")
    assert head.predictive_methods == ("plugin",)


def tied(scale, shift, masked=()):
    head = DropMaxTiedHead(6, 5, dtype=torch.float64)
    with torch.no_grad():
        head.gate_scale.fill_(scale)
        head.gate_shift.fill_(shift)
        head.bias[list(masked)] = -math.inf
    return head


@pytest.mark.parametrize("make", HEADS)
@pytest.mark.parametrize(("option", "value"), [("kl_weight", -1.0), ("floor", 1.0)])
def test_options_that_are_set_later_are_checked_too(make, option, value):
    head = make(6, 5)
    before = head.options()
    with raises(ValueError, f"dropmax: {option}"):
        setattr(head, option, value)
    assert head.options() == before


def test_a_tied_gate_is_a_line_in_the_score():
    head = tied(0.7, -0.3)
    scores = head(torch.randn(7, 6, dtype=torch.float64))
    assert_close(scores.retain_logits, (0.7 * scores.logits - 0.3).detach(), "value")
    masses = scores.retain_logits.sigmoid() * scores.logits.exp()
    expected = (masses / masses.sum(-1, keepdim=True)).detach()
    assert_close(head.log_probs(scores).exp(), expected, "value")


def test_a_tied_gate_of_scale_0_predicts_as_softmax_does():
    head, features = tied(0.0, 0.5), torch.randn(7, 6, dtype=torch.float64)
    scores = head(features)
    assert_close(head.log_probs(scores), scores.logits.log_softmax(-1).detach(), "value")


@pytest.mark.parametrize("scale", [0.0, 1.5, -1.5])
def test_a_masked_class_leaves_a_tied_gate_finite(scale):
    """Values and gradients; its gate is that of logit 0, and it is never predicted."""
    head = tied(scale, 2.0, masked=[4])
    features, target = torch.randn(7, 6, dtype=torch.float64), torch.arange(7) % 4
    scores = head(features)
    assert_close(scores.retain_logits[:, 4], torch.full((7,), 2.0), "value")
    log_probs = head.log_probs(scores)
    assert log_probs[:, 4].isneginf().all()
    assert log_probs[:, :4].isfinite().all()
    for label in (target, F.one_hot(target, 5).double()):
        head.zero_grad()
        objective = head.loss(head(features), label, label_smoothing=0.1)
        assert all(term.isfinite() for term in objective)
        objective.total.backward()
        assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
        assert head.gate_scale.grad.any()


def test_a_tied_gate_starts_anew_and_is_spared_by_weight_decay():
    head = tied(0.7, -0.3)
    decayed, spared = dropmax.decay_groups(head, 0.1)
    assert [id(p) for p in spared["params"]] == [id(head.gate_scale), id(head.gate_shift)]
    assert {id(p) for p in decayed["params"]} == {id(head.weight), id(head.bias)}
    head.reset_parameters()
    assert (head.gate_scale.item(), head.gate_shift.item()) == (0.0, 2.0)


def test_a_tied_gate_that_has_learned_is_not_dropped_unasked():
    model = torch.nn.Sequential(torch.nn.Linear(6, 5))
    features = torch.randn(7, 6)
    before = model(features).log_softmax(-1).detach()
    dropmax.convert(model, head="dropmax_tied")
    assert_close(dropmax.Predictor(model)(features), before, "value")
    dropmax.revert(model)
    assert_close(model(features).log_softmax(-1), before, "value")
    dropmax.convert(model, head="dropmax_tied")
    with torch.no_grad():
        model[0].gate_scale.fill_(0.5)
    with raises(ValueError, "revert: model"):
        dropmax.revert(model)
    assert isinstance(dropmax.revert(model, drop_gate=True)[0], torch.nn.Linear)
