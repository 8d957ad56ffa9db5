"""A head over one to four processes gives what it gives on one: values, gradients, steps."""

import itertools
import json
import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from planted import plant_what_is_planted
from variants import VARIANTS

import dropmax
from dropmax.errors import DropmaxError, DropmaxTypeError

RANKS = (1, 2, 3, 4)
CLASSES = (1, 2, 7, 11)
N, D = 6, 5
LOSS, GRADIENT, STEPS = 1e-12, 1e-11, 1e-10
"""How far values, gradients, and parameters after twenty steps of Adam may be off."""
OPTIONS = (
    *("class weights", "smoothing", "probabilities", "ignored", "sample weights", "sum", "none"),
    *("samples", "monte_carlo", "exact"),
)
UNFIT = ({"sum", "none"}, {"monte_carlo", "exact"}, {"probabilities", "ignored"})
MAIN = ["softmax", "attention", "dropmax", "dropmax_prior", "dropmax:gate_rank=2"]
TWENTY_STEPS = ("softmax", "dropmax", "dropmax:gate_rank=2")
pytestmark = pytest.mark.xdist_group("parallel ranks")


def takes(name, option):
    """Whether a head has such an option."""
    gated = name.startswith("dropmax")
    if option == "samples":
        return gated and name not in ("dropmax_marginal", "dropmax:masks=mean")
    return option not in ("monte_carlo", "exact") or gated


def cases():
    """The heads at each number of classes, each option alone, and forty pairs of options."""
    plain = [(name, count, ()) for name in VARIANTS for count in CLASSES]
    alone = [(name, 7, (o,)) for name in MAIN for o in OPTIONS if takes(name, o)]
    pairs = [
        (name, count, pair)
        for name in VARIANTS
        for count in CLASSES
        for pair in itertools.combinations(OPTIONS, 2)
        if all(takes(name, o) for o in pair)
        and set(pair)
        not in ({"sum", "none"}, {"monte_carlo", "exact"}, {"probabilities", "ignored"})
    ]
    return plain + alone + random.Random(0).sample(pairs, 40)


