"""The variational objective: the authors' numbers, the oracle, gradients, limits."""

import json
import math
from pathlib import Path

import pytest
import reference
import seeded
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close
from torch.autograd import gradcheck
from variants import dropmax_objective

from dropmax.functional import Objective, posterior_objective, softmax_loss

OFFICIAL = json.loads((Path(__file__).parent / "data" / "official_losses.json").read_text())
OFFICIAL_NAMES = {
    "total": "total_genmask_u",
    "nll": "cross_entropy_genmask_u",
    "kl": "kl_divergence",
    "neg_entropy": "neg_entropy",
    "aux": "auxloss",
}
TERMS = ("nll", "kl", "neg_entropy", "aux")


def case(*shape, dtype=torch.float64, scale=2.0, num_samples=1, seed=0):
    """Random logits, retain_logits, correction_logits, target and noise."""
    generator = seeded.generator(seed)
    o, r, c = (
        scale * torch.randn(*shape, dtype=dtype, generator=generator).requires_grad_()
        for _ in range(3)
    )
    target = torch.randint(shape[-1], shape[:-1], generator=generator)
    samples = (num_samples,) if num_samples > 1 else ()
    noise = torch.rand(*samples, *shape, dtype=torch.float64, generator=generator)
    return (
        *(x.detach().requires_grad_() for x in (o, r, c)),
        target,
        noise.clamp(1e-6, 1 - 1e-6),
    )


@pytest.mark.parametrize("term", OFFICIAL_NAMES)
def test_equals_the_authors_values_and_gradients(term):
    o, r, c, noise = (
        torch.tensor(OFFICIAL["inputs"][key], dtype=torch.float64).requires_grad_(key != "u")
        for key in ("o", "ph", "rh", "u")
    )
    target = torch.tensor(OFFICIAL["labels"])
    value = getattr(dropmax_objective(o, r, c, target, noise=noise), term).mean()
    official = OFFICIAL_NAMES[term]
    assert_close(value, OFFICIAL["float64"]["values"][official], "official value")
    gradients = torch.autograd.grad(value, (o, r, c), allow_unused=True)
    for name, gradient in zip(("o", "ph", "rh"), gradients, strict=True):
        expected = OFFICIAL["float64"]["grads"][official][name]
        if expected is None:
            assert gradient is None or not gradient.any()
        else:
            assert_close(gradient, expected, "official gradient")


@pytest.mark.parametrize("aux_prior", ["label", "base_rate", 0.2])
@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("num_classes", [1, 2, 5])
@pytest.mark.parametrize("floor", [1e-20, 1e-3, 0.0])
def test_equals_the_oracle(aux_prior, correction, num_samples, num_classes, floor):
    if not correction:
        aux_prior = "label"
    o, r, c, target, noise = case(4, num_classes, num_samples=num_samples)
    options = {"temperature": 0.3, "floor": floor, "aux_prior": aux_prior}
    objective = dropmax_objective(
        o, r, c if correction else None, target, noise=noise, num_samples=num_samples, **options
    )
    for n in range(4):
        samples = noise[:, n] if num_samples > 1 else noise[n : n + 1]
        expected = reference.dropmax_objective(
            o[n].tolist(),
            r[n].tolist(),
            c[n].tolist() if correction else None,
            int(target[n]),
            samples.tolist(),
            **options,
        )
        for term, value in zip(TERMS, expected, strict=True):
            assert_close(getattr(objective, term)[n], value, "value")
        assert_close(objective.total[n], sum(expected), "value")


