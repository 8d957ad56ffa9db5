"""Heads that studies alone ask for: each differs from DropMax by what it says, and no more."""

import math

import pytest
import reference
import seeded
import torch
from raised import raises
from tolerances import assert_close

import dropmax
from dropmax import Scores
from dropmax.heads import DropMaxHead
from studies import (
    DrawnTargetHead,
    EarlierDefaultHead,
    PluginNllHead,
    SeeingGateHead,
    register_variants,
)

TEMPERATURE, FLOOR = 0.1, 1e-20


def case(kind, *, num_classes=5, count=7):
    """A head as published, scores that gradients flow into, targets and noise, in float64."""
    generator = seeded.generator(3)
    head = kind(4, num_classes, preset="paper", dtype=torch.float64)
    drawn = 2.0 * torch.randn(3, count, num_classes, generator=generator, dtype=torch.float64)
    scores = Scores(*(one.clone().requires_grad_() for one in drawn))
    target = torch.randint(num_classes, (count,), generator=generator)
    noise = torch.rand(count, num_classes, generator=generator, dtype=torch.float64)
    return head, scores, target, noise.clamp(1e-3, 1.0 - 1e-3)


def terms(head, scores, target, noise):
    return head.raw_loss(scores, target, reduction="none", noise=noise)


def each(scores, target, noise):
    rows = [branch.tolist() for branch in scores]
    return zip(*rows, target.tolist(), noise.tolist(), strict=True)


def posterior(_o, r, c):
    return [prior + added for prior, added in zip(r, c, strict=True)]


def drawn_nll(o, r, c, t, u):
    """With the mask of the target drawn as well."""
    weights = [
        reference.sigmoid((g + math.log(x) - math.log1p(-x)) / TEMPERATURE) + FLOOR
        for g, x in zip(posterior(o, r, c), u, strict=True)
    ]
    return reference.weighted_nll(o, weights, t)


def plugin_nll(o, r, _c, t, _u):
    return -math.log(reference.plugin(o, r, FLOOR)[t])


def published_nll(o, r, c, t, u):
    return reference.masked_nll(o, posterior(o, r, c), t, u, TEMPERATURE, FLOOR)


def drawn_kl(o, r, c, _t, _u):
    pairs = zip(posterior(o, r, c), r, strict=True)
    return math.fsum(reference.bernoulli_kl(g, prior) for g, prior in pairs)


def published_kl(o, r, c, t, u):
    return reference.dropmax_objective(o, r, c, t, [u])[1]


EXPECTED = {
    PluginNllHead: (plugin_nll, published_kl),
    DrawnTargetHead: (drawn_nll, drawn_kl),
    SeeingGateHead: (published_nll, published_kl),
}


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_terms_are_those_of_a_loop_over_classes(kind):
    head, scores, target, noise = case(kind)
    found = terms(head, scores, target, noise)
    nll, kl = EXPECTED[kind]
    rows = list(each(scores, target, noise))
    for name, expected in (("nll", nll), ("kl", kl)):
        values = torch.tensor([expected(*row) for row in rows], dtype=torch.float64)
        assert_close(getattr(found, name).detach(), values, "value")
    plain = [reference.dropmax_objective(o, r, c, t, [u])[2:] for o, r, c, t, u in rows]
    for name, values in zip(("neg_entropy", "aux"), zip(*plain, strict=True), strict=True):
        expected = torch.tensor(values, dtype=torch.float64)
        assert_close(getattr(found, name).detach(), expected, "value")
    assert_close(found.total, sum(found[1:]), "value")


def reaches_the_gate(kind):
    """Whether the nll has a gradient in the prior, and the published value."""
    head, scores, target, noise = case(kind)
    nll = terms(head, scores, target, noise).nll.sum()
    (gradient,) = torch.autograd.grad(nll, scores.retain_logits, allow_unused=True)
    return gradient is not None and bool(gradient.any()), nll.item()


def test_gates_see_the_nll_where_they_are_to_and_nowhere_else():
    sees, value = reaches_the_gate(SeeingGateHead)
    published, same = reaches_the_gate(DropMaxHead)
    assert (sees, published) == (True, False)
    assert value == pytest.approx(same)
    assert not reaches_the_gate(DrawnTargetHead)[0]


@pytest.mark.parametrize("kind", [SeeingGateHead, PluginNllHead], ids=lambda kind: kind.__name__)
def test_the_kl_pushes_the_gate_as_that_of_dropmax_does(kind):
    found = []
    for made in (kind, DropMaxHead):
        head, scores, target, noise = case(made)
        kl = terms(head, scores, target, noise).kl.sum()
        found += torch.autograd.grad(kl, scores.retain_logits)
    assert_close(found[0], found[1], "value")


def test_the_masks_of_the_plugins_nll_are_trained_by_kl_and_correction_alone():
    head, scores, target, noise = case(PluginNllHead)
    found = terms(head, scores, target, noise)
    (gradient,) = torch.autograd.grad(
        found.nll.sum(), scores.correction_logits, allow_unused=True, retain_graph=True
    )
    assert gradient is None or not gradient.any()
    (gradient,) = torch.autograd.grad(found.total.sum(), scores.correction_logits)
    assert gradient.any()


@pytest.mark.parametrize(
    ("num_classes", "prior", "strength", "aux_weight", "share"),
    [
        (10, "base_rate", 4.0, 1.0, 0.0),
        (77, "label", 0.15264227530339083, 0.12987012987012986, 0.8701298701298701),
        (100, "label", 0.10047545726038319, 0.1, 0.9),
    ],
)
def test_the_earlier_default_is_that_of_older_lines(
    num_classes, prior, strength, aux_weight, share
):
    head = EarlierDefaultHead(4, num_classes, gate_rank=2)
    weights = head.kl_weight, head.entropy_weight, head.aux_weight
    assert weights == (strength, strength, aux_weight)
    assert (head.aux_prior, head.plugin_share, head.gate_rank) == (prior, share, 2)


def test_studies_make_them_by_name():
    register_variants(["softmax", "dropmax:masks=mean"])
    assert "dropmax_drawn_target" not in dropmax.HEADS, "nobody has asked for it"
    register_variants(["softmax", "dropmax_drawn_target:preset=paper"])
    made = dropmax.make_head("dropmax_drawn_target:preset=paper,kl_weight=2.0", 4, 3)
    assert isinstance(made, DrawnTargetHead)
    assert made.kl_weight == 2.0
    assert not made.can_fuse, "which would train DropMax"


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("option", [{"masks": "mean"}, {"num_samples": 2}, {"plugin_share": 0.5}])
def test_options_that_a_variant_does_not_read_are_refused(kind, option):
    with raises(ValueError, f"{kind.__name__}: {next(iter(option))}"):
        kind(4, 20, preset="paper", **option)
    with raises(ValueError, f"{kind.__name__}: plugin_share"):
        kind(4, 20)