def made(name, count):
    """The head, the same on every process."""
    torch.manual_seed(0)
    head = dropmax.make_head(name, D, count, dtype=torch.float64)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def problem(head, count, options):
    """Features, target, arguments of the loss and of the prediction, all of them whole."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(N, D, dtype=torch.float64, generator=generator)
    target = torch.arange(N) % count
    samples = 3 if "samples" in options else 1
    shape = (N, count) if samples == 1 else (samples, N, count)
    arguments = {"noise": torch.rand(shape, generator=generator).clamp(1e-6, 1.0 - 1e-6)}
    if samples > 1:
        head.num_samples = samples
    if "class weights" in options:
        arguments["weight"] = torch.rand(count, generator=generator) + 0.1
    if "smoothing" in options:
        arguments["label_smoothing"] = 0.2
    if "probabilities" in options:
        target = torch.rand(N, count, dtype=torch.float64, generator=generator)
        target = target / target.sum(-1, keepdim=True)
    if "ignored" in options:
        target = target.index_fill(0, torch.tensor([1, 4]), -100)
    if "sample weights" in options:
        arguments["sample_weight"] = torch.linspace(0.0, 2.0, N)
    arguments["reduction"] = next((o for o in ("sum", "none") if o in options), "mean")
    prediction = {}
    if "monte_carlo" in options:
        noise = torch.rand(4, N, count, generator=generator).clamp(1e-6, 1.0 - 1e-6)
        prediction = {"method": "monte_carlo", "num_samples": 4, "noise": noise}
    if "exact" in options:
        prediction = {"method": "exact", "num_nodes": 64}
    return features, target, arguments, prediction


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def found(head, features, target, arguments, prediction):
    """Terms of the loss, gradients, and predictions; of all classes."""
    features = features.clone().requires_grad_()
    objective = head.loss(head(features), target, **arguments)
    factor = torch.linspace(0.5, 1.5, N).double() if objective.total.ndim else 1.7
    (objective.total * factor).sum().backward()
    gradients = [features.grad, *(whole(p.grad) for p in head.parameters())]
    return (
        [term.detach() for term in objective],
        gradients,
        head.predict(features, **prediction).detach(),
        head.topk(features, min(3, head.out_features)),
    )


def off(one, other):
    """The largest difference, relative to what is compared where that is above 1."""
    if one.shape != other.shape or not torch.equal(one.isinf(), other.isinf()):
        return float("inf")
    one, other = (x.masked_fill(x.isinf(), 0.0) for x in (one, other))
    scale = 1.0 + other.abs().max() if other.numel() else 1.0
    return ((one - other).abs() / scale).max().item() if one.numel() else 0.0


def compared(mesh, name, count, options):
    """How far the sharded head is off, in values and in gradients."""
    from torch.distributed.tensor.parallel import parallelize_module

    torch.manual_seed(0)
    alone, sharded = made(name, count), torch.nn.Sequential(made(name, count))
    parallelize_module(sharded, mesh, {"0": dropmax.ClassParallel()})
    terms, gradients, predicted, best = found(alone, *problem(alone, count, options))
    head = sharded[0]
    given = problem(head, count, options)
    found_terms, found_gradients, found_predicted, found_best = found(head, *given)
    assert torch.equal(dropmax.Predictor(sharded.eval())(given[0]), head.predict(given[0]))
    values = [(*found_terms, found_predicted, *found_best), (*terms, predicted, *best)]
    return {
        "values": max(off(*pair) for pair in zip(*values, strict=True)),
        "gradients": max(off(*pair) for pair in zip(found_gradients, gradients, strict=True)),
    }


def collectives(mesh, name):
    """All-reduces of the forward and of the backward pass, for class indices."""
    from torch.distributed.tensor.debug import CommDebugMode
    from torch.distributed.tensor.parallel import parallelize_module

    model = torch.nn.Sequential(made(name, 7))
    parallelize_module(model, mesh, {"0": dropmax.ClassParallel()})
    features, target, _, _ = problem(model[0], 7, ())
    with CommDebugMode() as forward:
        total = dropmax.Criterion(model)(model(features.requires_grad_()), target)
    with CommDebugMode() as backward:
        total.backward()
    return [forward.get_total_counts(), backward.get_total_counts()]


def after_twenty_steps(mesh, name):
    """How far the parameters are off after steps of Adam, under noise that is given."""
    from torch.distributed.tensor.parallel import parallelize_module

    trained = []
    for spread in (False, True):
        model = torch.nn.Sequential(made(name, 7))
        if spread:
            parallelize_module(model, mesh, {"0": dropmax.ClassParallel()})
        optimizer = torch.optim.Adam(dropmax.decay_groups(model, 0.01), lr=0.05)
        features, target, arguments, _ = problem(model[0], 7, ())
        for _ in range(20):
            optimizer.zero_grad()
            model[0].loss(model(features), target, **arguments).total.backward()
            optimizer.step()
        trained.append([whole(parameter).detach() for parameter in model.parameters()])
    return max(off(*pair) for pair in zip(*trained, strict=True))


def drawn(mesh):
    """The masks that are drawn: those of all classes, of a first and of a second loss."""
    from torch.distributed.tensor.parallel import parallelize_module

    torch.manual_seed(5)
    model = torch.nn.Sequential(dropmax.make_head("dropmax", D, 7))
    parallelize_module(model, mesh, {"0": dropmax.ClassParallel()})
    axis = model[0].axis
    like = torch.zeros(N, axis.own_count)
    return [axis.gather(axis.uniforms(like, None, 1)).tolist() for _ in range(2)]


def work(rank, world_size, folder):
    """What one process does: everything, for its number of processes."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    plant_what_is_planted()
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    mesh = init_device_mesh("cpu", (world_size,))
    results = {
        "cases": [compared(mesh, *case) for case in cases()],
        "collectives": {name: collectives(mesh, name) for name in MAIN},
        "steps": {name: after_twenty_steps(mesh, name) for name in TWENTY_STEPS},
        "drawn": drawn(mesh),
    }
    (folder / f"{rank}.partial").write_text(json.dumps(results))
    (folder / f"{rank}.partial").replace(folder / f"{rank}.json")
    os._exit(0)  # gloo workers now and then die at exit after correct results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each process found, of a group of so many."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "UNTYPED": "1"}

    @cache
    def of(world_size):
        folder = tmp_path_factory.mktemp("ranks")
        command = [sys.executable, __file__]
        workers = [
            subprocess.Popen([*command, str(r), str(world_size), str(folder)], env=environment)
            for r in range(world_size)
        ]
        codes = [worker.wait(timeout=180) for worker in workers]
        assert codes == [0] * world_size
        files = [folder / f"{rank}.json" for rank in range(world_size)]
        return [json.loads(file.read_text()) for file in files]

    return of


@pytest.mark.parametrize("world_size", RANKS)
@pytest.mark.parametrize("index", range(len(cases())), ids=lambda i: str(cases()[i]))
def test_values_and_gradients_are_those_of_one_process(index, world_size, results):
    for rank in results(world_size):
        assert rank["cases"][index]["values"] < LOSS
        assert rank["cases"][index]["gradients"] < GRADIENT


@pytest.mark.parametrize("world_size", RANKS)
@pytest.mark.parametrize("name", MAIN)
def test_two_all_reduces_forward_and_one_backward(name, world_size, results):
    for rank in results(world_size):
        assert rank["collectives"][name] == [2, 1]


@pytest.mark.parametrize("world_size", RANKS)
@pytest.mark.parametrize("name", TWENTY_STEPS)
def test_twenty_steps_of_adam(name, world_size, results):
    for rank in results(world_size):
        assert rank["steps"][name] < STEPS


@pytest.mark.parametrize("world_size", RANKS[1:])
def test_masks_do_not_depend_on_the_number_of_processes(world_size, results):
    expected = results(1)[0]["drawn"]
    assert expected[0] != expected[1]
    for rank in results(world_size):
        assert rank["drawn"] == expected


@pytest.mark.usefixtures("untyped")
def test_what_is_no_head_is_refused():
    with pytest.raises(DropmaxTypeError, match="head"):
        dropmax.ClassParallel()._apply(torch.nn.Linear(2, 2), None)


def test_the_fused_loss_of_a_sharded_head_is_refused(monkeypatch):
    head = dropmax.make_head("dropmax", D, 7)
    monkeypatch.setattr(head, "axis", object())
    with pytest.raises(DropmaxError, match="axis"):
        head.fused_loss(torch.randn(N, D), torch.zeros(N, dtype=torch.long))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
