"""Metrics against an oracle in Python floats."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from raised import raises
from tolerances import assert_close

import dropmax
from dropmax.metrics import evaluate, gate_health, reliability

UNITS = torch.float64


def oracle(probs, target, bins=15):
    """Error, nll, floored, ece, brier of lists."""
    count = len(target)
    wrong = [max(range(len(p)), key=p.__getitem__) != t for p, t in zip(probs, target, strict=True)]
    at_target = [p[t] for p, t in zip(probs, target, strict=True)]
    members = [[] for _ in range(bins)]
    for p, miss in zip(probs, wrong, strict=True):
        members[min(math.ceil(max(p) * bins) - 1, bins - 1)].append((max(p), 1.0 - miss))
    ece = sum(
        abs(
            sum(c for c, _ in members_of_bin) / len(members_of_bin)
            - sum(a for _, a in members_of_bin) / len(members_of_bin)
        )
        * len(members_of_bin)
        for members_of_bin in members
        if members_of_bin
    )
    brier = sum(
        sum((p[k] - (k == t)) ** 2 for k in range(len(p)))
        for p, t in zip(probs, target, strict=True)
    )
    return (
        100 * sum(wrong) / count,
        sum(-math.log(max(p, 1e-12)) for p in at_target) / count,
        100 * sum(p < 1e-12 for p in at_target) / count,
        100 * ece / count,
        brier / count,
    )


@pytest.mark.parametrize("num_classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [0.5, 5.0, 60.0])
def test_equals_the_oracle(num_classes, scale):
    log_probs = (scale * torch.randn(400, num_classes, dtype=UNITS)).log_softmax(-1)
    drawn = torch.multinomial(log_probs.exp(), 1).squeeze(1)  # half of them, so that bins differ
    target = torch.where(torch.rand(400) < 0.5, drawn, torch.randint(num_classes, (400,)))
    metrics = evaluate(log_probs, target)
    expected = oracle(log_probs.exp().tolist(), target.tolist())
    for value, truth in zip(metrics, expected, strict=True):
        assert_close(torch.tensor(value, dtype=UNITS), truth, "metric")


def test_an_exact_zero_is_floored_and_counted():
    log_probs = torch.tensor([[0.0, -math.inf], [0.0, -math.inf]])
    metrics = evaluate(log_probs, torch.tensor([0, 1]))
    assert metrics.error == metrics.floored == 50.0
    assert_close(torch.tensor(metrics.nll, dtype=UNITS), -math.log(1e-12) / 2, "value")
    assert metrics.brier == 1.0


def test_gate_health_counts_what_a_mask_retains():
    """The mean number of rivals in drawn masks of the posterior, within 4.9 standard errors."""
    generator = torch.Generator().manual_seed(0)
    logits, retain, correction = (
        torch.randn(6, 4, dtype=UNITS, generator=generator) for _ in range(3)
    )
    target = torch.tensor([0, 1, 2, 3, 0, 1])
    health = gate_health(dropmax.Scores(logits, retain, correction), target)
    draws = 20_000
    noise = torch.rand(draws, 6, 4, generator=generator).clamp(1e-6, 1 - 1e-6)
    masks = dropmax.bernoulli.hard_mask((retain + correction).expand(draws, 6, 4), noise)
    rivals = masks & (torch.arange(4) != target[:, None])
    counts = rivals.sum(-1).double().mean(-1)
    assert abs(health.rivals_retained - counts.mean()) < 4.9 * counts.std() / draws**0.5
    rho = retain.sigmoid()
    at_target = rho[torch.arange(6), target]
    assert_close(torch.tensor(health.target_retain, dtype=UNITS), at_target.mean(), "value")
    rest = (rho.sum() - at_target.sum()) / 18
    assert_close(torch.tensor(health.rival_retain, dtype=UNITS), rest, "value")


def test_gate_health_of_saturated_gates_and_without_correction():
    retain = torch.tensor([[5.0, -5.0, 0.0, 4.0]])
    health = gate_health(dropmax.Scores(torch.zeros(1, 4), retain), torch.tensor([0]))
    assert health.saturated == 50.0
    expected = torch.tensor([-5.0, 0.0, 4.0]).double().sigmoid().sum()
    assert_close(torch.tensor(health.rivals_retained, dtype=UNITS), expected, "value")


def test_gate_health_of_a_posterior_that_is_given():
    scores = dropmax.Scores(torch.zeros(1, 3), torch.zeros(1, 3))
    posterior = torch.tensor([[math.inf, -math.inf, math.inf]])
    health = gate_health(scores, torch.tensor([0]), posterior_logits=posterior)
    assert health.rivals_retained == 1.0
    assert health.target_retain == 0.5


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("call", "kind", "where"),
    [
        (lambda: evaluate(torch.zeros(3, 2), torch.zeros(3)), ValueError, "evaluate: target"),
        (lambda: evaluate(torch.zeros(2), torch.tensor(0)), ValueError, "evaluate: log_probs"),
        (
            lambda: evaluate(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)),
            ValueError,
            "evaluate: log_probs",
        ),
        (
            lambda: gate_health(dropmax.Scores(torch.zeros(1, 2)), torch.tensor([0])),
            ValueError,
            "gate_health: scores.retain_logits",
        ),
        (
            lambda: gate_health(
                dropmax.Scores(torch.zeros(1, 1), torch.zeros(1, 1)), torch.tensor([0])
            ),
            ValueError,
            "gate_health: scores",
        ),
    ],
)
def test_wrong_input(call, kind, where):
    with raises(kind, where):
        call()


def test_the_bins_of_a_reliability_diagram_give_the_calibration_error():
    generator = torch.Generator().manual_seed(3)
    log_probs = torch.randn(500, 7, generator=generator, dtype=torch.float64).mul(2).log_softmax(-1)
    target = torch.randint(7, (500,), generator=generator)
    bins = reliability(log_probs, target)
    assert sum(bins.instances) == 500
    gaps = [
        n * abs(a - c)
        for n, c, a in zip(bins.instances, bins.confidence, bins.accuracy, strict=True)
    ]
    ece = torch.tensor(100.0 * sum(gaps) / 500, dtype=torch.float64)
    assert_close(ece, evaluate(log_probs, target).ece, "metric")
    right = sum(n * a for n, a in zip(bins.instances, bins.accuracy, strict=True))
    assert round(right) == int((log_probs.argmax(-1) == target).sum())


def test_a_certain_prediction_falls_into_the_last_bin():
    bins = reliability(torch.tensor([[0.0, float("-inf")]]), torch.tensor([0]))
    assert (bins.instances[-1], bins.confidence[-1], bins.accuracy[-1]) == (1, 1.0, 1.0)


@pytest.mark.parametrize(
    ("probs", "target", "expected"),
    [
        pytest.param([[0.95, 0.05], [1.0, 0.0]], [0, 1], 47.5, id="one of two certain and wrong"),
        pytest.param([[1.0, 0.0]] * 3 + [[0.0, 1.0]], [0, 0, 0, 1], 0.0, id="all certain, right"),
        pytest.param([[0.94, 0.06]] * 9 + [[1.0, 0.0]], [0] * 9 + [1], 4.6, id="one in ten"),
        pytest.param([[0.6, 0.4], [0.65, 0.35]], [0, 1], 12.5, id="on the edge below"),
        pytest.param([[0.6, 0.4], [0.59, 0.41]], [0, 1], 49.5, id="on either side of the edge"),
        pytest.param([[0.8, 0.2], [0.86, 0.14]], [1, 0], 33.0, id="on an edge and above it"),
    ],
)
def test_certainty_and_edges_fall_into_one_bin(probs, target, expected):
    """By hand: an edge, 9 / 15 say, belongs to the bin above, and 1 to the last one."""
    log_probs, target = torch.tensor(probs, dtype=UNITS).log(), torch.tensor(target)
    assert_close(torch.tensor(evaluate(log_probs, target).ece, dtype=UNITS), expected, "metric")


@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_the_calibration_error_is_that_of_the_bins_shown(rows, dtype):
    """Also where confidences are multiples of 1 / 30: on edges, and 1."""
    confidence = torch.tensor([max(n, 30 - n) / 30 for n, _ in rows], dtype=dtype)
    log_probs = torch.stack([confidence, 1.0 - confidence], -1).log()
    target = torch.tensor([int(right) for _, right in rows])
    bins = reliability(log_probs, target)
    gaps = [
        n * abs(a - c)
        for n, c, a in zip(bins.instances, bins.confidence, bins.accuracy, strict=True)
    ]
    ece = torch.tensor(100.0 * sum(gaps) / len(rows), dtype=UNITS)
    assert_close(torch.tensor(evaluate(log_probs, target).ece, dtype=UNITS), ece, "metric")
