"""The exact predictive, its posterior and its normalizer, against the enumeration of all masks."""

import itertools
import math

import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from raised import raises
from test_predictive import LiveTensors
from tolerances import TOLERANCES, assert_close, rounding
from torch.autograd import gradcheck, gradgradcheck

from dropmax.functional import analytic_correction
from dropmax.predictive import (
    error_bound,
    exact,
    expected_log_normalizer,
    log_marginal,
    mask_posterior,
    plugin,
)
from dropmax.predictive.bound import (
    cuts,
    left_cut_error,
    right_cut_error,
    trapezoid_error,
)

TIGHT = 1e-11
SCALES = list(itertools.product((1.0, 10.0, 60.0), (0.0, 1.0, 5.0, 30.0)))


def case(num_classes, scale, gate, dtype=torch.float64, instances=2):
    logits = scale * torch.randn(instances, num_classes, dtype=torch.float64)
    retain_logits = gate * torch.randn(instances, num_classes, dtype=torch.float64)
    target = torch.randint(num_classes, (instances,))
    return logits.to(dtype), retain_logits.to(dtype), target


def truth(logits, retain_logits, target):
    """Each quantity of `reference.enumerate_masks`, stacked over instances, in float64."""
    rows = zip(logits.tolist(), retain_logits.tolist(), target.tolist(), strict=True)
    results = zip(*(reference.enumerate_masks(*row) for row in rows), strict=True)
    return [torch.tensor(result, dtype=torch.float64) for result in results]


@pytest.mark.parametrize("num_classes", range(1, 13))
def test_equals_enumeration_of_all_masks_and_stays_within_the_bound(num_classes, dtype):
    tolerance = TOLERANCES[dtype, "exact"][1]
    for scale, gate in SCALES:
        logits, retain_logits, target = case(num_classes, scale, gate, dtype)
        log_probs, odds, odds_kept, log_normalizer, _ = truth(logits, retain_logits, target)
        at_target = log_probs.gather(-1, target[:, None]).squeeze(-1)
        assert_close(exact(logits, retain_logits), log_probs, "exact")
        assert_close(log_marginal(logits, retain_logits, target), at_target, "exact")
        actual = mask_posterior(logits, retain_logits, target)
        assert_close(actual, odds, "exact odds")
        assert_close(actual.sigmoid(), odds.sigmoid(), "exact")
        actual = mask_posterior(logits, retain_logits, target, target_kept=True)
        rivals = ~F.one_hot(target, num_classes).bool()
        assert_close(actual[rivals], odds_kept[rivals], "exact odds")
        assert (actual[~rivals] == math.inf).all()
        actual = expected_log_normalizer(logits, retain_logits)
        assert_close(actual, log_normalizer, "exact")

        extra = rounding(float(logits.amax() - logits.amin()), dtype)
        error = (exact(logits, retain_logits).double() - log_probs).expm1().abs()
        assert (error <= tolerance + extra).all()
        for num_nodes in (20, 60, 200):
            bound = error_bound(logits, num_nodes=num_nodes).double()
            error = exact(logits, retain_logits, num_nodes=num_nodes).double() - log_probs
            assert (error.expm1().abs() <= bound[:, None] + extra).all(), (scale, gate, num_nodes)
            error = log_marginal(logits, retain_logits, target, num_nodes=num_nodes) - at_target
            assert (error.double().expm1().abs() <= bound + extra).all(), (scale, gate, num_nodes)
            tight = bound < 0.5  # the step is below pi, and both integrals are positive
            error = mask_posterior(logits, retain_logits, target, num_nodes=num_nodes) - odds
            allowed = bound.log1p() - (-bound).log1p() + extra
            assert (error.double().abs() <= allowed[:, None])[tight].all()
            error = expected_log_normalizer(logits, retain_logits, num_nodes=num_nodes)
            assert ((error - log_normalizer).double().abs() <= bound + extra)[tight].all()


