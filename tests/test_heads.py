"""What single heads add to the contract; names and options as text; conversion helpers."""

import pytest
import torch
from raised import raises
from tolerances import assert_close
from torch import nn
from variants import VARIANTS, dropmax_objective

import dropmax
from dropmax.functional import Objective, ObjectiveOptions
from dropmax.heads import (
    ComputedPosteriorHead,
    DropMaxHead,
    Head,
    MarginalHead,
    SampledSoftmaxHead,
    base,
    decay_groups,
)
from dropmax.heads.registry import own_heads


def case(num_classes=5, shape=(7,)):
    features = torch.randn(*shape, 6, dtype=torch.float64)
    target = torch.randint(num_classes, shape)
    return features, target, torch.rand(*shape, num_classes).clamp(1e-6, 1 - 1e-6)


def test_weights_multiply_the_terms():
    features, target, noise = case()
    weights = {"kl_weight": 0.5, "entropy_weight": 0.25, "aux_weight": 2.0}
    head = DropMaxHead(6, 5, preset="paper", dtype=torch.float64, **weights)
    scores = head(features)
    raw = dropmax_objective(*scores, target, noise=noise)
    weighted = head.loss(scores, target, noise=noise, reduction="none")
    expected = (raw.nll, 0.5 * raw.kl, 0.25 * raw.neg_entropy, 2.0 * raw.aux)
    for term, value in zip(weighted[1:], expected, strict=True):
        assert_close(term, value.detach(), "reordered")
    assert_close(weighted.total, sum(expected).detach(), "reordered")


def test_options_reach_the_objective():
    features, target, _ = case()
    noise = torch.rand(3, 7, 5).clamp(1e-6, 1 - 1e-6)
    options = {"temperature": 0.7, "floor": 1e-3, "aux_prior": "base_rate", "num_samples": 3}
    head = DropMaxHead(6, 5, preset="paper", dtype=torch.float64, **options)
    scores = head(features)
    expected = dropmax_objective(*scores, target, noise=noise, **options)
    actual = head.loss(scores, target, noise=noise, reduction="none")
    for a, b in zip(actual, expected, strict=True):
        assert_close(a, b.detach(), "reordered")
    assert_close(
        head.log_probs(scores),
        dropmax.predictive.plugin(scores.logits, scores.retain_logits, floor=1e-3).detach(),
        "reordered",
    )


def test_weights_and_temperature_can_be_scheduled():
    features, target, noise = case()
    head = DropMaxHead(6, 5, dtype=torch.float64)
    scores = head(features)
    before = head.loss(scores, target, noise=noise)
    head.kl_weight, head.temperature = 0.0, 1.0
    after = head.loss(scores, target, noise=noise)
    assert after.kl.item() == 0.0
    assert after.nll.item() != before.nll.item()
    assert after.aux.item() == before.aux.item()


def test_the_prior_posterior_owns_no_correction():
    head = DropMaxHead(6, 5, posterior="prior")
    assert not any("correction" in key for key in head.state_dict())
    objective = head.loss(head(torch.randn(3, 6)), torch.tensor([0, 1, 2]))
    assert objective.aux.item() == 0.0


def test_gates_of_low_rank_are_products_of_two_maps():
    features, target, noise = case()
    head = DropMaxHead(6, 5, gate_rank=2, dtype=torch.float64)
    assert head.gate_weight.shape == (2, 6)
    assert head.retain_weight.shape == head.correction_weight.shape == (5, 2)
    full = DropMaxHead(6, 5, dtype=torch.float64)
    full.load_state_dict(
        {
            name: tensor @ head.gate_weight
            if name.startswith(head.branches) and tensor.ndim == 2
            else tensor
            for name, tensor in head.state_dict().items()
            if name != "gate_weight"
        }
    )
    losses = [one.loss(one(features), target, noise=noise) for one in (head, full)]
    for low, high in zip(*losses, strict=True):
        assert_close(low.detach(), high.detach(), "reordered")
    spared = decay_groups(head, 1e-4)[1]["params"]
    assert any(parameter is head.gate_weight for parameter in spared)


