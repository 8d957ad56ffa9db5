"""What each process of a group does, for test_parallel.py: `python ranks.py RANK SIZE FOLDER`.

Everything is compared with the same head on one process, which every process has beside it.
"""

import copy
import itertools
import json
import os
import random
import sys
from pathlib import Path

import torch
from planted import plant_what_is_planted
from torch import nn
from variants import VARIANTS

import dropmax

CLASSES = (1, 2, 7, 11)
N, D = 6, 5
OPTIONS = (
    *("class weights", "smoothing", "probabilities", "ignored", "sample weights", "sum", "none"),
    *("samples", "monte_carlo", "exact"),
)
UNFIT = ({"sum", "none"}, {"monte_carlo", "exact"}, {"probabilities", "ignored"})
MAIN = ["softmax", "attention", "dropmax", "dropmax_prior", "dropmax:gate_rank=2"]
TWENTY_STEPS = ("softmax", "dropmax", "dropmax:gate_rank=2")
FUSED = ("dropmax", "dropmax:gate_rank=2")
ENGINES = ("fsdp of the head", "fsdp of all", "ddp")


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
        if all(takes(name, o) for o in pair) and set(pair) not in UNFIT
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
    return (
        [term.detach() for term in objective],
        gradients_of(head, features, objective.total),
        head.predict(features, **prediction).detach(),
        head.topk(features, min(3, head.out_features)),
    )


def gradients_of(head, features, total):
    factor = torch.linspace(0.5, 1.5, N).double() if total.ndim else 1.7
    (total * factor).sum().backward()
    return [features.grad, *(whole(parameter.grad) for parameter in head.parameters())]


def furthest(these, others):
    """The largest difference of tensors."""
    return max(off(one.detach(), other.detach()) for one, other in zip(these, others, strict=True))


def off(one, other):
    """The largest difference, relative to what is compared where that is above 1."""
    if one.shape != other.shape or not torch.equal(one.isinf(), other.isinf()):
        return float("inf")
    one, other = (x.masked_fill(x.isinf(), 0.0) for x in (one, other))
    scale = 1.0 + other.abs().max() if other.numel() else 1.0
    return ((one - other).abs() / scale).max().item() if one.numel() else 0.0


def spread(module, mesh, *, head):
    """The module, the classes of its head (by name) over the processes of a mesh."""
    from torch.distributed.tensor.parallel import parallelize_module

    return parallelize_module(module, mesh, {head: dropmax.ClassParallel()})


def fused(head, features, target, arguments):
    """Terms and gradients as `found` gives them, of the loss that holds no scores."""
    head.zero_grad()
    features = features.clone().requires_grad_()
    objective = head.fused_loss(features, target, **arguments)
    return [term.detach() for term in objective], gradients_of(head, features, objective.total)


def compared(mesh, name, count, options):
    """How far the sharded head is off, in values and in gradients."""
    alone, model = made(name, count), spread(nn.Sequential(made(name, count)), mesh, head="0")
    terms, gradients, predicted, best = found(alone, *problem(alone, count, options))
    head = model[0]
    given = problem(head, count, options)
    found_terms, found_gradients, found_predicted, found_best = found(head, *given)
    assert torch.equal(dropmax.Predictor(model.eval())(given[0]), head.predict(given[0]))
    values = [(*found_terms, found_predicted, *found_best), (*terms, predicted, *best)]
    compared = {"values": furthest(*values), "gradients": furthest(found_gradients, gradients)}
    if getattr(head, "can_fuse", False):
        found_terms, found_gradients = fused(head, *given[:3])
        compared["fused values"] = furthest(found_terms, terms)
        compared["fused gradients"] = furthest(found_gradients, gradients)
    return compared


def collectives(mesh, name):
    """All-reduces of the forward and of the backward pass, and gathers of `topk`."""
    from torch.distributed.tensor.debug import CommDebugMode

    model = spread(nn.Sequential(made(name, 7)), mesh, head="0")
    head = model[0]
    features, target, _, _ = problem(head, 7, ())
    features.requires_grad_()
    losses = {"loss": lambda: dropmax.Criterion(model)(model(features), target)}
    if getattr(head, "can_fuse", False):
        losses["fused_loss"] = lambda: head.fused_loss(features, target).total
    counts = {}
    for kind, loss in losses.items():
        with CommDebugMode() as forward:
            total = loss()
        with CommDebugMode() as backward:
            total.backward()
        counts[kind] = [forward.get_total_counts(), backward.get_total_counts()]
    with CommDebugMode() as best:
        head.topk(features, 3)
    return {**counts, "topk": best.get_total_counts()}


