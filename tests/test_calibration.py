"""Temperatures: they help where they can, and do no harm where they cannot."""

import math

import pytest
import seeded
import torch
import torch.nn.functional as F
from raised import raises
from tolerances import assert_close

import dropmax
from dropmax import Predictor, Scores
from dropmax.calibration import LIMIT, TemperatureScaling, fit_temperature

KINDS = (
    "fair",
    "labels at random",
    "never wrong",
    "always wrong",
    "no scores",
    "closed gates",
    "one wild instance",
    "one class",
    "scores x 1,000",
    "masked classes",
)
"""What a held-out set may be like."""


def held_out(seed):
    """Scores and labels of a random or adversarial held-out set, 9 to 600 instances."""
    kind = KINDS[seed % len(KINDS)]
    generator = seeded.generator(seed)

    def uniform(low, high):
        return low + (high - low) * torch.rand(1, generator=generator, dtype=torch.float64)

    count, num_classes = int(uniform(9, 600)), int(uniform(2, 30))
    shape = count, num_classes
    logits, gates = (
        10 ** uniform(*decades) * torch.randn(shape, generator=generator, dtype=torch.float64)
        for decades in ((-1, 2), (-1, 1))
    )
    if kind == "masked classes":
        logits[:, 1] = -math.inf
    truth = 10 ** uniform(-1, 1) * (logits + F.logsigmoid(gates))
    target = torch.multinomial(truth.softmax(-1), 1, generator=generator).squeeze(1)
    match kind:
        case "labels at random":
            target = torch.randint(num_classes, (count,), generator=generator)
        case "never wrong":
            target = logits.argmax(-1)
        case "always wrong":
            target = logits.argmin(-1)
        case "no scores":
            logits = torch.zeros(shape, dtype=torch.float64)
        case "closed gates":
            gates = torch.full(shape, -200.0, dtype=torch.float64)
        case "one wild instance":
            logits[0] = 1e4 * torch.randn(num_classes, generator=generator, dtype=torch.float64)
        case "one class":
            target = torch.zeros_like(target)
        case "scores x 1,000":
            logits = 1e3 * logits
    return Scores(logits, gates), target


def part(scores, chosen):
    return Scores(scores.logits[chosen], scores.retain_logits[chosen])


def plugin(scores):
    return (scores.logits + F.logsigmoid(scores.retain_logits)).log_softmax(-1)


def rises(seeds):
    """By seed how much the NLL of the untouched third rises, fitted and accepted on the others."""
    found = []
    for seed in seeds:
        scores, target = held_out(seed)
        known = torch.arange(len(target)) < 2 * len(target) // 3
        generator = seeded.generator(seed)
        temperature = fit_temperature(part(scores, known), target[known], generator=generator)
        for scale in (temperature.scale, temperature.gate_scale):
            assert 1.0 / LIMIT <= scale <= LIMIT
        rest = part(scores, ~known)
        before, after = (
            F.nll_loss(log_probs, target[~known])
            for log_probs in (plugin(rest), temperature.log_probs(rest))
        )
        found.append((after - before).item())
    return torch.tensor(found)


@pytest.mark.cpu
def test_a_thousand_held_out_sets_are_not_harmed():
    rise = rises(range(1_000))
    harm = rise.clamp(min=0.0)
    print(
        f"1,000 held-out sets: NLL rises by {harm.mean():.5f} nats on average, by {harm.max():.3f}"
        " at most"
    )
    assert harm.mean() <= 0.01
    assert rise.median() < 0.0