@pytest.mark.cpu
def test_prediction_never_does_the_map_of_the_correction(monkeypatch):
    import numpy as np
    from sklearn.preprocessing import StandardScaler

    from dropmax.integrations.sklearn.network import accuracy_of
    from dropmax.training.classifier import predict

    done = []
    linear = base.F.linear

    def watched(features, weight, bias=None):
        done.append(weight)
        return linear(features, weight, bias)

    monkeypatch.setattr(base.F, "linear", watched)
    features = torch.randn(7, 6)
    head = DropMaxHead(6, 5)
    model = nn.Sequential(nn.Identity(), head)
    expected = head.log_probs(head(features))
    unscaled = StandardScaler(with_mean=False, with_std=False).fit(features)
    paths = {
        "predict": lambda: head.predict(features),
        "Predictor": lambda: dropmax.Predictor(model)(features),
        "the training room": lambda: predict(model, features).log_probs,
        "the estimator": lambda: accuracy_of(
            model, unscaled, features.numpy(), torch.zeros(7, dtype=torch.int64), np.ones(7)
        ),
    }
    for name, path in paths.items():
        done.clear()
        found = path()
        assert len(done) == 2, name
        assert not any(weight is head.correction_weight for weight in done), name
        if isinstance(found, torch.Tensor):
            assert torch.equal(found, expected), name
    done.clear()
    head(features)
    assert any(weight is head.correction_weight for weight in done)


def test_predict_takes_what_log_probs_takes():
    features, _, _ = case()
    head = DropMaxHead(6, 5, dtype=torch.float64)
    noise = torch.rand(3, 7, 5).clamp(1e-6, 1 - 1e-6)
    for options in (
        {"method": "exact", "num_nodes": 64},
        {"method": "exact", "tolerance": 1e-3},
        {"method": "monte_carlo", "num_samples": 3, "noise": noise},
    ):
        expected = head.log_probs(head(features), **options)
        assert torch.equal(head.predict(features, **options), expected)


def test_scores_without_the_correction_are_not_those_of_the_loss():
    features, target, _ = case()
    head = DropMaxHead(6, 5, dtype=torch.float64)
    scores = head(features, correction=False)
    assert scores.correction_logits is None
    with raises(ValueError, "DropMaxHead.loss: scores.correction_logits"):
        head.loss(scores, target)


def test_a_predictor_that_fails_leaves_the_head_as_it_was():
    head = DropMaxHead(6, 5)
    with raises(ValueError, "DropMaxHead.forward: features"):
        dropmax.Predictor(head)(torch.randn(7, 4))
    assert head(torch.randn(7, 6)).correction_logits is not None


def test_the_marginal_objective_is_the_exact_likelihood():
    features, target, _ = case()
    head = MarginalHead(6, 5, num_nodes=300, dtype=torch.float64)
    assert not any("correction" in key for key in head.state_dict())
    scores = head(features)
    objective = head.loss(scores, target, reduction="none")
    log_probs = head.log_probs(scores, method="exact", num_nodes=300)
    likelihood = log_probs.gather(-1, target[:, None]).squeeze(-1)
    assert_close(objective.nll, -likelihood.detach(), "reordered")
    assert torch.equal(objective.total, objective.nll)
    head.entropy_weight = 0.5
    entropy = dropmax.bernoulli.neg_entropy(scores.retain_logits).sum(-1)
    objective = head.loss(scores, target, reduction="none")
    assert_close(objective.neg_entropy, 0.5 * entropy.detach(), "reordered")
    assert_close(objective.total, (0.5 * entropy - likelihood).detach(), "reordered")


def test_training_on_the_marginal_raises_the_likelihood():
    features, target, _ = case(shape=(40,))
    head = MarginalHead(6, 5, dtype=torch.float64)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    losses = []
    for _ in range(50):
        optimizer.zero_grad()
        loss = head.loss(head(features), target).total
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("posterior", ["exact", "analytic"])
def test_a_posterior_in_closed_form_reaches_the_objective_without_gradient(posterior):
    features, target, noise = case()
    options = {"posterior": posterior, "temperature": 0.5, "dtype": torch.float64}
    head = ComputedPosteriorHead(6, 5, preset="paper", **options)
    scores = head(features)
    if posterior == "exact":
        masks = dropmax.predictive.mask_posterior(
            scores.logits, scores.retain_logits, target, target_kept=True, num_nodes=128
        )
    else:
        correction = dropmax.functional.analytic_correction(
            scores.logits, scores.retain_logits, target
        )
        masks = scores.retain_logits.detach() + correction
    expected = dropmax.functional.posterior_objective(
        *scores[:2], masks, target, options=ObjectiveOptions(temperature=0.5), noise=noise
    )
    actual = head.loss(scores, target, noise=noise, reduction="none")
    for a, b in zip(actual, expected, strict=True):
        assert_close(a, b.detach(), "reordered")
    (to_gate,) = torch.autograd.grad(actual.nll.sum(), scores.retain_logits, retain_graph=True)
    (to_logits,) = torch.autograd.grad(actual.kl.sum(), scores.logits)
    assert not to_gate.any()
    assert not to_logits.any()


def test_the_exact_predictive_of_the_head():
    features, _, _ = case()
    head = DropMaxHead(6, 5, dtype=torch.float64)
    scores = head(features)
    for options in ({}, {"tolerance": 1e-9}, {"num_nodes": 50}):
        expected = dropmax.predictive.exact(*scores[:2], **options)
        assert torch.equal(head.log_probs(scores, method="exact", **options), expected)


