"""Conformal sets hold what they promise, and scores that suspect find what was planted."""

import math

import pytest
import torch
import torch.nn.functional as F
from raised import raises
from tolerances import assert_close

from dropmax import Scores
from dropmax.analysis import (
    fit_conformal,
    hesitation,
    kept_for,
    label_suspicion,
    retained_classes,
    scope_suspicion,
)
from dropmax.metrics import coverage, detection


def draws(count, seed, *, sharpness=2.0):
    """Log-probabilities that are true, and classes drawn from them."""
    generator = torch.Generator().manual_seed(seed)
    log_probs = (sharpness * torch.randn(count, 8, generator=generator)).log_softmax(-1)
    target = torch.multinomial(log_probs.exp(), 1, generator=generator).squeeze(1)
    return log_probs, target, generator


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("wrong", [0.2, 1.0, 5.0], ids=["too flat", "true", "too sharp"])
def test_sets_cover_whatever_the_model(level, wrong):
    """200 splits of 100: the mean coverage is within four standard errors of (N + 1) level."""
    covered = []
    for seed in range(200):
        log_probs, target, generator = draws(300, seed)
        stated = (wrong * log_probs).log_softmax(-1)
        conformal = fit_conformal(stated[:100], target[:100], level=level, generator=generator)
        sets = conformal.sets(stated[100:], generator=generator)
        covered.append(sets.gather(1, target[100:, None]).float().mean().item())
    found = torch.tensor(covered)
    error = found.std().item() / math.sqrt(len(found))
    expected = math.ceil(level * 101) / 101
    assert abs(found.mean().item() - expected) < 4.0 * error


def test_the_better_model_has_the_smaller_sets():
    log_probs, target, generator = draws(4_000, 0)
    sizes = []
    for stated in (log_probs, log_probs.roll(1, dims=-1)):
        conformal = fit_conformal(stated[:2_000], target[:2_000], generator=generator)
        sizes.append(conformal.sets(stated[2_000:], generator=generator).sum(-1).float().mean())
    assert sizes[0] < sizes[1] - 1.0


def test_too_few_instances_promise_everything():
    log_probs, target, generator = draws(5, 0)
    conformal = fit_conformal(log_probs, target, level=0.9, generator=generator)
    assert conformal.threshold == math.inf
    assert conformal.sets(log_probs, generator=generator).all()


def test_sets_are_those_of_a_slow_sum():
    log_probs, target, _ = draws(40, 3)
    conformal = fit_conformal(log_probs, target, generator=torch.Generator().manual_seed(1))
    sets = conformal.sets(log_probs, generator=torch.Generator().manual_seed(2))
    uniforms = torch.rand(40, 1, generator=torch.Generator().manual_seed(2))
    for n in range(40):
        probs = log_probs[n].exp().tolist()
        for k, p in enumerate(probs):
            score = math.fsum(q for q in probs if q > p) + uniforms[n].item() * p
            if abs(score - conformal.threshold) > 1e-6:
                assert sets[n, k].item() == (score <= conformal.threshold)


def case(count=6, num_classes=4):
    torch.manual_seed(0)
    return Scores(torch.randn(count, num_classes), torch.randn(count, num_classes))


def test_retained_classes_are_the_largest_gates():
    scores = case()
    found = retained_classes(scores, k=2)
    rho = scores.retain_logits.sigmoid()
    assert torch.equal(found.classes[:, 0], rho.argmax(-1))
    assert_close(found.probabilities[:, 0], rho.amax(-1).double(), "value")
    assert retained_classes(scores, k=9).classes.shape == (6, 4)


def test_kept_for_is_a_mean_by_class():
    scores = case()
    target = torch.tensor([0, 0, 1, 1, 1, 3])
    found = kept_for(scores, target)
    rho = scores.retain_logits.sigmoid()
    assert_close(found[0], rho[:2].double().mean(0), "reordered")
    assert_close(found[1], rho[2:5].double().mean(0), "reordered")
    assert found[2].isnan().all()


def test_a_gate_hesitates_most_at_a_half():
    logits = torch.tensor([-8.0, -1.0, 0.0, 1.0, 8.0])
    found = hesitation(Scores(logits, logits))
    assert found.argmax() == 2
    assert found[2].item() == pytest.approx(math.log(2.0))
    p = 1.0 / (1.0 + math.e)
    expected = -(p * math.log(p) + (1.0 - p) * math.log(1.0 - p))
    assert found[1].item() == found[3].item() == pytest.approx(expected)