@pytest.mark.parametrize("num_classes", range(1, 13))
def test_the_expected_log_normalizer_at_a_tighter_tolerance(num_classes):
    for scale, gate in SCALES:
        logits, retain_logits, target = case(num_classes, scale, gate)
        *_, log_normalizer, _ = truth(logits, retain_logits, target)
        actual = expected_log_normalizer(logits, retain_logits, tolerance=TIGHT)
        assert_close(actual, log_normalizer, "exact tight")
        kept = retain_logits.masked_fill(F.one_hot(target, num_classes).bool(), 500.0)
        *_, log_normalizer, _ = truth(logits, kept, target)
        actual = expected_log_normalizer(logits, retain_logits, target=target, tolerance=TIGHT)
        assert_close(actual, log_normalizer, "exact tight")


def test_the_bound_is_attained_by_a_single_mask():
    """One open gate leaves the bare rule on exp(u - exp(u)), at whatever phase the nodes have."""
    step = cuts(1e-4).step
    shifts = torch.linspace(0, step, 200, dtype=torch.float64)
    nodes = shifts + step * torch.arange(-200.0, 60.0, dtype=torch.float64)[:, None]
    error = (step * (nodes - nodes.exp()).exp().sum(0) - 1.0).abs().max().item()
    bound = trapezoid_error(torch.tensor(step, dtype=torch.float64)).item()
    assert 0.95 * bound < error <= bound * (1 + 1e-6)


def test_the_stated_bound_is_its_leading_term():
    for step in (0.3, 0.52, 0.8):
        leading = 4 * math.pi / math.sqrt(step) * math.exp(-(math.pi**2) / step)
        bound = trapezoid_error(torch.tensor(step, dtype=torch.float64)).item()
        assert bound == pytest.approx(leading, rel=1e-3)


@pytest.mark.parametrize("tolerance", [1e-14, 1e-9, 1e-6, 1e-4, 1e-2, 0.1, 0.49])
def test_step_and_cuts_of_a_tolerance_keep_it(tolerance):
    step, left, right = cuts(tolerance)
    step = torch.tensor(step, dtype=torch.float64)
    errors = (trapezoid_error(step), left_cut_error(step, left), right_cut_error(right))
    assert 0.5 * tolerance < sum(errors) <= tolerance


def test_the_nodes_and_bounds_that_the_documentation_states():
    step, left, right = cuts(1e-4)
    assert [math.ceil((spread + left + right) / step) for spread in (10, 60)] == [32, 100]
    logits = -torch.tensor([[0.0, 70.0], [0.0, 150.0], [0.0, 300.0]])
    bounds = error_bound(logits, num_nodes=128).tolist()
    assert bounds[0] < 1e-4
    assert bounds[1:] == pytest.approx([0.005, 0.15], rel=0.05)


def test_a_looser_and_a_tighter_tolerance_keep_what_they_promise():
    logits, retain_logits, target = case(8, 5.0, 2.0)
    log_probs, *_ = truth(logits, retain_logits, target)
    errors = []
    for tolerance in (1e-1, 1e-3, 1e-6, 1e-10):
        error = (exact(logits, retain_logits, tolerance=tolerance) - log_probs).expm1().abs().max()
        assert error <= tolerance + rounding(40.0, logits.dtype)
        errors.append(error.item())
    assert errors == sorted(errors, reverse=True)


def test_open_gates_are_softmax_and_closed_ones_are_softmax():
    logits, _, target = case(6, 5.0, 0.0)
    softmax = logits.log_softmax(-1)
    for gate in (500.0, -500.0, math.inf, -math.inf):
        gates = torch.full_like(logits, gate)
        log_probs = exact(logits, gates, tolerance=1e-12)
        assert_close(log_probs, softmax, "exact tight")
        at_target = log_marginal(logits, gates, target, tolerance=1e-12)
        assert_close(at_target, softmax.gather(-1, target[:, None]).squeeze(-1), "exact tight")
        normalizer = expected_log_normalizer(logits, gates, tolerance=1e-12)
        assert_close(normalizer, logits.logsumexp(-1), "exact tight")


