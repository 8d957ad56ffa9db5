"""The objective in one pass: equal to its composition, in values and every kind of gradient."""

import itertools

import pytest
import torch
from test_functional_dropmax import OFFICIAL, OFFICIAL_NAMES
from tolerances import assert_close

from dropmax.axis import LOCAL
from dropmax.functional import Label, Objective, ObjectiveOptions, dropmax_objective, one_pass
from dropmax.functional.one_pass import totaled_objective

OPTIONS = {
    "paper": {},
    "mean": {"masks": "mean"},
    "plug-in": {"plugin_share": 0.6, "plugin_focus": 1.5},
    "base rate": {"aux_prior": "base_rate", "temperature": 0.7},
    "weights": {"kl_weight": 0.3, "entropy_weight": 0.0, "aux_weight": 2.0, "plugin_share": 0.2},
    "high floor": {"floor": 0.2, "plugin_share": 0.5},
}
TERMS = Objective._fields


def case(*shape, learned=True, scale=3.0, dtype=torch.float64):
    """Scores that require gradients, targets and noise."""
    scores = [scale * torch.randn(*shape, dtype=dtype) for _ in range(3 if learned else 2)]
    scores = [score.requires_grad_() for score in scores] + [None] * (not learned)
    target = torch.randint(shape[-1], shape[:-1])
    return scores, target, torch.rand(*shape).clamp(1e-6, 1.0 - 1e-6)


def both(scores, target, noise, options, weight=None):
    """The objective in one pass, which must be taken, and that of the composition."""
    label = Label.of(target, scores[0], weight=weight, label_smoothing=0.0, axis=LOCAL)
    found = totaled_objective(*scores, label, options=options, noise=noise)
    names = {type(term.grad_fn).__name__ for term in found[:1]}
    assert weight is not None or names == {"_OnePassBackward"}
    raw = dropmax_objective(*scores, label, options=options, noise=noise)
    return found, options.totaled(*raw[1:])


def options_of(name, learned):
    options = ObjectiveOptions(**OPTIONS[name])
    fits = learned or options.aux_prior == "label"
    return options if fits else pytest.skip("aux_prior is of the learned posterior")


CASES = [case for case in itertools.product(OPTIONS, (True, False)) if case != ("base rate", False)]


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 4), (4,), (3, 1), (0, 4), (2, 0, 3)], ids=str)
@pytest.mark.parametrize(("name", "learned"), CASES)
def test_values_and_the_gradients_of_the_total_and_of_each_term(name, learned, shape, monkeypatch):
    monkeypatch.setattr(one_pass, "PART", 2 * shape[-1])
    scores, target, noise = case(*shape, learned=learned)
    objectives = both(scores, target, noise, options_of(name, learned))
    learned_scores = [score for score in scores if score is not None]
    for term in TERMS:
        one, other = (getattr(objective, term) for objective in objectives)
        assert_close(one, other.detach(), "value")
        if other.requires_grad:
            factor = torch.rand_like(other)
            gradients = (
                torch.autograd.grad(
                    value, learned_scores, factor, retain_graph=True, materialize_grads=True
                )
                for value in (one, other)
            )
            for gradient, expected in zip(*gradients, strict=True):
                assert_close(gradient, expected, "value")


@pytest.mark.parametrize("term", OFFICIAL_NAMES)
def test_equals_the_authors_values_and_gradients(term):
    *scores, noise = (
        torch.tensor(OFFICIAL["inputs"][key], dtype=torch.float64).requires_grad_(key != "u")
        for key in ("o", "ph", "rh", "u")
    )
    target = torch.tensor(OFFICIAL["labels"])
    objective, _ = both(scores, target, noise, ObjectiveOptions())
    value = getattr(objective, term).mean()
    official = OFFICIAL_NAMES[term]
    assert_close(value, OFFICIAL["float64"]["values"][official], "official value")
    gradients = torch.autograd.grad(value, scores, materialize_grads=True)
    for name, gradient in zip(("o", "ph", "rh"), gradients, strict=True):
        expected = OFFICIAL["float64"]["grads"][official][name]
        expected = torch.zeros_like(gradient) if expected is None else expected
        assert_close(gradient, expected, "official gradient")


@pytest.mark.parametrize(("name", "learned"), CASES)
def test_second_derivatives_are_those_of_the_composition(name, learned):
    scores, target, noise = case(3, 4, learned=learned)
    learned_scores = [score for score in scores if score is not None]
    found = []
    for objective in both(scores, target, noise, options_of(name, learned)):
        first = torch.autograd.grad(objective.total.sum(), learned_scores, create_graph=True)
        of_squares = sum(gradient.square().sum() for gradient in first)
        found.append(torch.autograd.grad(of_squares, learned_scores))
    for gradient, expected in zip(*found, strict=True):
        assert_close(gradient, expected, "value")


def test_scores_that_need_no_gradient_get_none():
    scores, target, noise = case(5, 4)
    scores[1] = scores[1].detach()
    options = ObjectiveOptions()
    for term in ("total", "kl"):
        grads = []
        for objective in both(scores, target, noise, options):
            getattr(objective, term).sum().backward()
            grads.append([None if s.grad is None else s.grad.clone() for s in scores])
            for score in scores:
                score.grad = None
        assert grads[0][1] is None
        for index in (0, 2):
            expected = grads[1][index]
            assert_close(
                grads[0][index], 0.0 * scores[0] if expected is None else expected, "value"
            )
    totaled_objective(
        *(score.detach() for score in scores),
        Label(target),
        options=options,
        noise=noise,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_finite_for_logits_of_ten_thousand_and_for_masked_classes(dtype):
    scores, target, noise = case(50, 6, scale=4e3, dtype=dtype)
    with torch.no_grad():
        scores[0][:, 5] = -torch.inf
    target = target.clamp(max=4)
    options = ObjectiveOptions(plugin_share=0.5, plugin_focus=1.0)
    found, expected = both(scores, target, noise, options)
    for one, other in zip(found, expected, strict=True):
        assert one.isfinite().all()
        scale = 1.0 + other.abs().max()
        assert_close(one / scale, (other / scale).detach(), "value")
    gradients = torch.autograd.grad(found.total.sum(), scores)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not gradients[0][:, 5].any()


def test_class_weights_multiply_every_term():
    scores, target, noise = case(9, 4)
    weight = torch.tensor([0.0, 1.0, 2.5, 0.3])
    found, expected = both(scores, target, noise, ObjectiveOptions(plugin_share=0.4), weight)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other.detach(), "value")


@pytest.mark.parametrize(
    "options",
    [
        {"num_samples": 2},
        {"masks": "straight_through"},
        {"floor": 0.0},
        {"floor": 1e-40},
    ],
    ids=str,
)
def test_other_options_go_the_plain_way(options):
    scores, target, noise = case(5, 4)
    options = ObjectiveOptions(**options)
    noise = torch.stack([noise] * options.num_samples) if options.num_samples > 1 else noise
    found = totaled_objective(*scores, Label(target), options=options, noise=noise)
    expected = dropmax_objective(*scores, target, options=options, noise=noise)
    assert_close(found.total, expected.total.detach(), "value")
    assert type(found.nll.grad_fn).__name__ != "_OnePassBackward"