def after_twenty_steps(mesh, name):
    """How far the parameters are off after steps of Adam, under noise that is given."""
    trained = []
    for is_spread in (False, True):
        model = nn.Sequential(made(name, 7))
        if is_spread:
            spread(model, mesh, head="0")
        optimizer = torch.optim.Adam(dropmax.decay_groups(model, 0.01), lr=0.05)
        features, target, arguments, _ = problem(model[0], 7, ())
        for _ in range(20):
            optimizer.zero_grad()
            model[0].loss(model(features), target, **arguments).total.backward()
            optimizer.step()
        trained.append([whole(parameter).detach() for parameter in model.parameters()])
    return furthest(*trained)


def drawn(mesh):
    """What is drawn: the masks of all classes, twice; the losses of a first and a second step."""
    torch.manual_seed(5)
    model = spread(nn.Sequential(made("dropmax", 7)), mesh, head="0")
    head, twin = model[0], copy.deepcopy(model[0])
    features, target, _, _ = problem(head, 7, ())
    plain = [head.loss(head(features), target).total.item() for _ in range(2)]
    axis, like = head.axis, torch.zeros(N, head.axis.own_count)
    return {
        "masks": [axis.gather(axis.uniforms(like, None, 1)).tolist() for _ in range(2)],
        "plain": plain,
        "fused": [twin.fused_loss(features, target).total.item() for _ in range(2)],
    }


class Network(nn.Module):
    """Features and a head; the loss, of one of two kinds, or the best classes."""

    def __init__(self, name):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(D, D, dtype=torch.float64)
        self.head = made(name, 7)

    def forward(self, inputs, target=None, noise=None, *, fused=False):
        features = self.body(inputs)
        if target is None:
            return self.head.topk(features, 3)
        if fused:
            return self.head.fused_loss(features, target, noise=noise).total
        return self.head.loss(self.head(features), target, noise=noise).total


def repeated(mesh, name, *, is_fused, use_reentrant):
    """How far gradients are off, two steps after, if checkpointing repeats the forward pass."""
    from torch.utils.checkpoint import checkpoint

    model = spread(Network(name), mesh, head="head")
    twin = copy.deepcopy(model)
    features, target, _, _ = problem(model.head, 7, ())
    features.requires_grad_()
    for _ in range(2):
        model(features, target, fused=is_fused).backward()
        checkpoint(
            lambda x: twin(x, target, fused=is_fused), features, use_reentrant=use_reentrant
        ).backward()
    return furthest(*([whole(p.grad) for p in net.parameters()] for net in (model, twin)))


def refused(mesh):
    """The error where checkpointing repeats a loss without the state of the generator."""
    from torch.utils.checkpoint import checkpoint

    model = spread(Network("dropmax"), mesh, head="head")
    features, target, _, _ = problem(model.head, 7, ())
    options = {"use_reentrant": False, "preserve_rng_state": False}
    total = checkpoint(lambda x: model(x, target), features.requires_grad_(), **options)
    return refusal(total.backward)


def refusal(call):
    """The error of a call, or no text."""
    try:
        call()
    except dropmax.errors.DropmaxError as error:
        return str(error)
    return ""


def compiled(mesh, name):
    """How far a compiled step is off, in total and gradients, twice: its masks are the same."""
    model = spread(Network(name), mesh, head="head")
    twin = copy.deepcopy(model)
    features, target, _, _ = problem(model.head, 7, ())
    torch.compiler.reset()
    step = torch.compile(twin, fullgraph=True, backend="aot_eager")
    totals = []
    for _ in range(2):
        totals.append((model(features, target), step(features, target)))
        for total in totals[-1]:
            total.backward()
    gradients = [[whole(p.grad) for p in net.parameters()] for net in (model, twin)]
    return max(furthest(*zip(*totals, strict=True)), furthest(*gradients))