def test_a_logit_of_minus_infinity_deletes_the_class():
    logits, retain_logits, _ = case(6, 3.0, 2.0)
    rest, target = [0, 1, 3, 4, 5], torch.tensor([0, 4])
    expected = exact(logits[:, rest], retain_logits[:, rest], tolerance=TIGHT)
    odds = mask_posterior(logits[:, rest], retain_logits[:, rest], target.clamp(max=3))
    normalizer = expected_log_normalizer(logits[:, rest], retain_logits[:, rest], tolerance=TIGHT)
    logits[:, 2] = -math.inf
    log_probs = exact(logits, retain_logits, tolerance=TIGHT)
    assert_close(log_probs[:, rest], expected, "exact tight")
    assert (log_probs[:, 2] == -math.inf).all()
    assert_close(mask_posterior(logits, retain_logits, target)[:, rest], odds, "exact odds")
    actual = expected_log_normalizer(logits, retain_logits, tolerance=TIGHT)
    assert_close(actual, normalizer, "exact tight")


@pytest.mark.parametrize("closed", [-500.0, -math.inf])
def test_a_closed_gate_deletes_the_class_but_from_the_mask_that_drops_all(closed):
    logits, retain_logits, _ = case(6, 3.0, 2.0)
    rest = [0, 1, 3, 4, 5]
    retain_logits[:, 2] = closed
    log_none = F.logsigmoid(-retain_logits).sum(-1, keepdim=True)
    some = exact(logits[:, rest], retain_logits[:, rest], tolerance=TIGHT).exp()
    some -= (log_none + logits[:, rest].log_softmax(-1)).exp()
    none = (log_none + logits.log_softmax(-1)).exp()
    actual = exact(logits, retain_logits, tolerance=TIGHT).exp()
    assert_close(actual[:, rest], some + none[:, rest], "exact tight")
    assert_close(actual[:, 2], none[:, 2], "exact tight")


def test_a_likely_rival_that_is_almost_never_dropped(dtype):
    """The only mass of the other class has a probability that underflows in float32."""
    logits = torch.tensor([[0.0, -300.0]], dtype=dtype)
    retain_logits = torch.tensor([[120.0, 0.0]], dtype=dtype)
    log_probs, odds, *_ = truth(logits, retain_logits, torch.tensor([1]))
    assert_close(exact(logits, retain_logits), log_probs, "exact")
    assert_close(mask_posterior(logits, retain_logits, torch.tensor([1])), odds, "exact odds")


def test_one_class_is_certain():
    logits, retain_logits, target = case(1, 60.0, 5.0)
    assert_close(exact(logits, retain_logits), torch.zeros(2, 1), "exact")
    assert_close(log_marginal(logits, retain_logits, target), torch.zeros(2), "exact")


def test_ten_thousand_classes_are_finite_and_sum_to_one(dtype):
    logits, retain_logits, target = case(10_000, 3.0, 2.0, dtype, instances=3)
    log_probs = exact(logits, retain_logits)
    assert log_probs.isfinite().all()
    assert_close(log_probs.double().exp().sum(-1).to(dtype), torch.ones(3), "exact")
    at_target = log_probs.gather(-1, target[:, None]).squeeze(-1)
    assert_close(log_marginal(logits, retain_logits, target), at_target.double(), "exact")


@pytest.mark.parametrize("gate", [0.0, 0.3, 5.0])
def test_rounding_does_not_add_up_over_many_classes_with_one_gate(gate):
    """As every head starts: a bias of a quarter of the last digit would sum to 4e-4."""
    logits = torch.randn(2, 10_000)
    retain_logits = torch.full_like(logits, gate)
    log_probs = exact(logits, retain_logits, tolerance=1e-6)
    expected = exact(logits.double(), retain_logits.double(), tolerance=1e-9)
    assert_close(log_probs, expected, "precision tight")
    assert_close(log_probs.double().exp().sum(-1), torch.ones(2), "precision tight")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_instance_leaves_the_others_alone(bad):
    logits, retain_logits, target = case(6, 3.0, 2.0, instances=4)
    good = exact(logits, retain_logits), log_marginal(logits, retain_logits, target)
    logits[2, 0] = bad
    spoiled = exact(logits, retain_logits), log_marginal(logits, retain_logits, target)
    for one, other in zip(good, spoiled, strict=True):
        assert other[2].isnan().any()
        assert_close(other[[0, 1, 3]], one[[0, 1, 3]], "exact")


