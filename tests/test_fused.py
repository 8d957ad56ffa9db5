"""The fused objective: equal to maps and `head.loss`, noise of the right law, what it refuses."""

import itertools
import math
import os
import subprocess
import sys

import pytest
import seeded
import torch
from alive import Alive
from raised import raises
from tolerances import assert_close

import dropmax
from dropmax import _noise as noise
from dropmax.errors import DropmaxValueError
from dropmax.functional import ObjectiveOptions
from dropmax.fused import chunks, compiled, linear_dropmax_objective, passes
from dropmax.heads import ComputedPosteriorHead, DropMaxHead, MarginalHead

N, D, K = 7, 5, 6

HEADS = {
    "paper": {"preset": "paper"},
    "default": {"preset": "default"},
    "prior": {"preset": "paper", "posterior": "prior"},
    "prior and plug-in": {"preset": "paper", "posterior": "prior", "plugin_share": 0.3},
    "analytic": {"preset": "paper", "posterior": "analytic"},
    "analytic and plug-in": {"preset": "paper", "posterior": "analytic", "plugin_share": 0.6},
    "mean": {"preset": "paper", "masks": "mean"},
    "straight through": {"preset": "paper", "masks": "straight_through"},
    "samples": {"preset": "paper", "num_samples": 3, "plugin_share": 0.4, "plugin_focus": 2.0},
    "weights": {
        "preset": "paper",
        "aux_prior": 0.2,
        "kl_weight": 0.3,
        "entropy_weight": 0.2,
        "aux_weight": 0.1,
        "plugin_share": 0.7,
        "plugin_focus": 0.5,
    },
    "base rate": {"preset": "paper", "aux_prior": "base_rate", "temperature": 1.0},
    "no floor": {"preset": "paper", "floor": 0.0, "plugin_share": 0.5},
    "a floor below float32": {"preset": "paper", "floor": 1e-46, "plugin_share": 0.5},
    "high floor": {"preset": "paper", "floor": 0.2, "plugin_share": 0.5},
    "no biases": {"preset": "paper", "bias": False},
    "low rank": {"preset": "paper", "gate_rank": 3},
    "low rank of the default": {"preset": "default", "gate_rank": 1},
    "low rank of the prior": {"preset": "paper", "posterior": "prior", "gate_rank": 5},
    "low rank by autograd": {"preset": "paper", "num_samples": 2, "gate_rank": 2, "bias": False},
}


def make(num_classes, **options):
    """The head with these options."""
    computed = options.get("posterior") in ComputedPosteriorHead.posteriors
    return (ComputedPosteriorHead if computed else DropMaxHead)(D, num_classes, **options)


LABELS = ("index", "ignored", "soft", "smooth", "class weights", "sample weights")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks of three instances, the last one smaller, in parts."""
    monkeypatch.setattr(passes, "rows_at_once", lambda *_: 3)
    monkeypatch.setattr(chunks, "part_of", lambda *_, **__: 2 * K)  # and parts of two


def label(kind, dtype):
    """A target and the options that go with it."""
    target = torch.arange(N) % K
    if kind == "soft":
        probabilities = torch.rand(N, K, dtype=dtype)
        return probabilities / probabilities.sum(-1, keepdim=True), {}
    if kind == "ignored":
        return target.index_fill(0, torch.tensor([2, 6]), -1), {"ignore_index": -1}
    return target, {
        "index": {},
        "smooth": {"label_smoothing": 0.2},
        "class weights": {"weight": torch.linspace(0.0, 2.0, K)},
        "sample weights": {"sample_weight": torch.linspace(0.0, 2.0, N)},
    }[kind]


def found(loss, head, features, reduction):
    """Terms and all gradients of a loss of the features."""
    features = features.clone().requires_grad_()
    head.zero_grad()
    objective = loss(features)
    shape = objective.total.shape
    factor = torch.linspace(0.5, 1.5, N) if reduction == "none" else torch.tensor(1.7)
    (objective.total * factor.to(objective.total.dtype).reshape(shape)).sum().backward()
    assert not any(term.requires_grad for term in objective[1:]) or loss.__name__ == "composed"
    gradients = [features.grad, *(parameter.grad for parameter in head.parameters())]
    return [term.detach() for term in objective], gradients


LIMITS = {"float64": (1e-12, 1e-12), "float32": (3e-6, 3e-6), "bfloat16": (3e-6, 0.03)}
LIMITS["autocast"] = LIMITS["bfloat16"]
"""Of the terms and of the gradients: in bfloat16 a gradient is rounded once, or in each product.