@pytest.mark.parametrize(
    "options",
    [
        {"masks": "mean"},
        {"masks": "straight_through"},
        {"masks": "straight_through", "floor": 1e-3},
        {"plugin_share": 0.5},
        {"plugin_share": 0.9, "plugin_focus": 2.0},
        {"masks": "mean", "plugin_share": 0.3, "plugin_focus": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_samples", [1, 3])
def test_masks_and_the_share_of_the_plugin_equal_the_oracle(options, num_samples):
    o, r, c, target, noise = case(4, 5, num_samples=num_samples)
    objective = dropmax_objective(
        o, r, c, target, noise=noise, num_samples=num_samples, temperature=0.3, **options
    )
    for n in range(4):
        samples = noise[:, n] if num_samples > 1 else noise[n : n + 1]
        expected = reference.dropmax_objective(
            *(x[n].tolist() for x in (o, r, c)),
            int(target[n]),
            samples.tolist(),
            temperature=0.3,
            **options,
        )
        for term, value in zip(TERMS, expected, strict=True):
            assert_close(getattr(objective, term)[n], value, "value")


def test_straight_through_masks_are_hard_and_learn_as_the_relaxed_ones_that_stay():
    """Where every rival is kept, the gradient is that of logarithms of relaxed masks."""
    o, r, c, target, _ = case(3, 4)
    noise = torch.full((3, 4), 0.9, dtype=torch.float64)
    options = {"noise": noise, "temperature": 2.0, "floor": 0.0}
    c = (c.detach() * 0.1).requires_grad_()
    r = r.detach() * 0.1
    nll = dropmax_objective(o, r, c, target, masks="straight_through", **options).nll
    assert_close(nll, F.cross_entropy(o, target, reduction="none").detach(), "value")
    (gradient,) = torch.autograd.grad(nll.sum(), c)
    noisy = (r + c + torch.logit(noise)) / 2.0
    expected = o.softmax(-1) * torch.sigmoid(-noisy) / 2.0
    expected.scatter_(-1, target[:, None], 0.0)
    assert_close(gradient, expected.detach(), "gradient")


def test_masks_of_means_read_no_noise():
    o, r, c, target, noise = case(3, 4)
    drawn = dropmax_objective(o, r, c, target, masks="mean")
    given = dropmax_objective(o, r, c, target, masks="mean", noise=noise)
    assert torch.equal(drawn.nll, given.nll)


@pytest.mark.parametrize("num_samples", [1, 2])
@pytest.mark.parametrize("aux_prior", ["label", "base_rate", 0.2])
def test_gradcheck_of_logits_and_correction(num_samples, aux_prior):
    o, r, c, target, noise = case(2, 4, num_samples=num_samples)

    def objective(o, c):
        return dropmax_objective(
            o,
            r.detach(),
            c,
            target,
            noise=noise,
            num_samples=num_samples,
            temperature=0.5,
            aux_prior=aux_prior,
        )

    assert gradcheck(objective, (o, c))


def test_gradcheck_where_the_posterior_is_the_prior():
    o, r, _, target, noise = case(2, 4)

    def objective(o, r):
        return dropmax_objective(o, r, None, target, noise=noise, temperature=0.5)

    assert gradcheck(objective, (o, r))


@pytest.mark.parametrize("term", TERMS)
def test_gradient_of_retain_logits_holds_the_posteriors_copy_fixed(term):
    """Central differences of the oracle, in which only the prior moves."""
    o, r, c, target, noise = case(3, 4)
    objective = dropmax_objective(o, r, c, target, noise=noise, temperature=0.5)
    (gradient,) = torch.autograd.grad(
        getattr(objective, term).sum(), r, allow_unused=True, materialize_grads=True
    )
    step = 1e-5
    for n in range(3):
        for k in range(4):
            values = []
            for sign in (1.0, -1.0):
                moved = r[n].tolist()
                moved[k] += sign * step
                terms = reference.dropmax_objective(
                    o[n].tolist(),
                    moved,
                    c[n].tolist(),
                    int(target[n]),
                    noise[n : n + 1].tolist(),
                    temperature=0.5,
                    prior_copy=r[n].tolist(),
                )
                values.append(terms[TERMS.index(term)])
            assert_close(gradient[n, k], (values[0] - values[1]) / (2 * step), "gradient")


def test_the_prior_gets_no_gradient_from_the_nll_but_where_it_is_the_posterior():
    o, r, c, target, noise = case(3, 4)
    corrected = dropmax_objective(o, r, c, target, noise=noise).nll.sum()
    assert torch.autograd.grad(corrected, r, allow_unused=True) == (None,)
    itself = dropmax_objective(o, r, None, target, noise=noise).nll.sum()
    assert torch.autograd.grad(itself, r)[0].abs().sum() > 1e-3


def test_open_gates_give_the_softmax_loss():
    o, _, _, target, noise = case(5, 6)
    wide = torch.full_like(o, 60.0)
    for correction in (torch.zeros_like(o), None):
        objective = dropmax_objective(o, wide, correction, target, noise=noise)
        assert_close(objective.nll, softmax_loss(o, target), "limit")
        assert_close(objective.kl, torch.zeros(5), "limit")
        assert_close(objective.neg_entropy, torch.zeros(5), "limit")


def test_closed_gates_leave_the_target_alone():
    o, _, _, target, noise = case(5, 6)
    objective = dropmax_objective(o, torch.full_like(o, -60.0), None, target, noise=noise)
    assert_close(objective.nll, torch.zeros(5), "limit")
    assert_close(objective.kl, torch.full((5,), 60.0), "limit")


def test_floor_is_the_weight_of_a_dropped_class():
    """A dropped rival 46.05 nats above the target ties with it at the floor 1e-20."""
    o = torch.tensor([0.0, 46.051701859880914], dtype=torch.float64)
    closed = torch.full_like(o, -200.0)
    noise = torch.full_like(o, 0.5)
    nll = dropmax_objective(o, closed, None, torch.tensor(0), noise=noise).nll
    assert_close(nll, 0.6931471805599453, "value")


@given(
    shift=st.floats(-50, 50),
    seed=st.integers(0, 1000),
    permutation=st.permutations(range(5)),
)
def test_shift_and_class_permutation_change_nothing(shift, seed, permutation):
    o, r, c, target, noise = case(3, 5, seed=seed)
    permutation = torch.tensor(permutation)
    plain = dropmax_objective(o, r, c, target, noise=noise)
    moved = dropmax_objective(
        o[:, permutation] + shift,
        r[:, permutation],
        c[:, permutation],
        torch.argsort(permutation)[target],
        noise=noise[:, permutation],
    )
    for a, b in zip(plain, moved, strict=True):
        assert_close(a, b.detach(), "value")


@given(seed=st.integers(0, 1000))
def test_kl_is_at_least_the_targets_and_only_where_nothing_is_corrected(seed):
    _, r, c, target, noise = case(3, 5, seed=seed)
    at_target = -torch.nn.functional.logsigmoid(r).gather(-1, target[:, None])[:, 0]
    corrected = dropmax_objective(r, r, c, target, noise=noise).kl
    assert (corrected > at_target + 1e-9).all()
    assert_close(
        dropmax_objective(r, r, torch.zeros_like(c), target, noise=noise).kl,
        at_target.detach(),
        "value",
    )


def test_samples_are_averaged_and_not_summed():
    o, r, c, target, noise = case(3, 4, num_samples=6)
    together = dropmax_objective(o, r, c, target, noise=noise, num_samples=6)
    alone = [dropmax_objective(o, r, c, target, noise=u) for u in noise]
    assert_close(together.nll, torch.stack([a.nll for a in alone]).mean(0).detach(), "value")
    assert_close(together.kl, alone[0].kl.detach(), "value")


def test_aux_prior_base_rate_is_neutral_at_the_base_rate():
    """Where r = 0 the correction predicts 1/K for every class: the label's own rate."""
    num_classes = 7
    r = torch.zeros(num_classes, dtype=torch.float64)
    aux = dropmax_objective(
        r, r, r, torch.tensor(2), aux_prior="base_rate", noise=torch.full_like(r, 0.5)
    ).aux
    rate = torch.tensor(1 / num_classes, dtype=torch.float64)
    expected = -(rate.log() + (num_classes - 1) * (1 - rate).log())
    assert_close(aux, expected, "value")


def test_aux_prior_is_what_the_correction_predicts_where_it_is_zero():
    r = torch.zeros(7, dtype=torch.float64)
    aux = dropmax_objective(
        r, r, r, torch.tensor(2), aux_prior=0.1, noise=torch.full_like(r, 0.5)
    ).aux
    assert aux.item() == pytest.approx(-(math.log(0.1) + 6 * math.log(0.9)), rel=1e-12)


def test_a_gate_that_is_sure_stops_where_its_logit_is_one_over_its_probability():
    """docs/method.md: x = 1 + exp(-x), 0.782 for the label and 0.218 for its rivals."""
    x = 1.2784645427610738
    assert x == pytest.approx(1.0 + math.exp(-x), rel=1e-12)
    assert 1.0 / x == pytest.approx(0.782, abs=5e-4)
    r = torch.full((5,), -x, dtype=torch.float64)
    r[2] = x
    r.requires_grad_()
    sure = torch.full_like(r, -60.0)
    objective = dropmax_objective(r.detach(), r, sure, torch.tensor(2))
    (gradient,) = torch.autograd.grad(objective.kl + objective.neg_entropy, r)
    assert_close(gradient, torch.zeros(5), "value")


def test_one_class_has_no_rival():
    o, r, c, target, noise = case(3, 1)
    objective = dropmax_objective(o, r, c, target, noise=noise, aux_prior="base_rate")
    assert objective.nll.tolist() == [0.0, 0.0, 0.0]
    label = dropmax_objective(o, r, c, target, noise=noise, aux_prior="label")
    assert objective.aux.tolist() == label.aux.tolist()


def test_noise_may_come_from_a_generator():
    o, r, c, target, _ = case(3, 5)
    first, second, third = (
        dropmax_objective(o, r, c, target, generator=seeded.generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first.nll, second.nll)
    assert not torch.equal(first.nll, third.nll)


def test_returns_an_objective_whose_terms_sum_to_the_total():
    o, r, c, target, noise = case(2, 3, 5, dtype=torch.float32)
    objective = dropmax_objective(o, r, c, target, noise=noise)
    assert isinstance(objective, Objective)
    assert all(term.shape == (2, 3) and term.dtype == torch.float32 for term in objective)
    assert_close(objective.total, sum(objective[1:]).detach(), "value")


def test_a_given_posterior_is_the_learned_one_without_aux():
    logits, retain_logits, correction_logits = torch.randn(3, 6, 5, dtype=torch.float64)
    target, noise = torch.arange(6) % 5, torch.rand(6, 5).clamp(1e-6, 1 - 1e-6)
    inputs = [x.requires_grad_() for x in (logits, retain_logits, correction_logits)]
    learned = dropmax_objective(*inputs, target, noise=noise)
    given = posterior_objective(
        logits, retain_logits, retain_logits.detach() + correction_logits, target, noise=noise
    )
    assert torch.equal(given.total, given.nll + given.kl + given.neg_entropy)
    assert not given.aux.any()
    for name in ("nll", "kl", "neg_entropy"):
        one, other = getattr(given, name), getattr(learned, name)
        assert torch.equal(one, other)
        gradients = [
            torch.autograd.grad(x.sum(), inputs, retain_graph=True, allow_unused=True)
            for x in (one, other)
        ]
        for a, b in zip(*gradients, strict=True):
            assert (a is None and b is None) or torch.equal(a, b)


def test_a_posterior_that_is_certain_is_finite():
    logits = torch.randn(4, 5, requires_grad=True)
    retain_logits = torch.randn(4, 5, requires_grad=True)
    certain = torch.where(torch.rand(4, 5) < 0.5, math.inf, -math.inf)
    objective = posterior_objective(logits, retain_logits, certain, torch.arange(4))
    objective.total.sum().backward()
    assert objective.total.isfinite().all()
    assert logits.grad.isfinite().all()
    assert retain_logits.grad.isfinite().all()