def test_suspicion_has_three_sources():
    scores, target = case(), torch.tensor([0, 1, 2, 3, 0, 1])
    logits, gate = scores.logits, scores.retain_logits
    labels = label_suspicion(scores, target)
    rows = torch.arange(6)
    assert_close(labels.gate, -gate[rows, target].double(), "value")
    assert_close(labels.logits, F.cross_entropy(logits, target, reduction="none").double(), "value")
    both = logits.exp() * gate.sigmoid()
    expected = -(both[rows, target] / both.sum(-1)).double().log()
    assert_close(labels.both, expected, "reordered")
    scope = scope_suspicion(scores)
    assert_close(scope.both, -both.double().sum(-1).log(), "reordered")
    assert_close(scope.logits, -logits.double().exp().sum(-1).log(), "reordered")
    assert torch.equal(scope.gate, -gate.amax(-1))


def test_detection_against_counting():
    torch.manual_seed(0)
    score, wanted = torch.randn(80).round(decimals=1), torch.rand(80) < 0.3
    found, others = score[wanted], score[~wanted]
    above = (found[:, None] > others).double() + 0.5 * (found[:, None] == others).double()
    result = detection(score, wanted)
    assert result.auroc == pytest.approx(100.0 * above.mean().item())
    threshold = max(t for t in found.tolist() if (found >= t).double().mean() >= 0.95)
    assert result.fpr95 == pytest.approx(100.0 * (others >= threshold).double().mean().item())
    assert detection(1e3 + score, wanted) == result


def test_coverage_answers_the_surest_first():
    log_probs = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.45, 0.55], [0.4, 0.6]]).log()
    found = coverage(log_probs, torch.tensor([0, 0, 1, 1]))
    assert found.coverage.tolist() == [25.0, 50.0, 75.0, 100.0]
    assert found.error.tolist() == pytest.approx([0.0, 50.0, 100.0 / 3.0, 25.0])
    assert found.area == pytest.approx((0.0 + 50.0 + 100.0 / 3.0 + 25.0) / 4.0)


def test_equally_sure_answers_share_their_errors():
    even = torch.tensor([[0.7, 0.3]] * 4).log()
    target = torch.tensor([0, 1, 0, 1])
    assert coverage(even, target).error.tolist() == [50.0] * 4
    assert coverage(even, target.flip(0)).area == 50.0


UNGATED = Scores(torch.zeros(3, 2))
WRONG = {
    "no gate": (
        lambda: kept_for(UNGATED, torch.tensor([0, 1, 0])),
        ValueError,
        "kept_for: scores.retain_logits",
    ),
    "no scores": (lambda: hesitation(torch.zeros(3, 2)), TypeError, "hesitation: scores"),
    "k": (lambda: retained_classes(case(), k=0), ValueError, "retained_classes: k"),
    "level": (
        lambda: fit_conformal(torch.zeros(3, 2), torch.tensor([0, 1, 0]), level=1.0),
        ValueError,
        "fit_conformal: level",
    ),
    "rows": (
        lambda: fit_conformal(torch.zeros(3, 1, 2), torch.zeros(3, 1, dtype=torch.int64)),
        ValueError,
        "fit_conformal: log_probs",
    ),
    "one kind": (
        lambda: detection(torch.zeros(3), torch.zeros(3, dtype=torch.bool)),
        ValueError,
        "detection: wanted",
    ),
    "no booleans": (
        lambda: detection(torch.zeros(3), torch.zeros(3)),
        ValueError,
        "detection: wanted",
    ),
    "nothing": (
        lambda: coverage(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)),
        ValueError,
        "coverage: log_probs",
    ),
    "three axes": (
        lambda: coverage(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)),
        ValueError,
        "coverage: log_probs",
    ),
    "no number": (
        lambda: detection(torch.tensor([math.nan, 1.0]), torch.tensor([True, False])),
        ValueError,
        "detection: score",
    ),
    "no number in rows": (
        lambda: fit_conformal(torch.full((3, 2), math.nan), torch.tensor([0, 1, 0])),
        ValueError,
        "fit_conformal: log_probs",
    ),
    "batches": (
        lambda: kept_for(
            Scores(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)), torch.zeros(2, 3).long()
        ),
        ValueError,
        "kept_for: scores",
    ),
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name):
    make, kind, where = WRONG[name]
    with raises(kind, where):
        make()