def test_two_scales_are_the_minimum_of_a_slow_search():
    """The fit against a grid, on the half that fits, its division known."""
    scores, target = held_out(40)
    count = len(target)
    order = torch.randperm(count, generator=seeded.generator(5))
    fits = order[: count // 2]
    temperature = fit_temperature(scores, target, generator=seeded.generator(5))
    assert temperature.kept

    def penalized(b, c):
        half = part(scores, fits)
        logits = b * half.logits + c * F.logsigmoid(half.retain_logits)
        penalty = ((b - 1.0) ** 2 + (c - 1.0) ** 2) / (2.0 * len(fits))
        return F.cross_entropy(logits, target[fits]).item() + penalty

    b, c = temperature.scale, temperature.gate_scale
    best = penalized(b, c)
    for factor in (0.9, 0.999, 1.001, 1.1):
        assert penalized(b * factor, c) > best
        assert penalized(b, c * factor) > best
        assert penalized(b * factor, c * factor) > best


def test_a_network_that_is_ten_times_too_sure_is_cooled():
    generator = seeded.generator(0)
    truth = 2.0 * torch.randn(4_000, 5, generator=generator, dtype=torch.float64)
    target = torch.multinomial(truth.softmax(-1), 1, generator=generator).squeeze(1)
    temperature = fit_temperature((10.0 * truth).log_softmax(-1), target, generator=generator)
    assert temperature.kept
    assert temperature.gate_scale is None
    assert temperature.scale == pytest.approx(0.1, abs=0.01)
    assert temperature.nll_after < temperature.nll_before


def test_all_instances_fit_where_none_decides():
    scores, target = held_out(40)
    found = fit_temperature(scores.logits, target, if_helps=False)
    assert found.kept

    def penalized(scale):
        nll = F.cross_entropy(scale * scores.logits, target).item()
        return nll + (scale - 1.0) ** 2 / (2.0 * len(target))

    for factor in (0.9, 0.999, 1.001, 1.1):
        assert penalized(found.scale * factor) > penalized(found.scale)
    nll = F.cross_entropy(found.scale * scores.logits, target).item()
    assert found.nll_after == pytest.approx(nll)
    none, target = held_out(KINDS.index("no scores"))
    assert fit_temperature(none.logits, target, if_helps=False).kept


def test_what_does_not_help_is_not_kept():
    scores, target = held_out(KINDS.index("no scores"))
    temperature = fit_temperature(scores.logits, target)
    assert (temperature.kept, temperature.scale, temperature.gate_scale) == (False, 1.0, None)
    assert_close(temperature.log_probs(scores.logits), scores.logits.log_softmax(-1), "value")


def test_a_label_that_cannot_be_leaves_the_scores_as_they_are():
    log_probs = torch.tensor([[0.0, -math.inf]] * 8)
    temperature = fit_temperature(log_probs, torch.ones(8, dtype=torch.int64))
    assert (temperature.kept, temperature.scale) == (False, 1.0)


def test_the_predictor_applies_it():
    torch.manual_seed(0)
    model = torch.nn.Sequential(dropmax.make_head("dropmax", 6, 5))
    features = torch.randn(9, 6)
    scores = model(features)
    temperature = TemperatureScaling(0.5, 2.0, 1.0, 0.9, True)
    expected = 0.5 * scores.logits + 2.0 * F.logsigmoid(scores.retain_logits)
    predicted = Predictor(model, scaling=temperature)(features)
    assert_close(predicted, expected.log_softmax(-1).detach().double(), "value")
    one = TemperatureScaling(0.5, None, 1.0, 0.9, True)
    exact = Predictor(model, "exact", scaling=one)(features)
    of_method = dropmax.find_head(model).log_probs(scores, method="exact")
    assert_close(exact, (0.5 * of_method).log_softmax(-1).detach().double(), "value")


@pytest.mark.cpu
@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("make", "kind", "where"),
    [
        (
            lambda t: Predictor(torch.nn.Sequential(dropmax.make_head("softmax", 6, 5)), scaling=t),
            ValueError,
            "Predictor: scaling",
        ),
        (
            lambda t: Predictor(
                torch.nn.Sequential(dropmax.make_head("dropmax", 6, 5)), "exact", scaling=t
            ),
            ValueError,
            "Predictor: scaling",
        ),
        (
            lambda t: t.log_probs(torch.zeros(3, 5)),
            ValueError,
            "TemperatureScaling.log_probs: scores",
        ),
        (
            lambda t: t._replace(gate_scale=None).log_probs(
                Scores(torch.zeros(3, 5), torch.zeros(3, 5))
            ),
            ValueError,
            "TemperatureScaling.log_probs: scores",
        ),
        (
            lambda _: fit_temperature(torch.zeros(2, 3, 5), torch.zeros(2, 3)),
            ValueError,
            "fit_temperature: scores_or_log_probs",
        ),
        (
            lambda _: fit_temperature(
                torch.zeros(3, 5),
                torch.tensor([0, 1, 2]),
                if_helps=False,
                generator=torch.Generator(),
            ),
            ValueError,
            "fit_temperature: generator",
        ),
        (
            lambda _: fit_temperature(torch.zeros(1, 5), torch.tensor([0])),
            ValueError,
            "fit_temperature: target",
        ),
        (
            lambda _: fit_temperature(torch.zeros(3, 5), torch.tensor([0, 1, 5])),
            ValueError,
            "fit_temperature: target",
        ),
    ],
)
def test_wrong_arguments_are_named(make, kind, where):
    with raises(kind, where):
        make(TemperatureScaling(0.5, 2.0, 1.0, 0.9, True))
