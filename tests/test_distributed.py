"""DistributedDataParallel on CPU: two gloo ranks give the gradients of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tolerances import assert_close
from variants import VARIANTS

import dropmax

WORLD = 2
FUSED = [
    name
    for name in VARIANTS
    if name.startswith("dropmax") and getattr(dropmax.make_head(name, 6, 5), "can_fuse", False)
]
WEIGHT = torch.tensor([0.2, 1.0, 3.0, 0.5, 1.5], dtype=torch.float64)
pytestmark = pytest.mark.xdist_group("ranks")  # one test process starts the ranks, once


def problem(name):
    """A model, and a batch whose halves belong to the ranks."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 6), torch.nn.ReLU(), dropmax.make_head(name, 6, 5)
    ).double()
    features = torch.randn(8, 4, dtype=torch.float64)
    return model, features, torch.arange(8) % 5, torch.rand(8, 5).clamp(1e-6, 1 - 1e-6)


class Training(torch.nn.Module):
    """A model whose forward is its loss, as DDP and the fused loss want it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, features, target, noise):
        *backbone, head = self.model
        for layer in backbone:
            features = layer(features)
        return head.fused_loss(features, target, noise=noise).total


def ignoring(target):
    """Three rows of the first half that do not count, and one of the second."""
    return target.masked_fill(torch.tensor([1, 0, 1, 1, 0, 0, 1, 0]).bool(), -100)


def uneven(parallel, head, features, rank, noise):
    """Gradients of halves of which unequal parts count, as the page on many GPUs sums them."""
    parallel.zero_grad()
    target = ignoring(torch.arange(8) % 5)[rank * 4 : rank * 4 + 4]
    mass = WEIGHT[target[target != -100]].sum()
    torch.distributed.all_reduce(mass)
    options = {"weight": WEIGHT, "reduction": "sum", "noise": noise}
    total = head.loss(parallel(features), target, **options).total
    (total * WORLD / mass.clamp(min=1e-6)).backward()
    return {key: p.grad.clone() for key, p in parallel.module.named_parameters()}


def work(rank, folder):
    """What one rank does: a step of every head, gradients into a file."""
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD
    )
    part = slice(rank * 4, rank * 4 + 4)
    gradients = {}
    for name in VARIANTS:
        model, features, target, noise = problem(name)
        parallel = DistributedDataParallel(model)
        head = dropmax.find_head(parallel)
        head.loss(parallel(features[part]), target[part], noise=noise[part]).total.backward()
        gradients[name] = {key: p.grad.clone() for key, p in model.named_parameters()}
        gradients[f"uneven {name}"] = uneven(parallel, head, features[part], rank, noise[part])
    for name in FUSED:
        model, features, target, noise = problem(name)
        parallel = DistributedDataParallel(Training(model))
        parallel(features[part], target[part], noise[part]).backward()
        gradients[f"fused {name}"] = {key: p.grad.clone() for key, p in model.named_parameters()}
    torch.save(gradients, folder / f"{rank}.partial")
    (folder / f"{rank}.partial").replace(folder / f"{rank}.pt")
    os._exit(0)  # gloo workers now and then die at exit after correct results


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(folder)], env=environment)
        for rank in range(WORLD)
    ]
    for worker in workers:
        assert worker.wait(timeout=120) == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("name", VARIANTS)
def test_two_ranks_give_the_gradients_of_one_process(name, ranks):
    model, features, target, noise = problem(name)
    dropmax.find_head(model).loss(model(features), target, noise=noise).total.backward()
    for key, parameter in model.named_parameters():
        for rank in ranks:
            assert_close(rank[name][key], parameter.grad, "value")


@pytest.mark.parametrize("name", VARIANTS)
def test_two_ranks_that_count_differently_give_the_gradients_of_one_process(name, ranks):
    model, features, target, noise = problem(name)
    loss = dropmax.find_head(model).loss
    loss(model(features), ignoring(target), weight=WEIGHT, noise=noise).total.backward()
    for key, parameter in model.named_parameters():
        for rank in ranks:
            assert_close(rank[f"uneven {name}"][key], parameter.grad, "value")


@pytest.mark.parametrize("name", FUSED)
def test_the_fused_loss_in_the_wrapped_forward_gives_the_gradients_of_one_process(name, ranks):
    model, features, target, noise = problem(name)
    dropmax.find_head(model).loss(model(features), target, noise=noise).total.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0
        for rank in ranks:
            assert_close(rank[f"fused {name}"][key], parameter.grad, "value")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    work(int(sys.argv[1]), Path(sys.argv[2]))