def test_retain_bias_init():
    head = DropMaxHead(6, 5, retain_bias_init=2.0)
    assert head.retain_bias.tolist() == [2.0] * 5
    assert head.correction_bias.tolist() == [0.0] * 5
    head.retain_bias.data.zero_()
    head.reset_parameters()
    assert head.retain_bias.tolist() == [2.0] * 5


def test_monte_carlo_of_the_head():
    features, _, _ = case()
    noise = torch.rand(4, 7, 5).clamp(1e-6, 1 - 1e-6)
    head = DropMaxHead(6, 5, dtype=torch.float64)
    scores = head(features)
    expected = dropmax.predictive.monte_carlo(
        scores.logits, scores.retain_logits, num_samples=4, noise=noise
    )
    actual = head.log_probs(scores, method="monte_carlo", num_samples=4, noise=noise)
    assert torch.equal(actual, expected)
    assert not actual.requires_grad


def test_a_given_proposal_is_part_of_the_state():
    proposal = torch.tensor([0.7, 0.2, 0.1]).log()
    head = SampledSoftmaxHead(6, 3, log_proposal=proposal)
    assert torch.equal(head.state_dict()["log_proposal"], proposal)
    assert "log_proposal=given" in repr(head)
    assert "log_proposal" not in SampledSoftmaxHead(6, 3).state_dict()
    features = torch.randn(5, 6)
    assert head.loss(head(features), torch.arange(5) % 3).total.isfinite()


def test_options_as_text():
    head = dropmax.make_head(
        "dropmax:kl_weight=0.5,aux_prior=base_rate, num_samples=2 ,bias=False", 6, 5
    )
    assert (head.kl_weight, head.aux_prior, head.num_samples, head.bias) == (
        0.5,
        "base_rate",
        2,
        None,
    )
    assert dropmax.make_head("softmax:label_smoothing=1e-1", 6, 5).label_smoothing == 0.1
    assert dropmax.make_head("dropmax_prior", 6, 5, kl_weight=0.5).posterior == "prior"


def test_the_heads_that_are_built_in():
    assert list(dropmax.HEADS) == [
        "softmax",
        "sparsemax",
        "sampled_softmax",
        "class_dropout",
        "attention",
        "sigsoftmax",
        "as_softmax",
        "one_vs_rest",
        "dropmax_prior",
        "dropmax",
        "dropmax_label",
        "dropmax_tied",
        "dropmax_marginal",
        "dropmax_computed",
    ]


def test_decay_leaves_frozen_parameters_out():
    model = nn.Sequential(nn.Linear(4, 6), DropMaxHead(6, 5))
    model[0].requires_grad_(False)
    decayed, spared = dropmax.decay_groups(model, 0.1)
    assert len(decayed["params"]) == 2
    assert len(spared["params"]) == 4


def test_decay_is_the_authors_l2_term_under_adam():
    """Half the squared norm times the factor, in the loss: the same step as Adam's decay."""
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 6), DropMaxHead(6, 5)).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    features = torch.randn(8, 4, dtype=torch.float64)
    target = torch.arange(8) % 5
    noise = torch.rand(8, 5).clamp(1e-6, 1 - 1e-6)
    penalties = (0.0, 0.3)
    for model, penalty in zip(models, penalties, strict=True):
        decayed = dropmax.decay_groups(model, 0.3)
        groups = decayed if penalty == 0.0 else model.parameters()
        optimizer = torch.optim.Adam(groups, lr=1e-2)
        for _ in range(5):
            optimizer.zero_grad()
            loss = model[1].loss(model(features), target, noise=noise).total
            squares = sum(p.square().sum() for p in decayed[0]["params"])
            (loss + penalty * 0.5 * squares).backward()
            optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert_close(one, other.detach(), "value")


def test_find_head_looks_through_wrappers():
    head = DropMaxHead(6, 5)
    model = nn.Sequential(nn.Flatten(), nn.ModuleDict({"classifier": head}))
    assert dropmax.find_head(model) is head
    assert dropmax.find_head(head) is head
    assert dropmax.find_head(nn.DataParallel(model)) is head


def test_the_paper_preset_is_the_method_as_published():
    head = DropMaxHead(6, 5, preset="paper")
    assert head.options() == {
        "label_smoothing": 0.0,
        "bias": True,
        "posterior": "learned",
        "aux_prior": "label",
        "kl_weight": 1.0,
        "entropy_weight": 1.0,
        "aux_weight": 1.0,
        "masks": "relaxed",
        "temperature": 0.1,
        "num_samples": 1,
        "plugin_share": 0.0,
        "plugin_focus": 0.0,
        "floor": 1e-20,
        "gate_rank": None,
        "retain_bias_init": 0.0,
    }


