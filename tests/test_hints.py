"""What takes scores or an objective for a tensor meets an error that names the call it means."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_wine
from tolerances import assert_close
from torch import nn
from torch.utils import _pytree as pytree
from torchmetrics.classification import MulticlassAccuracy

import dropmax
from dropmax import Criterion, DropMaxClassifier, DropmaxError, Predictor
from dropmax.training import RunConfig, train

pytestmark = pytest.mark.usefixtures("untyped")

N, K = 8, 4
torch.manual_seed(0)
HEAD = dropmax.make_head("dropmax", 6, K)
TARGET = torch.arange(N) % K
SCORES = HEAD(torch.randn(N, 6, generator=torch.Generator().manual_seed(0)))
NOISE = torch.full((N, K), 0.5)
OBJECTIVE = HEAD.loss(SCORES, TARGET, noise=NOISE)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("argmax", "head.log_probs(scores).argmax(-1)"),
        ("max", "head.log_probs(scores).argmax(-1)"),
        ("softmax", "head.log_probs(scores).exp()"),
        ("shape", "scores.logits.shape"),
        ("ndim", "scores.logits.ndim"),
        ("detach", "scores.logits.detach()"),
        ("to", "model.to(device)"),
        ("backward", "dropmax.Criterion(model)(scores, target).backward()"),
    ],
)
def test_scores_have_no_method_of_a_tensor_and_say_what_is_meant(name, call):
    assert not hasattr(SCORES, name)
    with pytest.raises(AttributeError) as raised:
        getattr(SCORES, name)
    assert isinstance(raised.value, DropmaxError)
    assert call in str(raised.value)


def test_every_call_that_is_meant_runs():
    names = {"head": HEAD, "scores": SCORES, "target": TARGET, "model": HEAD, "dropmax": dropmax}
    for call in (
        "head.log_probs(scores).argmax(-1)",
        "head.log_probs(scores).exp()",
        "scores.logits.shape",
        "scores.logits.detach()",
        "dropmax.Criterion(model)(scores, target).backward()",
    ):
        eval(call, names)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: F.cross_entropy(SCORES, TARGET), "dropmax.Criterion(model)(scores, target)"),
        (lambda: nn.CrossEntropyLoss()(SCORES, TARGET), "dropmax.Criterion(model)(scores, target)"),
        (lambda: torch.argmax(SCORES, -1), "head.log_probs(scores).argmax(-1)"),
        (lambda: torch.max(SCORES, -1), "head.log_probs(scores).argmax(-1)"),
        (lambda: nn.Softmax(-1)(SCORES), "head.log_probs(scores).exp()"),
        (lambda: F.log_softmax(SCORES, -1), "head.log_probs(scores)"),
        (lambda: torch.nan_to_num(SCORES), "head.log_probs(scores)"),
        (lambda: torch.mean(OBJECTIVE), "objective.total"),
        (lambda: 2.0 * OBJECTIVE, "objective.total"),
        (lambda: 2 * OBJECTIVE, "objective.total"),
        (lambda: OBJECTIVE / 2, "objective.total"),
        (lambda: OBJECTIVE + OBJECTIVE, "objective.total"),
        (lambda: sum([OBJECTIVE, OBJECTIVE]), "objective.total"),
        (lambda: torch.tensor(2.0) * OBJECTIVE, "objective.total"),
        (lambda: float(OBJECTIVE), "objective.total"),
    ],
)
def test_functions_of_tensors_say_what_is_meant(call, meant):
    with pytest.raises(TypeError) as raised:
        call()
    assert isinstance(raised.value, DropmaxError)
    assert meant in str(raised.value)


@pytest.mark.parametrize("name", ["backward", "item", "detach"])
def test_an_objective_names_its_total(name):
    assert not hasattr(OBJECTIVE, name)
    with pytest.raises(AttributeError, match=rf"objective\.total\.{name}\(\)"):
        getattr(OBJECTIVE, name)


def test_metrics_of_another_package_name_the_log_probabilities():
    with pytest.raises(DropmaxError, match=r"head\.log_probs\(scores\)"):
        MulticlassAccuracy(K)(SCORES, TARGET)


def test_what_neither_has_is_an_ordinary_error():
    for one in (SCORES, OBJECTIVE):
        with pytest.raises(AttributeError, match="has no attribute 'nosuch'") as raised:
            one.nosuch  # noqa: B018
        assert not isinstance(raised.value, DropmaxError)


@pytest.mark.parametrize("one", [SCORES, OBJECTIVE])
def test_they_are_tuples_as_before(one):
    plain = type(one)(*(None if x is None else x.detach() for x in one))
    for other in (
        pickle.loads(pickle.dumps(plain)),
        copy.deepcopy(plain),
        copy.copy(plain),
        pytree.tree_map(torch.clone, plain),
        type(one)._make(plain),
    ):
        assert type(other) is type(one)
        assert all(torch.equal(x, y) for x, y in zip(other, plain, strict=True))
    assert torch.stack(plain).shape == (len(plain), *plain[0].shape)


def test_they_compile_in_one_graph():
    def both(features):
        scores = HEAD(features)
        return scores, HEAD.loss(scores, TARGET, noise=NOISE)

    torch.compiler.reset()
    features = torch.randn(N, 6)
    scores, objective = torch.compile(both, fullgraph=True, backend="eager")(features)
    assert type(scores) is dropmax.Scores
    assert_close(objective.total, both(features)[1].total.detach(), "compiled")


def test_a_predictor_in_training_mode_warns_once_where_dropout_is_on(recwarn):
    model = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), dropmax.make_head("dropmax", 5, K))
    features = torch.randn(N, 6)
    predictor = Predictor(model)
    with pytest.warns(UserWarning, match=r"predictor\.eval\(\)"):
        predictor(features)
    predictor(features)
    assert not recwarn
    Predictor(model).eval()(features)
    Predictor(nn.Sequential(nn.Linear(6, 5), dropmax.make_head("dropmax", 5, K)))(features)
    assert not recwarn


ONES = torch.full((N, K), 1.0 / K)


@pytest.mark.parametrize(
    ("target", "refused"),
    [
        (ONES, False),
        (1.0009 * ONES, False),
        (1.0011 * ONES, True),
        (0.9 * ONES, True),
        ((1.009 * ONES).bfloat16(), False),
        ((1.02 * ONES).bfloat16(), True),
        ((1.02 * ONES).half(), True),
        (torch.zeros(N, K), True),
        (F.one_hot(TARGET, K) + F.one_hot((TARGET + 1) % K, K).float(), True),
        (torch.zeros(0, K), False),
    ],
)
def test_class_probabilities_that_do_not_sum_to_1_are_refused(target, refused):
    scores = dropmax.Scores(*[torch.zeros(target.shape, dtype=target.dtype)] * 3)
    if not refused:
        assert Criterion(HEAD)(scores, target).isfinite()
        return
    with pytest.raises(ValueError, match="multi-label"):
        Criterion(HEAD)(scores, target)
    with pytest.raises(ValueError, match=r"multi-label"):
        HEAD.fused_loss(torch.zeros(N, 6), target.float())


def test_both_bars_show_the_nll_and_a_hidden_one_nothing(capsys, tmp_path):
    config = RunConfig("digits", "dropmax", train_per_class=5, epochs=2)
    history = train(config, tmp_path / "shown").history
    printed = capsys.readouterr().out
    assert "2/2 epochs" in printed
    assert f"nll {history[-1]['weighted']['nll']:.3f} nats" in printed
    train(config, tmp_path / "hidden", progress=False)
    assert capsys.readouterr().out == ""
    wine = load_wine(return_X_y=True)
    classifier = DropMaxClassifier(max_iter=3, random_state=0, verbose=True).fit(*wine)
    printed = capsys.readouterr().out
    assert "3/3 epochs" in printed
    assert "nats" in printed
    assert f"{classifier.loss_curve_[-1]:.3f}" not in printed


def test_a_row_of_probabilities_is_left_out_as_the_error_says():
    left_out = torch.ones(N).index_fill(0, torch.tensor([3]), 0.0)
    others = left_out.bool()
    whole = HEAD.loss(SCORES, ONES, noise=NOISE, sample_weight=left_out, reduction="sum").total
    rest = dropmax.Scores(*(x[others] for x in SCORES))
    expected = HEAD.loss(rest, ONES[others], noise=NOISE[others], reduction="sum").total
    assert_close(whole.detach(), expected.detach(), "reordered")
