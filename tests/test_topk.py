"""The most probable classes: those of whole predictions, without ever holding one."""

import math

import pytest
import torch
from alive import Alive
from raised import raises
from tolerances import assert_close
from variants import VARIANTS

import dropmax
from dropmax.functional import Objective, softmax_loss
from dropmax.heads import DropMaxHead, Head, SoftmaxHead, top

N, D, K = 7, 6, 11


@pytest.fixture
def chunks_of(monkeypatch):
    """Sets how many classes a chunk holds, k or more, for some instances."""

    def chunks_of(classes, instances=N):
        for constant in ("ON_CPU", "ON_GPU"):
            monkeypatch.setattr(top, constant, classes * instances)

    return chunks_of


def make(name, dtype=torch.float32):
    """A head of this name; all its biases differ."""
    head = dropmax.make_head(name, D, K, dtype=dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return head


def assert_top(head, features, k):
    """Equal to a whole prediction: the values, and what the indices pick."""
    log_probs = head.predict(features).detach()
    values, indices = head.topk(features, k)
    kind = "value" if values.element_size() < 4 else "reordered"
    assert values.dtype == log_probs.dtype
    assert not values.requires_grad
    assert_close(values, log_probs.topk(k).values, kind)
    assert_close(log_probs.gather(-1, indices), values, kind)
    distinct = indices.sort(-1).values
    assert (distinct[..., 1:] > distinct[..., :-1]).all()


@pytest.mark.parametrize("classes", [1, 2, 3, K])
@pytest.mark.parametrize("k", [1, 3, K])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_it_is_the_top_of_a_whole_prediction(name, dtype, k, classes, chunks_of):
    chunks_of(classes)
    assert_top(make(name, dtype), torch.randn(N, D, dtype=dtype), k)


@pytest.mark.parametrize("name", ["softmax", "sparsemax", "dropmax"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (2, 0, 3)])
def test_any_batch_axes(name, shape, chunks_of):
    chunks_of(2)
    assert_top(make(name), torch.randn(*shape, D), 3)
    values, indices = make(name).topk(torch.randn(*shape, D), 3)
    assert values.shape == indices.shape == (*shape, 3)


def test_one_class():
    values, indices = DropMaxHead(D, 1).topk(torch.randn(N, D), 1)
    assert not values.any()
    assert not indices.any()


@pytest.mark.parametrize("bias", [True, False])
def test_maps_without_biases(bias, chunks_of):
    chunks_of(2)
    assert_top(DropMaxHead(D, K, bias=bias), torch.randn(N, D), 3)


@pytest.mark.parametrize("name", ["softmax", "attention", "dropmax"])
@pytest.mark.parametrize("masked", [range(4), range(4, K), range(0, K, 2)])
def test_classes_that_a_bias_masks(name, masked, chunks_of):
    """Their log-probability is -inf, be they a whole chunk or not, first or last."""
    chunks_of(2)
    head = make(name)
    head.bias.data[list(masked)] = -math.inf
    features = torch.randn(N, D)
    assert_top(head, features, K)
    assert head.topk(features, K).values[:, -len(masked) :].isneginf().all()


def test_very_large_logits_keep_their_digits(chunks_of):
    chunks_of(2)
    head = make("softmax")
    head.bias.data.add_(1e4)
    assert_top(head, torch.randn(N, D), K)
    assert_top(head, 1e4 * torch.randn(N, D), K)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype, device, chunks_of):
    chunks_of(2)
    head = make("dropmax:gate_rank=2")
    with torch.autocast(device, dtype):
        assert_top(head, torch.randn(N, D), 3)


class Uniform(Head):
    """Whatever its logits are, it predicts the same of all classes but the last."""

    def objective(self, scores, label, **_random):
        return Objective.of_nll(softmax_loss(scores.logits, label))

    def log_probs(self, scores, **_options):
        return torch.zeros_like(scores.logits).index_fill(-1, torch.tensor(K - 1), 1.0)


class Doubled(SoftmaxHead):
    def forward(self, features, *, correction=True):
        return super().forward(2.0 * features, correction=correction)


@pytest.mark.parametrize("kind", [Uniform, Doubled])
def test_a_head_that_predicts_in_its_own_way(kind, chunks_of):
    chunks_of(2)
    head, features = kind(D, K), torch.randn(N, D)
    assert_top(head, features, 3)
    if kind is Uniform:
        assert (head.topk(features, 1).indices == K - 1).all()


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("k", "error"), [(0, ValueError), (K + 1, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_a_k_that_does_not_fit(k, error):
    for name in ("softmax", "sparsemax"):
        head = dropmax.make_head(name, D, K)
        with raises(error, f"{type(head).__name__}.topk: k"):
            head.topk(torch.randn(N, D), k)


def test_features_that_do_not_fit():
    with raises(ValueError, "DropMaxHead.topk: features"):
        DropMaxHead(D, K).topk(torch.randn(N, D + 1), 3)


@pytest.mark.parametrize("name", ["softmax", "dropmax", "dropmax:gate_rank=2", "attention"])
def test_nothing_of_the_size_of_all_scores_is_held(name, chunks_of):
    instances, classes = 50, 2_000
    chunks_of(20, instances)
    head = dropmax.make_head(name, D, classes)
    features = torch.randn(instances, D)
    with torch.no_grad(), Alive() as whole:
        head.predict(features)
    with Alive() as alive:
        head.topk(features, 10)
    assert whole.most > instances * classes
    assert alive.most < instances * classes / 2


def test_a_gpu_takes_more_classes_at_once():
    count = {kind: top.classes_at_once(64, 10, torch.device(kind)) for kind in ("cpu", "cuda")}
    assert count == {"cpu": 16_384, "cuda": 262_144}
    assert top.classes_at_once(2**22, 10, torch.device("cpu")) == 10


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", ["softmax", "sparsemax", "dropmax:gate_rank=2"])
def test_compiled_code(name, chunks_of):
    torch.compiler.reset()
    chunks_of(4)
    head, features = make(name), torch.randn(N, D)
    expected = head.topk(features, 3)
    compiled = torch.compile(lambda x: head.topk(x, 3), fullgraph=True, backend="eager")
    values, indices = compiled(features)
    assert_close(values, expected.values, "compiled")
    assert torch.equal(indices, expected.indices)