@pytest.mark.parametrize(
    ("num_classes", "aux_prior", "strength", "share"),
    [
        (2, "base_rate", 2.0, 0.0),
        (10, "base_rate", 2.0, 0.0),
        (20, "label", 1.0, 0.75),
        (100, "label", 1.0, 0.99),
        (1000, "label", 1.0, 0.9999),
    ],
)
def test_the_defaults_depend_on_the_number_of_classes(num_classes, aux_prior, strength, share):
    head = DropMaxHead(6, num_classes)
    assert (head.aux_prior, head.masks, head.posterior) == (aux_prior, "relaxed", "learned")
    assert (head.kl_weight, head.entropy_weight, head.aux_weight) == (strength, strength, 1.0)
    assert (head.plugin_share, head.plugin_focus) == pytest.approx((share, 0.0))
    assert (head.temperature, head.num_samples) == (0.1, 1)


def test_an_argument_stands_before_its_default():
    head = DropMaxHead(6, 10, kl_weight=3.0)
    assert (head.kl_weight, head.entropy_weight, head.aux_prior) == (3.0, 2.0, "base_rate")


@pytest.mark.parametrize("name", VARIANTS)
def test_the_options_of_a_head_make_the_same_head(name):
    stem = name.partition(":")[0]
    head = dropmax.make_head(name, 6, 5, label_smoothing=0.1)
    options = {k: v for k, v in head.options().items() if v is not None}
    if stem == "dropmax_prior":
        del options["posterior"]
    if stem == "sampled_softmax":
        del options["log_proposal"]
    assert dropmax.make_head(stem, 6, 5, **options).options() == head.options()


class FocalHead(Head):
    """A head of one's own: one class, one formula."""

    def __init__(self, in_features, num_classes, *, gamma=2.0, **shared):
        super().__init__(in_features, num_classes, **shared)
        self.gamma = gamma

    def objective(self, scores, label, **_random):
        log_probs = scores.logits.log_softmax(-1)
        return Objective.of_nll(label.nll(-((1.0 - log_probs.exp()) ** self.gamma) * log_probs))


@pytest.fixture
def focal():
    dropmax.register_head("focal", FocalHead)


@pytest.mark.usefixtures("focal")
def test_a_head_of_ones_own_is_made_trained_and_put_in_by_its_name():
    head = dropmax.make_head("focal:gamma=1.0", 6, 5, label_smoothing=0.2)
    assert (head.gamma, head.label_smoothing) == (1.0, 0.2)
    features, target = torch.randn(7, 6), torch.arange(7) % 5
    weight = torch.rand(5)
    log_probs = head(features).logits.log_softmax(-1)
    of_class = -(1.0 - log_probs.exp()) * log_probs * weight
    spread = 0.8 * of_class.gather(1, target[:, None]).sum() + 0.2 / 5 * of_class.sum()
    loss = head.loss(head(features), target, weight=weight)
    assert_close(loss.total, (spread / weight[target].sum()).detach(), "value")
    mixed = torch.rand(7, 5).softmax(-1)
    expected = (mixed * of_class).sum(-1)
    mixing = dropmax.make_head("focal:gamma=1.0", 6, 5)
    mixing.load_state_dict(head.state_dict())
    soft = mixing.loss(head(features), mixed, weight=weight, reduction="none").total
    assert_close(soft, expected.detach(), "value")
    model = dropmax.convert(nn.Sequential(nn.Linear(6, 5)), head="focal", gamma=3.0)
    assert dropmax.find_head(model).gamma == 3.0
    dropmax.Criterion(model)(model(features), target).backward()
    assert dropmax.Predictor(model)(features).shape == (7, 5)
    with pytest.raises(ValueError, match="did you mean 'gamma'"):
        dropmax.make_head("focal:gama=1.0", 6, 5)


@pytest.mark.usefixtures("focal")
def test_a_worker_is_told_of_no_head_but_those_it_trains():
    """One that cannot be sent, as a notebook has it, stops no comparison that lacks it."""

    class Local(FocalHead):
        pass

    dropmax.register_head("local", Local)
    assert own_heads(["softmax", "focal:gamma=1.0", "focal", "unknown"]) == {"focal": FocalHead}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("name", "head", "error"),
    [
        ("dropmax", FocalHead, ValueError),
        ("Focal", FocalHead, ValueError),
        ("a b", FocalHead, ValueError),
        (3, FocalHead, TypeError),
        ("focal", nn.Linear, TypeError),
        ("focal", FocalHead(6, 5), TypeError),
    ],
)
def test_what_cannot_be_registered(name, head, error):
    argument = "name" if head is FocalHead else "head"
    with raises(error, f"register_head: {argument}"):
        dropmax.register_head(name, head)
    assert "focal" not in dropmax.HEADS