def test_a_target_without_probability():
    logits = torch.tensor([0.0, -math.inf, 1.0], dtype=torch.float64)
    gates, target = torch.zeros(3, dtype=torch.float64), torch.tensor(1)
    assert log_marginal(logits, gates, target) == -math.inf
    assert expected_log_normalizer(logits, gates, target=target) == -math.inf
    assert expected_log_normalizer(logits, gates, target=torch.tensor(0)).isfinite()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(half):
    logits, retain_logits, target = case(5, 3.0, 2.0, half)
    log_probs = exact(logits, retain_logits)
    expected = exact(logits.float(), retain_logits.float())
    assert log_probs.dtype == half
    assert torch.equal(log_probs, expected.to(half))
    assert log_marginal(logits, retain_logits, target).dtype == torch.float32
    assert mask_posterior(logits, retain_logits, target).dtype == torch.float32


@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("num_classes", [1, 2, 6])
def test_gradients_are_exact(num_classes, scale):
    logits, retain_logits, target = case(num_classes, scale, 3.0, instances=3)
    inputs = (logits.requires_grad_(), retain_logits.requires_grad_())
    for options in ({"tolerance": 1e-12}, {"tolerance": 1e-12, "num_nodes": 300}):
        assert gradcheck(lambda o, r, options=options: exact(o, r, **options), inputs)
        assert gradcheck(
            lambda o, r, options=options: log_marginal(o, r, target, **options), inputs
        )


def test_gradients_are_those_of_the_enumeration():
    logits, retain_logits, target = case(5, 10.0, 5.0)

    def enumerated(logits, retain_logits):
        terms = []
        for mask in itertools.product((False, True), repeat=5):
            mask = torch.tensor(mask)
            log_prob = F.logsigmoid(torch.where(mask, retain_logits, -retain_logits)).sum(-1)
            kept = logits.masked_fill(~mask & mask.any(), -math.inf).log_softmax(-1)
            terms.append(log_prob + kept.gather(-1, target[:, None]).squeeze(-1))
        return torch.stack(terms).logsumexp(0).sum()

    expected = torch.func.grad(enumerated, (0, 1))(logits, retain_logits)
    actual = torch.func.grad(
        lambda o, r: log_marginal(o, r, target, tolerance=TIGHT, num_nodes=600).sum(), (0, 1)
    )(logits, retain_logits)
    for gradient, value in zip(actual, expected, strict=True):
        assert_close(gradient, value, "exact tight")


def test_second_derivatives():
    logits, retain_logits, target = case(4, 2.0, 1.0)
    inputs = (logits.requires_grad_(), retain_logits.requires_grad_())
    options = {"tolerance": 1e-12, "num_nodes": 150}
    assert gradgradcheck(lambda o, r: exact(o, r, **options), inputs)
    assert gradgradcheck(lambda o, r: log_marginal(o, r, target, **options), inputs)


def test_gradients_stay_finite_where_a_class_has_no_mass():
    logits = torch.tensor([[0.0, 2.0, -math.inf]], requires_grad=True)
    retain_logits = torch.tensor([[-math.inf, math.inf, 0.0]], requires_grad=True)
    log_probs = exact(logits, retain_logits)
    assert log_probs[0].tolist()[::2] == [-math.inf, -math.inf]
    gradients = torch.autograd.grad(log_probs[0, 1], (logits, retain_logits))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_any_leading_dimensions_and_none():
    logits, retain_logits, target = case(5, 3.0, 2.0, instances=6)
    flat = exact(logits, retain_logits)
    shaped = (2, 1, 3)
    wide = exact(logits.reshape(*shaped, 5), retain_logits.reshape(*shaped, 5))
    assert torch.equal(wide, flat.reshape(*shaped, 5))
    marginal = log_marginal(logits[0], retain_logits[0], target[0])
    assert marginal.shape == ()
    assert_close(marginal, flat[0, target[0]], "exact")
    none, no_target = logits[:0].requires_grad_(), target[:0]
    assert exact(none, retain_logits[:0]).shape == (0, 5)
    assert mask_posterior(none, retain_logits[:0], no_target).shape == (0, 5)
    assert expected_log_normalizer(none, retain_logits[:0]).shape == (0,)
    log_marginal(none, retain_logits[:0], no_target).sum().backward()
    assert none.grad.shape == (0, 5)