def on_two_dimensions(name, engine, *, is_fused):
    """How far parameters are off after three steps, instances over one dimension, classes over one.

    The best classes afterwards are compared, too.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    alone, model = Network(name), spread(Network(name), mesh["tp"], head="head")
    if engine == "ddp":
        model = DistributedDataParallel(model, device_mesh=mesh["dp"])
    else:
        if engine == "fsdp of the head":
            fully_shard(model.head, mesh=mesh["dp"])
        fully_shard(model, mesh=mesh["dp"])
    features, target, arguments, _ = problem(alone.head, 7, ())
    noise, half = arguments["noise"], N // 2
    own = slice(0, half) if mesh["dp"].get_local_rank() == 0 else slice(half, N)
    optimizers = [torch.optim.SGD(list(net.parameters()), lr=0.1) for net in (alone, model)]
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad()
        alone(features, target, noise, fused=is_fused).backward()
        model(features[own], target[own], noise[own], fused=is_fused).backward()
        for optimizer in optimizers:
            optimizer.step()
    dist.barrier()
    off = furthest(model(features), alone(features))
    if engine != "ddp":
        off = max(off, furthest(map(whole, model.parameters()), alone.parameters()))
    return off


def drawn_on_two_dimensions():
    """The masks that this process's group of classes draws; what a head alone raises under FSDP."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    torch.manual_seed(5)
    model = spread(Network("dropmax"), mesh["tp"], head="head")
    axis = model.head.axis
    masks = axis.gather(axis.uniforms(torch.zeros(N, axis.own_count), None, 1)).tolist()
    fully_shard(model, mesh=mesh["dp"])
    return masks, refusal(lambda: model.head.topk(torch.zeros(N, D, dtype=torch.float64), 3))


def saved(mesh, folder):
    """Save a head of these processes: as a distributed checkpoint, and as one file."""
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from safetensors.torch import save_file
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    model = spread(Network("dropmax:gate_rank=2"), mesh, head="head")
    dcp.save({"model": model.state_dict()}, checkpoint_id=folder / "distributed")
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    tensors = get_model_state_dict(model, options=options)
    if dist.get_rank() == 0:
        save_file(tensors, folder / "model.safetensors")
    dist.barrier()


def loaded(mesh, folder):
    """Whether a head of these processes, and one that is not spread, equal what was saved."""
    import torch.distributed.checkpoint as dcp
    from safetensors.torch import load_file
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    def cleared(net):
        for parameter in net.parameters():
            nn.init.zeros_(parameter)
        return net

    name = "dropmax:gate_rank=2"
    expected = Network(name).state_dict()
    from_folder = cleared(spread(Network(name), mesh, head="head"))
    dcp.load({"model": from_folder.state_dict()}, checkpoint_id=folder / "distributed")
    plain = cleared(Network(name))
    dcp.load({"model": plain.state_dict()}, checkpoint_id=folder / "distributed")
    tensors = load_file(folder / "model.safetensors")
    from_file = cleared(spread(Network(name), mesh, head="head"))
    set_model_state_dict(from_file, tensors, options=StateDictOptions(full_state_dict=True))
    nets = {"folder": from_folder, "folder, not spread": plain, "file": from_file}
    return {
        where: all(torch.equal(whole(net.state_dict()[key]), expected[key]) for key in expected)
        for where, net in nets.items()
    }


def work(rank, world_size, folder):
    """What one process does: everything, for its number of processes."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    plant_what_is_planted()
    torch.set_num_threads(1)
    store = f"file://{folder}/store{world_size}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
    mesh = init_device_mesh("cpu", (world_size,))
    results = {
        "cases": [compared(mesh, *case) for case in cases()],
        "collectives": {name: collectives(mesh, name) for name in MAIN},
        "steps": {name: after_twenty_steps(mesh, name) for name in TWENTY_STEPS},
        "drawn": drawn(mesh),
        "repeated": {
            f"{name} {is_fused} {use_reentrant}": repeated(
                mesh, name, is_fused=is_fused, use_reentrant=use_reentrant
            )
            for name, is_fused, use_reentrant in itertools.product(FUSED, *[(False, True)] * 2)
        },
        "refused": refused(mesh),
    }
    if world_size == 2:
        results["compiled"] = {name: compiled(mesh, name) for name in FUSED}
    if world_size == 3:
        saved(mesh, folder)
    elif world_size < 3:
        results["loaded"] = loaded(mesh, folder)
    elif world_size == 4:
        results["engines"] = {
            f"{name} {engine} {is_fused}": on_two_dimensions(name, engine, is_fused=is_fused)
            for name, engine, is_fused in itertools.product(FUSED, ENGINES, (False, True))
        }
        results["drawn on two dimensions"] = drawn_on_two_dimensions()
    file = folder / f"{rank} of {world_size}.json"
    file.with_suffix(".partial").write_text(json.dumps(results))
    file.with_suffix(".partial").replace(file)
    dist.barrier()
    os._exit(0)  # gloo workers now and then die at exit after correct results


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
