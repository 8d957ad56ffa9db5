"""Every option of nn.CrossEntropyLoss, for every head: torch with open gates, mixtures without."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from tolerances import assert_close
from torch import nn
from variants import GATED, SAMPLED, VARIANTS

import dropmax

TERMS = ("nll", "kl", "neg_entropy", "aux")
OPEN = {
    "softmax": {},
    "sampled_softmax": {"sampled_share": 1.0},
    "class_dropout": {"retain_prob": 1.0},
    "attention": {"floor": 0.0},
    "as_softmax": {"delta": 1.0},
    "dropmax_prior": {},
    "dropmax": {"aux_weight": 0.0},
    "dropmax_marginal": {},
    "dropmax_computed": {},
    "dropmax_computed:posterior=analytic": {},
}
"""The heads that are cross-entropy where every class is retained, and how they come to be it."""

SHAPES = [(), (7,), (2, 3)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def make(name, num_classes=5, dtype=torch.float64, **options):
    return dropmax.make_head(name, 6, num_classes, dtype=dtype, **options)


def probabilities(*shape, num_classes=5, dtype=torch.float64):
    return torch.rand(*shape, num_classes, dtype=dtype).softmax(-1)


def scores_of(head, *shape, num_classes=5, dtype=torch.float64):
    """Random scores: gates half open."""
    branches = [
        (2 * torch.randn(*shape, num_classes, dtype=dtype)).requires_grad_()
        for _ in range(1 + len(head.branches))
    ]
    return dropmax.Scores(*branches)


def case(head, *shape, num_classes=5):
    """Scores, class indices, class probabilities, noise."""
    num_samples = getattr(head, "num_samples", None) or 1
    samples = (num_samples,) if num_samples > 1 else ()
    return (
        scores_of(head, *shape, num_classes=num_classes),
        torch.randint(num_classes, shape),
        probabilities(*shape, num_classes=num_classes),
        torch.rand(*samples, *shape, num_classes).clamp(1e-6, 1 - 1e-6),
    )


def plain(logits, target, **options):
    """torch's cross-entropy of logits whose classes come last, after any leading dimensions."""
    if target.is_floating_point():
        flat = F.cross_entropy(logits.reshape(-1, 5), target.reshape(-1, 5), **options)
    else:
        flat = F.cross_entropy(logits.reshape(-1, 5), target.reshape(-1), **options)
    return flat.reshape(logits.shape[:-1]) if options["reduction"] == "none" else flat


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("name", OPEN)
def test_is_torchs_cross_entropy_where_the_gates_are_open(name, dtype, record_property):
    head = make(name, **OPEN[name])
    weights = [None, torch.tensor([0.2, 1.0, 3.0, 0.0, 1.5])]
    count = 0
    for weight, ignore_index, smoothing, reduction, soft, shape in itertools.product(
        weights, (-100, 1), (0.0, 0.1, 1.0), ("none", "mean", "sum"), (False, True), SHAPES
    ):
        if soft and ignore_index != -100:
            continue  # torch refuses it, and so do we
        logits = (3 * torch.randn(*shape, 5)).to(dtype)
        target = probabilities(*shape).to(dtype) if soft else torch.randint(5, shape)
        if not soft and shape == (7,):
            target[3] = ignore_index
        if not soft and shape == ():
            target = torch.tensor(2)  # torch's mean over nothing but weight 0 is NaN
        options = {"label_smoothing": smoothing, "reduction": reduction}
        ignoring = {} if soft else {"ignore_index": ignore_index}
        opened = torch.full_like(logits, 60.0)
        branches = [logits, opened, torch.zeros_like(logits)][: 1 + len(head.branches)]
        loss = head.loss(dropmax.Scores(*branches), target, weight=weight, **options, **ignoring)
        exact = plain(
            logits.double(),
            target.double() if soft else target,
            weight=None if weight is None else weight.double(),
            **options,
            **ignoring,
        )
        assert loss.total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        if name == "dropmax_marginal":  # an integral of each instance
            terms = 3.0 * logits[..., 0].numel() if reduction == "sum" else 3.0
            assert_close(loss.total / terms, exact / terms, "exact")
        else:
            assert_close(loss.total, exact, "cross-entropy")
        count += 1
    assert count == 162
    record_property("combinations of cross-entropy's options equal to torch's", count)


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_probabilities_are_the_mixture_of_the_hard_losses(name, weighted, smoothing, num_samples):
    """Values and gradients; the smoothing is of the nll alone."""
    sampled = name in SAMPLED
    if num_samples > 1 and not sampled:
        num_samples = 1
    head = make(name, **({"num_samples": num_samples} if sampled else {}))
    scores, _, probs, noise = case(head, 2, 3)
    weight = torch.tensor([0.2, 1.0, 3.0, 0.0, 1.5]).double() if weighted else None
    soft = head.loss(
        scores, probs, weight=weight, label_smoothing=smoothing, noise=noise, reduction="none"
    )
    hard = [
        head.loss(scores, torch.full((2, 3), k), noise=noise, reduction="none") for k in range(5)
    ]
    ones = torch.ones(5, dtype=torch.float64) if weight is None else weight
    for term in TERMS:
        share = (1 - smoothing) * probs + smoothing / 5 if term == "nll" else probs
        mixture = sum(share[..., k] * ones[k] * getattr(hard[k], term) for k in range(5))
        value = getattr(soft, term)
        assert_close(value, mixture.detach(), "mixture")
        branches = [branch for branch in scores if branch is not None]
        if not mixture.requires_grad:
            continue
        gradients, expected = (
            torch.autograd.grad(
                x.sum(), branches, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for x in (value, mixture)
        )
        for gradient, other in zip(gradients, expected, strict=True):
            assert_close(gradient, other, "mixture")


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("name", VARIANTS)
def test_one_hot_rows_are_indices(name, reduction, smoothing):
    head = make(name)
    scores, target, _, noise = case(head, 7)
    weight = torch.tensor([0.2, 1.0, 3.0, 0.0, 1.5])
    options = {"weight": weight, "label_smoothing": smoothing, "noise": noise}
    hard = head.loss(scores, target, reduction=reduction, **options)
    soft = head.loss(scores, F.one_hot(target, 5).double(), reduction=reduction, **options)
    for term, other in zip(soft, hard, strict=True):
        assert_close(term, other.detach(), "mixture")


@pytest.mark.parametrize("name", VARIANTS)
def test_the_gradient_of_the_probabilities_is_the_loss_of_each_class(name):
    """A teacher may learn, too, also of the classes that it rules out."""
    head = make(name)
    scores, _, _, noise = case(head, 4)
    probs = torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0]] * 4, dtype=torch.float64).requires_grad_()
    total = head.loss(scores, probs, noise=noise, reduction="sum").total
    (gradient,) = torch.autograd.grad(total, probs)
    for k in range(5):
        hard = head.loss(scores, torch.full((4,), k), noise=noise, reduction="none").total
        assert_close(gradient[:, k], hard.detach(), "mixture")


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", VARIANTS)
def test_ignored_instances_are_as_if_they_were_not_there(name, reduction):
    head = make(name)
    scores, target, _, noise = case(head, 7)
    ignored = torch.tensor([False, True, False, False, True, False, False])
    for ignore_index in (-100, 3, 99):
        target = torch.where(target == ignore_index, 0, target)
        given = torch.where(ignored, ignore_index, target)
        loss = head.loss(scores, given, ignore_index=ignore_index, noise=noise, reduction=reduction)
        kept = dropmax.Scores(*(None if x is None else x[~ignored] for x in scores))
        options = {"noise": noise[~ignored], "reduction": reduction, "ignore_index": ignore_index}
        expected = head.loss(kept, target[~ignored], **options)
        for term, other in zip(loss, expected, strict=True):
            if reduction == "none":
                assert not term[ignored].any()
                term = term[~ignored]
            assert_close(term, other.detach(), "value")


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("name", VARIANTS)
def test_where_all_are_ignored_the_loss_is_zero_with_zero_gradient(name, smoothing):
    head = make(name)
    scores, _, _, noise = case(head, 7)
    weight = torch.tensor([0.2, 1.0, 3.0, 0.0, 1.5])
    for reduction, weight in itertools.product(("none", "mean", "sum"), (None, weight)):  # noqa: B020
        loss = head.loss(
            scores,
            torch.full((7,), -100),
            weight=weight,
            label_smoothing=smoothing,
            noise=noise,
            reduction=reduction,
        )
        assert all(not term.any() for term in loss)
        branches = [branch for branch in scores if branch is not None]
        for gradient in torch.autograd.grad(loss.total.sum(), branches, allow_unused=True):
            assert gradient is None or not gradient.any()
    only_weightless = head.loss(scores, torch.full((7,), 3), weight=weight, noise=noise)
    assert only_weightless.total.item() == 0.0


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", VARIANTS)
def test_an_instance_of_weight_n_counts_as_n_instances(name, soft, reduction):
    head = make(name)
    scores, target, probs, noise = case(head, 6)
    label = probs if soft else target
    times = torch.tensor([1, 0, 2, 3, 1, 2])
    class_weight = torch.tensor([0.2, 1.0, 3.0, 0.0, 1.5])
    weighted = head.loss(
        scores,
        label,
        weight=class_weight,
        sample_weight=times.float(),
        noise=noise,
        reduction=reduction,
    )
    if reduction == "none":
        plain = head.loss(scores, label, weight=class_weight, noise=noise, reduction="none")
        for term, other in zip(weighted, plain, strict=True):
            assert_close(term, (other * times).detach(), "value")
        return
    repeated = head.loss(
        dropmax.Scores(*(None if x is None else x.repeat_interleave(times, dim=0) for x in scores)),
        label.repeat_interleave(times, dim=0),
        weight=class_weight,
        noise=noise.repeat_interleave(times, dim=0),
        reduction=reduction,
    )
    for term, other in zip(weighted, repeated, strict=True):
        assert_close(term, other.detach(), "value")