@given(shift=st.floats(-1e3, 1e3), seed=st.integers(0, 1000))
def test_laws(shift, seed):
    """Shift invariance, permutation of classes, and a predictive that sums to one."""
    torch.manual_seed(seed)
    logits, retain_logits, _ = case(7, 5.0, 3.0)
    log_probs = exact(logits, retain_logits)
    assert_close(log_probs.exp().sum(-1), torch.ones(2), "exact")
    assert_close(exact(logits + shift, retain_logits), log_probs, "exact tight")
    order = torch.randperm(7)
    permuted = exact(logits[:, order], retain_logits[:, order])
    assert_close(permuted, log_probs[:, order], "exact tight")


def test_the_plugin_is_something_else():
    logits, retain_logits, _ = case(6, 3.0, 1.0)
    assert (plugin(logits, retain_logits) - exact(logits, retain_logits)).abs().max() > 0.05


@pytest.mark.slow
def test_memory_does_not_grow_with_the_nodes_forward_and_backward():
    logits, retain_logits, target = case(1000, 2.0, 1.0, torch.float32, instances=300)

    def peak(num_nodes, function):
        inputs = (logits.clone().requires_grad_(), retain_logits.clone().requires_grad_())
        with LiveTensors() as watch:
            function(*inputs, num_nodes=num_nodes).sum().backward()
        return watch.peak

    for function in (exact, lambda o, r, **options: log_marginal(o, r, target, **options)):
        few, many = peak(30, function), peak(300, function)
        assert logits.numel() < many <= 1.01 * few
        assert many < 16 * logits.numel()


def test_logits_too_far_apart_are_refused_with_a_way_out():
    logits = torch.tensor([0.0, -20_000.0])
    with raises(ValueError, "exact: logits"):
        exact(logits, torch.zeros(2))
    assert exact(logits, torch.zeros(2), num_nodes=50_000).isfinite().all()


@pytest.mark.parametrize("num_classes", [1, 2, 7])
def test_the_analytic_correction(num_classes):
    for scale, gate in SCALES:
        logits, retain_logits, target = case(num_classes, scale, gate)
        rows = zip(logits.tolist(), retain_logits.tolist(), target.tolist(), strict=True)
        expected = [reference.analytic_correction(*row) for row in rows]
        actual = analytic_correction(logits, retain_logits, target)
        assert_close(actual, expected, "value")
        assert (actual <= 0.0).all()


def test_the_analytic_correction_of_ties(dtype):
    for shift in torch.linspace(-60, 60, 200).tolist():
        logits = torch.tensor([[shift, shift], [shift, shift - 50.0]], dtype=dtype)
        retain_logits = torch.tensor([[0.0, 50.0], [0.0, 50.0]], dtype=dtype)
        found = analytic_correction(logits, retain_logits, torch.tensor([0, 0]))
        expected = [
            reference.analytic_correction(*row, 0)
            for row in zip(logits.tolist(), retain_logits.tolist(), strict=True)
        ]
        assert_close(found, expected, "value")


def test_the_analytic_correction_recovers_part_of_the_exact_one():
    """In the mean over rivals of likely targets, between a half and all of it."""
    logits, retain_logits, _ = case(10, 1.0, 1.0, instances=200)
    target = logits.argmax(-1)
    posterior = mask_posterior(logits, retain_logits, target, target_kept=True)
    rivals = ~F.one_hot(target, 10).bool()
    needed = (posterior - retain_logits)[rivals].mean()
    found = analytic_correction(logits, retain_logits, target)[rivals].mean()
    assert 0.5 < found / needed < 1.0
