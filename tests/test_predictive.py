"""Predictive distributions against the enumeration of all masks."""

import weakref

import pytest
import reference
import seeded
import torch
from tolerances import assert_close
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from dropmax.predictive import monte_carlo, plugin


def case(*shape, scale=2.0, dtype=torch.float64):
    return tuple(scale * torch.randn(*shape, dtype=dtype) for _ in range(2))


@pytest.mark.parametrize("floor", [1e-20, 0.05, 0.0])
@pytest.mark.parametrize("num_classes", [1, 2, 6])
def test_plugin_equals_the_oracle(floor, num_classes):
    logits, retain_logits = case(5, num_classes)
    expected = [
        reference.plugin(row, r, floor)
        for row, r in zip(logits.tolist(), retain_logits.tolist(), strict=True)
    ]
    log_probs = plugin(logits, retain_logits, floor=floor)
    assert_close(log_probs.exp(), expected, "value")
    assert_close(log_probs.exp().sum(-1), torch.ones(5), "value")
    assert gradcheck(
        lambda o, r: plugin(o, r, floor=floor),
        (logits.requires_grad_(), retain_logits.requires_grad_()),
    )


def test_open_gates_give_softmax():
    logits, _ = case(4, 5)
    wide = torch.full_like(logits, 60.0)
    assert_close(plugin(logits, wide), logits.log_softmax(-1), "limit")
    assert_close(monte_carlo(logits, wide, num_samples=3), logits.log_softmax(-1), "limit")


def test_all_classes_dropped_is_softmax():
    logits, _ = case(4, 5)
    closed = torch.full_like(logits, -60.0)
    assert_close(monte_carlo(logits, closed, num_samples=3), logits.log_softmax(-1), "limit")
    assert_close(plugin(logits, closed), logits.log_softmax(-1), "limit")


def test_plugin_of_a_closed_gate_deletes_the_class():
    logits, retain_logits = case(4, 5)
    retain_logits[:, 2] = -500.0
    rest = [0, 1, 3, 4]
    deleted = plugin(logits[:, rest], retain_logits[:, rest])
    assert_close(plugin(logits, retain_logits)[:, rest], deleted, "value")


@pytest.mark.parametrize("num_classes", [1, 2, 3, 8])
@pytest.mark.parametrize("gate", [-2.0, 0.0, 2.0])
def test_monte_carlo_is_within_five_standard_errors_of_enumeration(num_classes, gate):
    """The standard error is the exact one; a class is outside in fewer than 1 of 10^6 seeds."""
    num_samples = 4000
    logits, retain_logits = case(3, num_classes)
    retain_logits += gate
    probs = monte_carlo(logits, retain_logits, num_samples=num_samples).exp()
    for n in range(3):
        mean, variance = reference.predictive(logits[n].tolist(), retain_logits[n].tolist())
        error = (probs[n] - torch.tensor(mean, dtype=torch.float64)).abs()
        standard_error = torch.tensor(variance, dtype=torch.float64).clamp(min=0).sqrt()
        assert (error <= 5 * standard_error / num_samples**0.5 + 1e-9).all()
    assert_close(probs.sum(-1), torch.ones(3), "value")


def test_monte_carlo_of_given_noise_is_the_mean_over_its_masks():
    logits, retain_logits = case(2, 4)
    noise = torch.rand(5, 2, 4).clamp(1e-6, 1 - 1e-6)
    expected = []
    for n in range(2):
        rows = []
        for u in noise[:, n].tolist():
            mask = [
                float(x > 1 - reference.sigmoid(r))
                for x, r in zip(u, retain_logits[n].tolist(), strict=True)
            ]
            weights = mask if any(mask) else [1.0] * 4
            rows.append(reference.weighted_softmax(logits[n].tolist(), weights))
        expected.append([sum(column) / 5 for column in zip(*rows, strict=True)])
    log_probs = monte_carlo(logits, retain_logits, num_samples=5, noise=noise)
    assert_close(log_probs.exp(), expected, "value")
    single = monte_carlo(logits, retain_logits, num_samples=1, noise=noise[0])
    assert_close(single.exp().sum(-1), torch.ones(2), "value")


def test_monte_carlo_is_minus_infinity_for_a_class_in_no_sample():
    retain_logits = torch.tensor([10.0, -10.0])
    noise = torch.full((3, 2), 0.5)
    log_probs = monte_carlo(torch.zeros(2), retain_logits, num_samples=3, noise=noise)
    assert log_probs.tolist() == [0.0, float("-inf")]


def test_monte_carlo_is_reproducible_from_a_generator():
    logits, retain_logits = case(2, 4)
    first, second = (
        monte_carlo(logits, retain_logits, num_samples=3, generator=seeded.generator(1))
        for _ in range(2)
    )
    assert torch.equal(first, second)


class LiveTensors(TorchDispatchMode):
    """The largest number of elements that were alive at once among the tensors made under it."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0

    def _died(self, size):
        self.live -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.live += out.numel()
            self.peak = max(self.peak, self.live)
            weakref.finalize(out, self._died, out.numel())
        return out


def test_memory_of_monte_carlo_does_not_grow_with_the_samples():
    logits, retain_logits = case(8, 16, dtype=torch.float32)

    def peak(num_samples):
        with LiveTensors() as watch:
            monte_carlo(logits, retain_logits, num_samples=num_samples)
        return watch.peak

    assert logits.numel() < peak(50) == peak(3) < 16 * logits.numel()