@pytest.mark.parametrize("kind", ["index", "probabilities", "smoothing"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_masked_class_is_safe_and_no_rival(name, kind):
    """A logit of -inf: the nll is that without the class, whose smoothing goes nowhere."""
    head = make(name)
    scores, target, probs, noise = case(head, 8)
    masked = 4
    rest = [0, 1, 2, 3]
    with torch.no_grad():
        scores.logits[:, masked] = -math.inf
        probs[:, masked] = 0.0
        probs /= probs.sum(-1, keepdim=True)
    target = target % masked
    label = probs if kind == "probabilities" else target
    smoothing = 0.5 if kind == "smoothing" else 0.0
    options = {"label_smoothing": smoothing, "reduction": "none"}
    loss = head.loss(scores, label, noise=noise, **options)
    assert all(term.isfinite().all() for term in loss)
    branches = [branch for branch in scores if branch is not None]
    for gradient in torch.autograd.grad(loss.total.sum(), branches):
        assert gradient.isfinite().all()
    assert not torch.autograd.grad(
        head.loss(scores, label, noise=noise, **options).nll.sum(), scores.logits
    )[0][:, masked].any()
    if name == "sampled_softmax":  # a masked class may be drawn, and then one rival is less
        return
    smaller = make(name, num_classes=4)
    less = dropmax.Scores(*(None if x is None else x[:, rest] for x in scores))
    hard = [
        smaller.loss(less, torch.full((8,), k), noise=noise[:, rest], reduction="none").nll
        for k in rest
    ]
    shares = (1 - smoothing) * (probs if kind == "probabilities" else F.one_hot(target, 5).double())
    expected = sum((shares[:, k] + smoothing / 5) * hard[k] for k in rest)
    assert_close(loss.nll, expected.detach(), "mixture")


@pytest.mark.parametrize("name", VARIANTS)
def test_the_loss_argument_overrides_the_smoothing_of_the_head(name):
    head, plain = make(name, label_smoothing=0.3), make(name)
    scores, target, _, noise = case(head, 7)
    smoothed = plain.loss(scores, target, label_smoothing=0.3, noise=noise)
    assert torch.equal(head.loss(scores, target, noise=noise).total, smoothed.total)
    overridden = head.loss(scores, target, label_smoothing=0.0, noise=noise)
    assert torch.equal(overridden.total, plain.loss(scores, target, noise=noise).total)
    assert not torch.equal(overridden.total, smoothed.total)
    assert "label_smoothing=0.3" in repr(head)


@pytest.mark.parametrize("name", VARIANTS)
def test_criterion_takes_what_cross_entropy_takes(name):
    model = nn.Sequential(nn.Linear(4, 6, dtype=torch.float64), make(name))
    images, target = torch.randn(9, 4, dtype=torch.float64), torch.randint(5, (9,))
    weight = torch.tensor([0.2, 1.0, 3.0, 0.0, 1.5], dtype=torch.float64)
    options = {"ignore_index": 2, "label_smoothing": 0.1, "reduction": "none"}
    criterion = dropmax.Criterion(model, weight=weight, **options)
    sample_weight = torch.rand(9)
    torch.manual_seed(1)
    loss = criterion(model(images), target, sample_weight=sample_weight)
    torch.manual_seed(1)
    expected = model[1].loss(
        model(images), target, weight=weight, sample_weight=sample_weight, **options
    )
    assert torch.equal(loss, expected.total)
    assert criterion.float().weight.dtype == torch.float32
    assert "reduction='none'" in repr(criterion)


@pytest.mark.parametrize("name", GATED)
def test_class_weights_multiply_the_whole_objective(name):
    head = make(name)
    scores, target, _, noise = case(head, 7)
    weight = torch.tensor([0.2, 1.0, 3.0, 0.0, 1.5], dtype=torch.float64)
    plain = head.loss(scores, target, noise=noise, reduction="none")
    weighted = head.loss(scores, target, weight=weight, noise=noise, reduction="none")
    for term, other in zip(weighted, plain, strict=True):
        assert_close(term, (weight[target] * other).detach(), "value")
    mean = head.loss(scores, target, weight=weight, noise=noise).total
    assert_close(mean, (weighted.total.sum() / weight[target].sum()).detach(), "value")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_an_index_does_not_wrap_around_in_a_narrow_dtype(dtype):
    """-100 is 156 in uint8, and 255 is -1 in int8."""
    head = make("softmax", num_classes=200)
    scores = scores_of(head, 3, num_classes=200)
    target = torch.tensor([156, 3, 7] if dtype == torch.uint8 else [100, 3, 7])
    for ignore_index in (-100, 255, 7):
        options = {"ignore_index": ignore_index, "reduction": "none"}
        expected = head.loss(scores, target, **options).total
        assert torch.equal(head.loss(scores, target.to(dtype), **options).total, expected)
        assert (expected == 0.0).tolist() == [False, False, ignore_index == 7]


@pytest.mark.parametrize("name", VARIANTS)
def test_masked_classes_are_safe_where_rows_are_ignored(name):
    """Class 0 too, whose index stands in for that of an ignored row."""
    head = make(name)
    scores, _, _, noise = case(head, 4)
    with torch.no_grad():
        scores.logits[:, 0] = -math.inf
    target = torch.tensor([-100, 1, 2, -100])
    loss = head.loss(scores, target, noise=noise, reduction="none")
    assert (loss.total == 0.0).tolist() == [True, False, False, True]
    branches = [branch for branch in scores if branch is not None]
    for gradient in torch.autograd.grad(loss.total.sum(), branches):
        assert gradient.isfinite().all()
        assert not gradient[target == -100].any()


@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
@pytest.mark.parametrize("name", VARIANTS)
def test_what_has_weight_zero_does_not_count_even_where_it_is_infinite(name, soft):
    head = make(name)
    scores, _, _, noise = case(head, 3)
    noise = noise.clamp(min=0.6)  # class dropout keeps a rival that can be
    with torch.no_grad():
        scores.logits[0, 1] = -math.inf
    target = torch.tensor([1, 1, 2])
    label = F.one_hot(target, 5).double() if soft else target
    assert not head.loss(scores, label, noise=noise).total.isfinite()
    branches = [branch for branch in scores if branch is not None]
    instance, of_class = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0])
    for weights in ({"sample_weight": instance}, {"weight": of_class}):
        total = head.loss(scores, label, noise=noise, reduction="sum", **weights).total
        kept = slice(1, 3) if "sample_weight" in weights else slice(2, 3)
        rest = dropmax.Scores(*(None if x is None else x[kept] for x in scores))
        expected = head.loss(rest, label[kept], noise=noise[kept], reduction="sum").total
        assert_close(total, expected.detach(), "mixture")
        for gradient in torch.autograd.grad(total, branches):
            assert gradient.isfinite().all()