On CUDA a score may be rounded otherwise where the product has fewer rows.
"""


def takes(name, kind):
    """Whether a head takes such a label."""
    return HEADS[name].get("masks") != "straight_through" or kind not in ("soft", "smooth")


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("name", "kind"), [case for case in itertools.product(HEADS, LABELS) if takes(*case)]
)
def test_values_and_gradients_are_those_of_the_composition(
    name, kind, reduction, precision, device
):
    dtype = torch.float32 if precision == "autocast" else getattr(torch, precision)
    head = make(K, dtype=dtype, **HEADS[name])
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=1.5)
    features = torch.randn(N, D, dtype=dtype)
    target, options = label(kind, dtype)
    samples = () if head.num_samples == 1 else (head.num_samples,)
    uniforms = None if head.masks == "mean" else torch.rand(*samples, N, K)
    options |= {"reduction": reduction, "noise": uniforms}

    def composed(x):
        return head.loss(head(x), target, **options)

    def fused(x):
        return head.fused_loss(x, target, **options)

    with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "autocast"):
        expected = found(composed, head, features, reduction)
        got = found(fused, head, features, reduction)
    limits = LIMITS[precision] if device == "cpu" else LIMITS[precision][-1:] * 2
    for one, other, limit in zip(expected, got, limits, strict=True):
        for value, same in zip(one, other, strict=True):
            scale = 1.0 + value.abs().max().item()
            assert (same - value).abs().max().item() / scale < limit


def test_gradients_are_those_of_differences():
    torch.manual_seed(1)
    head = DropMaxHead(D, K, dtype=torch.float64, preset="paper", plugin_share=0.0, temperature=0.7)
    uniforms, target = torch.rand(N, K), torch.arange(N) % K
    features = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
    maps = [torch.randn_like(p).requires_grad_() for p in head.parameters() if p.ndim == 2]

    def total(features, weight, retain_weight, correction_weight):
        return linear_dropmax_objective(
            features,
            weight,
            None,
            retain_weight.detach(),  # the posterior holds it fixed, which differences do not
            None,
            correction_weight,
            None,
            target,
            options=ObjectiveOptions(temperature=0.7),
            noise=uniforms,
        ).total

    fixed = maps[1].detach()
    torch.autograd.gradcheck(lambda w, c: total(features.detach(), w, fixed, c), maps[::2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(dtype, device):
    torch.manual_seed(2)
    features, target = torch.randn(N, D), torch.arange(N) % K
    uniforms = torch.rand(N, K)
    for autocast in (False, True):
        head = DropMaxHead(D, K, dtype=None if autocast else dtype, preset="paper")
        given = features if autocast else features.to(dtype)

        def composed(x, head=head):
            return head.loss(head(x), target, noise=uniforms)

        def fused(x, head=head):
            return head.fused_loss(x, target, noise=uniforms)

        with torch.autocast(device, dtype=dtype, enabled=autocast):
            terms, gradients = found(composed, head, given, "mean")
            same_terms, same_gradients = found(fused, head, given, "mean")
        for expected, got in zip(terms, same_terms, strict=True):
            assert got.dtype == torch.float32
            assert_close(got, expected, "compiled")
        for expected, got in zip(gradients, same_gradients, strict=True):
            assert got.dtype == expected.dtype
            scale = expected.abs().max()
            assert ((got - expected).abs().max() / scale).item() < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_seed_gives_the_same_masks_whatever_the_chunks(reduction, monkeypatch):
    head = dropmax.make_head("dropmax:preset=paper", D, K)
    features, target = torch.randn(N, D), torch.arange(N) % K
    results = []
    for rows in (3, 7):
        monkeypatch.setattr(passes, "rows_at_once", lambda *_, rows=rows: rows)

        def fused(x):
            generator = seeded.generator(5)
            return head.fused_loss(x, target, reduction=reduction, generator=generator)

        terms, gradients = found(fused, head, features, reduction)
        results.append([*terms, *gradients])
    for one, other in zip(*results, strict=True):
        assert_close(one, other, "reordered")
    other = head.fused_loss(features, target, generator=seeded.generator(6)).total
    assert not torch.isclose(results[0][0].mean(), other, rtol=1e-4)


NOISY = ("paper", "default", "prior", "analytic", "straight through", "samples", "low rank")


@pytest.mark.parametrize(
    ("name", "smoothing"),
    [(name, 0.0) for name in NOISY] + [(name, 0.1) for name in ("paper", "analytic", "samples")],
)
def test_noise_of_keys_is_the_uniforms_of_these_keys(name, smoothing, device):
    """What is drawn is the law that is tested below, and is drawn anew at every call."""
    head = make(K, **HEADS[name], dtype=torch.float64)
    features, target = torch.randn(N, D, dtype=torch.float64), torch.arange(N) % K
    samples = () if head.num_samples in (None, 1) else (head.num_samples,)
    keys = noise.draw_keys((*samples, N), torch.device(device), seeded.generator(5))
    uniforms = noise.uniforms(keys, K, torch.float64)

    def gradient(objective):
        head.zero_grad()
        objective.total.backward()
        return objective.total.detach(), head.weight.grad.clone()

    drawn = gradient(
        head.fused_loss(
            features,
            target,
            label_smoothing=smoothing,
            generator=seeded.generator(5),
        )
    )
    given = gradient(head.loss(head(features), target, label_smoothing=smoothing, noise=uniforms))
    assert_close(drawn[0], given[0], "reordered")
    assert_close(drawn[1], given[1], "reordered")
    first, second = (
        head.fused_loss(features, target, label_smoothing=smoothing).total for _ in range(2)
    )
    assert not torch.isclose(first, second, rtol=1e-6)


def test_what_lies_between_the_passes_may_not_be_changed():
    head = dropmax.make_head("dropmax:preset=paper", D, K)
    uniforms = torch.rand(N, K)
    loss = head.fused_loss(torch.randn(N, D), torch.arange(N) % K, reduction="none", noise=uniforms)
    uniforms.uniform_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.total.sum().backward()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_autocast_leaves_float64_alone(reduction, device):
    head = DropMaxHead(D, K, preset="paper", dtype=torch.float64)
    features, target = torch.randn(N, D, dtype=torch.float64), torch.arange(N) % K
    given = {"noise": torch.rand(N, K, dtype=torch.float64), "reduction": reduction}
    with torch.autocast(device, dtype=torch.bfloat16):
        lowered = head.fused_loss(features, target, **given).total
    assert_close(lowered, head.fused_loss(features, target, **given).total, "reordered")


def test_masks_that_are_not_drawn_read_no_noise():
    head = DropMaxHead(D, K, preset="paper", masks="mean")
    features, target = torch.randn(N, D), torch.arange(N) % K
    read = head.fused_loss(features, target, noise=torch.zeros(1)).total
    assert read == head.fused_loss(features, target).total


def test_the_backward_pass_of_none_sees_the_masks_of_the_forward_pass():
    """The gradient of the sum of "none" is that of "sum" under the same keys."""
    head = dropmax.make_head("dropmax:preset=paper", D, K)
    features, target = torch.randn(N, D), torch.arange(N) % K
    gradients = []
    for reduction in ("none", "sum"):
        head.zero_grad()
        generator = seeded.generator(5)
        loss = head.fused_loss(features, target, reduction=reduction, generator=generator)
        torch.manual_seed(len(gradients))
        loss.total.sum().backward()
        gradients.append(head.weight.grad.clone())
    assert_close(*gradients, "reordered")


def test_noise_is_uniform_and_independent_over_rows_classes_and_steps(device):
    generator = seeded.generator(0)
    keys = noise.draw_keys((2, 512), torch.device(device), generator)  # two steps
    count = 4096
    drawn = noise.uniforms(keys, count, torch.float64)
    assert drawn.min() > 0.0
    assert drawn.max() < 1.0
    total = drawn.numel()
    for parts in (10, 256):  # chi-square of equal parts, five deviations from its mean
        seen = (drawn * parts).long().flatten().bincount(minlength=parts).double()
        statistic = ((seen - total / parts) ** 2 / (total / parts)).sum()
        assert abs(statistic - (parts - 1)) < 5.0 * math.sqrt(2.0 * (parts - 1))
    low_bits = noise.steps_of(keys, count) % 256
    seen = low_bits.long().flatten().bincount(minlength=256).double()
    statistic = ((seen - total / 256) ** 2 / (total / 256)).sum()
    assert abs(statistic - 255) < 5.0 * math.sqrt(2.0 * 255)
    normal = (drawn - 0.5) * math.sqrt(12.0)
    limit = 5.0 / math.sqrt(total)
    for lag in (1, 2, 4, 64, 1024):
        assert (normal[..., lag:] * normal[..., :-lag]).mean().abs() < 5.0 / math.sqrt(
            normal[..., lag:].numel()
        ), f"classes {lag} apart"
    for lag in (1, 2, 256):
        assert (normal[:, lag:] * normal[:, :-lag]).mean().abs() < 5.0 / math.sqrt(
            normal[:, lag:].numel()
        ), f"rows {lag} apart"
    assert (normal[0] * normal[1]).mean().abs() < limit * math.sqrt(2.0), "steps"
    between_rows = normal[0] @ normal[0].T / math.sqrt(count)
    off = between_rows[~torch.eye(512, dtype=torch.bool)]
    assert abs(off.std().item() - 1.0) < 0.01, "correlations of rows are those of chance"
    assert off.abs().max() < 6.0


def test_rows_whose_first_keys_are_neighbours_are_not_permutations_of_each_other():
    keys = torch.tensor([[8, 1234], [9, 987654]], dtype=torch.int32)
    one, other = noise.steps_of(keys, 1024).sort(-1).values
    assert not torch.equal(one, other)
    assert len(torch.isin(one, other).nonzero()) < 5


@pytest.mark.usefixtures("untyped")
def test_the_extreme_steps_are_strictly_between_0_and_1(monkeypatch):
    steps = torch.tensor([0, 1, noise.STEPS - 2, noise.STEPS - 1])
    monkeypatch.setattr(noise, "steps_of", lambda *_: steps)
    for dtype in (torch.float32, torch.float64):
        drawn = noise.uniforms(None, 4, dtype)
        assert 0.0 < drawn[0] < drawn[1] < drawn[2] < drawn[3] < 1.0
        assert torch.equal(drawn, 1.0 - drawn.flip(0))
        assert noise.logistics(None, 4, dtype).isfinite().all()


@pytest.mark.usefixtures("untyped")
def test_logistic_noise_is_the_logit_of_the_uniform(device):
    keys = noise.draw_keys((64,), torch.device(device), seeded.generator(1))
    expected = torch.logit(noise.uniforms(keys, 1000, torch.float64))
    assert (noise.logistics(keys, 1000, torch.float64) - expected).abs().max() < 1e-9
    assert (noise.logistics(keys, 1000, torch.float32) - expected).abs().max() < 1e-5


def test_scores_of_thousands_stay_finite():
    for size in (1e2, 1e4):
        head = DropMaxHead(D, K, preset="paper", plugin_share=0.5)
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=size)
        features = torch.randn(N, D, requires_grad=True)
        uniforms = torch.rand(N, K)
        target = torch.arange(N) % K
        loss = head.fused_loss(features, target, noise=uniforms)
        loss.total.backward()
        assert all(term.isfinite() for term in loss)
        assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
        expected = head.loss(head(features), target, noise=uniforms).total
        assert torch.isclose(loss.total, expected, rtol=1e-5)


def test_batch_axes_empty_batches_and_frozen_maps():
    head = dropmax.make_head("dropmax:preset=paper", D, K)
    features, target = torch.randn(2, 3, D), torch.arange(6).reshape(2, 3) % K
    uniforms = torch.rand(2, 3, K)
    none = head.fused_loss(features, target, reduction="none", noise=uniforms)
    assert none.total.shape == (2, 3)
    expected = head.loss(head(features), target, reduction="none", noise=uniforms)
    assert_close(none.total, expected.total, "reordered")
    empty = head.fused_loss(torch.empty(0, D), torch.empty(0, dtype=torch.int64))
    assert empty.total.item() == 0.0
    empty.total.backward()
    assert not head.weight.grad.any()
    head.zero_grad()
    head.retain_weight.requires_grad_(False)
    head.fused_loss(features, target).total.backward()
    assert head.retain_weight.grad is None
    assert head.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert not head.fused_loss(features, target).total.requires_grad


@pytest.mark.parametrize(
    ("name", "reduction"),
    [("paper", "none"), *((n, "mean") for n in ("paper", "samples", "analytic", "low rank"))],
)
def test_nothing_of_the_size_of_scores_outlives_its_chunk(name, reduction):
    """Twice the instances hold more by what a few numbers an instance need."""
    classes = 500
    head = make(classes, **HEADS[name])

    def alive(count):
        features, target = torch.randn(count, D), torch.arange(count) % classes
        head.zero_grad()
        with Alive() as alive:
            head.fused_loss(features, target, reduction=reduction).total.sum().backward()
        return alive.most

    few, many = alive(60), alive(120)
    assert few > 3 * 3 * classes  # scores of three instances for each of the maps
    assert 0 <= many - few < 60 * 50 < 60 * classes


def test_where_no_gradient_is_wanted_none_is_computed(monkeypatch):
    def fails(*_):
        raise AssertionError

    monkeypatch.setattr(passes.Map, "add_gradients", fails)
    monkeypatch.setattr(torch.autograd, "grad", fails)
    target = torch.arange(N) % K
    for name, options in (("paper", {}), ("default", {"label_smoothing": 0.1}), ("samples", {})):
        head = make(K, **HEADS[name])
        samples = (3,) if name == "samples" else ()
        features = torch.randn(N, D)
        given = {"noise": torch.rand(*samples, N, K), **options}
        expected = head.loss(head(features), target, **given).total.detach()
        for mode in (torch.no_grad(), torch.inference_mode()):
            with mode:
                assert_close(head.fused_loss(features, target, **given).total, expected, "compiled")
        head.fused_loss(features, target, reduction="none", **given)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cpu", {100: 83_886, 10_000: 838, 131_072: 64, 2**20: 32, 2**28: 32}),
        ("cuda", {100: 4_096, 10_000: 3_355, 131_072: 1_024, 2**20: 128, 2**28: 32}),
    ],
)
def test_a_gpu_takes_more_instances_at_once(kind, expected, monkeypatch):
    monkeypatch.undo()  # small_chunks
    device = torch.device(kind)
    assert {count: passes.rows_at_once(count, device) for count in expected} == expected
    parts = [chunks.part_of(2**27, device, exchanges=exchanges) for exchanges in (False, True)]
    assert parts == ([2**24, 2**24] if kind == "cuda" else [2**18, 2**20])
    assert chunks.part_of(2**20, torch.device("cuda"), exchanges=False) == 2**22


@pytest.mark.parametrize("rows", [1, 7])
def test_many_chunks_add_up_to_bfloat16_gradients_in_float32(rows, monkeypatch):
    monkeypatch.setattr(passes, "rows_at_once", lambda *_: rows)
    monkeypatch.setattr(passes, "FEW_SUMS", 6)
    features = torch.randn(N, D, dtype=torch.bfloat16)
    head = make(K, dtype=torch.bfloat16)
    made = []
    monkeypatch.setattr(
        passes.Map, "add_gradients", lambda self, *_: made.append(self.to_weight.dtype)
    )
    head.fused_loss(features, torch.arange(N) % K)
    assert set(made) == {torch.float32 if rows == 1 else torch.bfloat16}


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_second_derivatives_are_refused(reduction):
    head = DropMaxHead(D, K)
    features = torch.randn(N, D, requires_grad=True)
    total = head.fused_loss(features, torch.arange(N) % K, reduction=reduction).total.sum()
    with pytest.raises(DropmaxValueError, match="create_graph must"):
        torch.autograd.grad(total, features, create_graph=True)


def test_retained_backward_passes_add_up():
    head = DropMaxHead(D, K, gate_rank=2)
    features = torch.randn(N, D, requires_grad=True)
    total = head.fused_loss(features, torch.arange(N) % K).total
    total.backward(retain_graph=True)
    tensors = features, *head.parameters()
    once = [tensor.grad.clone() for tensor in tensors]
    features.grad.zero_()
    total.backward(retain_graph=True)
    total.backward()
    for n, (tensor, gradient) in enumerate(zip(tensors, once, strict=True)):
        assert_close(tensor.grad, (3 if n else 2) * gradient, "reordered")


def test_scaled_float16_keeps_the_gradients_of_many_classes(device):
    torch.manual_seed(4)
    classes = 4096
    head, features = DropMaxHead(D, classes), torch.randn(64, D)
    target, uniforms = torch.randint(classes, (64,)), torch.rand(64, classes)
    gradients = []
    for half in (False, True):
        head.zero_grad()
        with torch.autocast(device, dtype=torch.float16, enabled=half):
            total = head.fused_loss(features, target, noise=uniforms).total
        (total * 65_536.0).backward()
        gradients.append([parameter.grad / 65_536.0 for parameter in head.parameters()])
    for expected, got in zip(*gradients, strict=True):
        assert ((got - expected).norm() / expected.norm()).item() < 0.01


def test_float64_weights_leave_the_objective_in_the_dtype_of_the_head():
    head, weight = DropMaxHead(D, K), torch.ones(K, dtype=torch.float64)
    objective = head.fused_loss(torch.randn(N, D), torch.arange(N) % K, weight=weight)
    assert {term.dtype for term in objective} == {torch.float32}


@pytest.mark.cpu
def test_importing_dropmax_imports_no_compiler():
    code = "import sys, dropmax.heads; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


WRONG = {
    "no such posterior": (
        {"posterior": "exact"},
        ValueError,
        "linear_dropmax_objective: posterior",
    ),
    "a correction too many": (
        {"posterior": "prior"},
        ValueError,
        "linear_dropmax_objective: correction_weight",
    ),
    "a bias of no correction": (
        {"posterior": "prior", "correction_weight": None, "correction_bias": torch.zeros(K)},
        ValueError,
        "linear_dropmax_objective: correction_bias",
    ),
    "an aux_prior without aux": (
        {
            "posterior": "prior",
            "correction_weight": None,
            "options": ObjectiveOptions(aux_prior="base_rate"),
        },
        ValueError,
        "linear_dropmax_objective: aux_prior",
    ),
    "no weight": ({"linear_weight": None}, TypeError, "linear_dropmax_objective: linear_weight"),
    "no classes": (
        {"linear_weight": torch.zeros(0, D)},
        ValueError,
        "linear_dropmax_objective: linear_weight",
    ),
    "no correction": (
        {"correction_weight": None},
        ValueError,
        "linear_dropmax_objective: correction_weight",
    ),
    "another width": (
        {"retain_weight": torch.zeros(K, D + 1)},
        ValueError,
        "linear_dropmax_objective: retain_weight",
    ),
    "gates of another rank": (
        {"gate_weight": torch.zeros(3, D)},
        ValueError,
        "linear_dropmax_objective: retain_weight",
    ),
    "a gate of another width": (
        {"gate_weight": torch.zeros(3, D + 1)},
        ValueError,
        "linear_dropmax_objective: gate_weight",
    ),
    "another dtype": (
        {"retain_bias": torch.zeros(K).double()},
        ValueError,
        "linear_dropmax_objective: retain_bias",
    ),
    "no target": (
        {"target": torch.zeros(N, K, dtype=torch.int64)},
        ValueError,
        "linear_dropmax_objective: target",
    ),
    "a target too high": (
        {"target": torch.full((N,), K)},
        ValueError,
        "linear_dropmax_objective: target",
    ),
    "no reduction": ({"reduction": "all"}, ValueError, "linear_dropmax_objective: reduction"),
    "noise of another shape": (
        {"noise": torch.rand(N, K + 1)},
        ValueError,
        "linear_dropmax_objective: noise",
    ),
    "noise and generator": (
        {"noise": torch.rand(N, K), "generator": torch.Generator()},
        ValueError,
        "linear_dropmax_objective: generator",
    ),
    "soft labels and hard masks": (
        {"options": ObjectiveOptions(masks="straight_through"), "label_smoothing": 0.1},
        ValueError,
        "linear_dropmax_objective: masks",
    ),
    "class weights of another number": (
        {"weight": torch.ones(K + 1)},
        ValueError,
        "linear_dropmax_objective: weight",
    ),
    "a label that is learned": (
        {"target": torch.full((N, K), 1.0 / K, requires_grad=True)},
        ValueError,
        "linear_dropmax_objective: target",
    ),
    "class weights that are learned": (
        {"weight": torch.ones(K, requires_grad=True)},
        ValueError,
        "linear_dropmax_objective: weight",
    ),
    "weights of instances that are learned": (
        {"sample_weight": torch.ones(N, requires_grad=True)},
        ValueError,
        "linear_dropmax_objective: sample_weight",
    ),
}


@pytest.mark.cpu
@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case):
    changes, kind, where = WRONG[case]
    arguments = {
        "features": torch.randn(N, D),
        "linear_weight": torch.zeros(K, D),
        "linear_bias": None,
        "retain_weight": torch.zeros(K, D),
        "retain_bias": None,
        "correction_weight": torch.zeros(K, D),
        "correction_bias": None,
        "target": torch.zeros(N, dtype=torch.int64),
    }
    with raises(kind, where):
        linear_dropmax_objective(**(arguments | changes))


def test_a_head_that_goes_over_the_classes_many_times_refuses():
    head = ComputedPosteriorHead(D, K, posterior="exact")
    assert not head.can_fuse
    assert not hasattr(MarginalHead(D, K), "fused_loss")
    with raises(ValueError, "ComputedPosteriorHead.fused_loss: the head's posterior"):
        head.fused_loss(torch.randn(N, D), torch.arange(N) % K)


@pytest.mark.slow
@pytest.mark.usefixtures("untyped")
def test_compiled_code_gives_the_same(monkeypatch):
    monkeypatch.setattr(compiled, "ENOUGH", 1)
    again = compiled.Compiled(chunks.in_one_pass.function)
    monkeypatch.setattr(chunks, "in_one_pass", again)
    torch.manual_seed(3)
    stats = torch._dynamo.utils.counters["stats"]
    cases = [(HEADS[n], {}) for n in ("paper", "default", "prior", "analytic", "mean")]
    for options, given in (*cases, (HEADS["paper"], {"noise": torch.rand(N, 40)})):
        head = make(40, **options)
        features, target = torch.randn(N, D), torch.arange(N)
        results = []
        graphs = stats["unique_graphs"]
        for possible in (True, False):
            chunks.in_one_pass.possible = possible

            def fused(x, head=head, target=target, given=given):
                random = given or {"generator": seeded.generator(5)}
                return head.fused_loss(x, target, **random)

            terms, gradients = found(fused, head, features, "mean")
            assert chunks.in_one_pass.possible == possible
            results.append([*terms, *gradients])
        assert stats["unique_graphs"] > graphs, options
        for one, other in zip(*results, strict=True):
            assert ((one - other).abs().max() / (1.0 + other.abs().max())).item() < 1e-5


@pytest.mark.cpu
@pytest.mark.slow
def test_without_a_compiler_it_goes_on_in_plain_code(tmp_path):
    code = (
        "import torch, dropmax, warnings\n"
        "from dropmax.fused import chunks, compiled\n"
        "compiled.ENOUGH = 1\n"
        "caught = warnings.catch_warnings(record=True)\n"
        "found = caught.__enter__()\n"
        "head = dropmax.make_head('dropmax', 5, 40)\n"
        "head.fused_loss(torch.randn(7, 5), torch.arange(7)).total.backward()\n"
        "assert not chunks.in_one_pass.possible\n"
        "assert ['plain code runs' in str(w.message) for w in found].count(True) == 1, found\n"
        "assert head.weight.grad.abs().sum() > 0\n"
    )
    environment = os.environ | {"CXX": "/no/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
