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
from variants import PLUGIN, SAMPLED, VARIANTS

import dropmax

CLASSES = (1, 2, 7, 11)
N, D = 6, 5
OPTIONS = (
    *("class weights", "smoothing", "probabilities", "ignored", "sample weights", "sum", "none"),
    *("samples", "monte_carlo", "exact"),
)
UNFIT = ({"sum", "none"}, {"monte_carlo", "exact"}, {"probabilities", "ignored"})
MAIN = ["softmax", "attention", "dropmax", "dropmax_prior", "dropmax:gate_rank=2"]
EACH_CLASS = ("as_softmax", "one_vs_rest")
"""Heads of the logits alone whose loss has a second form, for labels that are not one class."""
TWENTY_STEPS = ("softmax", "dropmax", "dropmax:gate_rank=2")
FUSED = ("dropmax", "dropmax:gate_rank=2")
SHAPES = ((), (0,), (2, 3))
DTYPES = (torch.float64, torch.float32)
ENGINES = ("fsdp of the head", "fsdp of all", "ddp")


def takes(name, option):
    """Whether a head has such an option."""
    if option == "samples":
        return name in SAMPLED
    averages = name.startswith("dropmax") and name not in PLUGIN
    return option not in ("monte_carlo", "exact") or averages


def cases():
    """The heads at each number of classes, each option alone, and forty pairs of options."""
    plain = [(name, count, ()) for name in VARIANTS for count in CLASSES]
    alone = [(name, 7, (o,)) for name in MAIN for o in OPTIONS if takes(name, o)]
    soft = itertools.product(EACH_CLASS, CLASSES, (("probabilities",), ("smoothing",)))
    pairs = [
        (name, count, pair)
        for name in VARIANTS
        for count in CLASSES
        for pair in itertools.combinations(OPTIONS, 2)
        if all(takes(name, o) for o in pair) and set(pair) not in UNFIT
    ]
    return [*plain, *alone, *soft, *random.Random(0).sample(pairs, 40)]


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
    alike = (torch.equal(kind(one), kind(other)) for kind in (torch.isinf, torch.isnan))
    if one.shape != other.shape or not all(alike):
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
    results = {"values": furthest(*values), "gradients": furthest(found_gradients, gradients)}
    if getattr(head, "can_fuse", False):
        found_terms, found_gradients = fused(head, *given[:3])
        results["fused values"] = furthest(found_terms, terms)
        results["fused gradients"] = furthest(found_gradients, gradients)
    return results


def of_shape(mesh, name, shape, dtype):
    """How far loss, fused loss and best classes are off for features of a shape, K = 7.

    Every other class is masked; the features need no gradient.
    """
    alone = made(name, 7).to(dtype)
    alone.bias.data[::2] = -torch.inf
    head = spread(nn.Sequential(copy.deepcopy(alone)), mesh, head="0")[0]
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(*shape, D, dtype=dtype, generator=generator)
    target = torch.ones(shape, dtype=torch.long)
    noise = torch.rand(*shape, 7, generator=generator).clamp(1e-6, 1.0 - 1e-6)
    losses = []
    for loss in (
        lambda: alone.loss(alone(features), target, noise=noise),
        lambda: head.loss(head(features), target, noise=noise),
        lambda: head.fused_loss(features, target, noise=noise),
    ):
        for module in (alone, head):
            module.zero_grad()
        total = loss().total
        total.backward()
        learned = alone if not losses else head
        losses.append([total.detach(), *(whole(p.grad) for p in learned.parameters())])
    best = [list(module.topk(features, 7)) for module in (head, alone)]
    indices = [[one.pop().sort(-1).values] for one in best]
    return max(
        *(furthest(found, losses[0]) for found in losses[1:]), furthest(*best), furthest(*indices)
    )


def clipped(mesh):
    """How far the norm of all gradients is off, clipped as the page on many GPUs says."""
    from torch.nn.utils import clip_grad_norm_, clip_grads_with_norm_, get_total_norm

    alone, model = Network("dropmax"), spread(Network("dropmax"), mesh, head="head")
    features, target, arguments, _ = problem(alone.head, 7, ())
    for net in (alone, model):
        net(features, target, arguments["noise"]).backward()
    expected = clip_grad_norm_(alone.parameters(), 0.1)
    parts = [list(part.parameters()) for part in (model.body, model.head)]
    norms = [whole(get_total_norm([p.grad for p in part])) for part in parts]
    total = torch.stack(norms).norm()
    for part in parts:
        clip_grads_with_norm_(part, 0.1, total)
    gradients = ([whole(p.grad) for p in net.parameters()] for net in (model, alone))
    return max(off(total, expected), furthest(*gradients))


def from_meta(mesh):
    """Whether a head that no process made whole starts as heads do, if their seeds differ."""
    with torch.device("meta"):
        model = nn.Sequential(dropmax.make_head("dropmax", D, 7))
    spread(model, mesh, head="0").to_empty(device="cpu")
    torch.manual_seed(mesh.get_local_rank())
    model[0].reset_parameters()
    weight = whole(model[0].weight)
    bound = (6.0 / (D + 7)) ** 0.5
    return bool(weight.unique().numel() == 7 * D and weight.abs().max() <= bound)


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
    """How far the parameters are off after steps of Adam, under noise that is given.

    All parameters of a kind are stepped at once, as is usual on GPUs.
    """
    trained = []
    for is_spread in (False, True):
        model = Network(name)
        if is_spread:
            spread(model, mesh, head="head")
        optimizer = torch.optim.Adam(dropmax.decay_groups(model, 0.01), lr=0.05, foreach=True)
        features, target, arguments, _ = problem(model.head, 7, ())
        for _ in range(20):
            optimizer.zero_grad()
            model(features, target, arguments["noise"]).backward()
            optimizer.step()
        trained.append([whole(parameter).detach() for parameter in model.parameters()])
    return furthest(*trained)


def drawn(mesh):
    """What is drawn: the masks of all classes, twice; the losses of a first and a second step."""
    torch.manual_seed(5)
    model = nn.Sequential(made("dropmax", 7))
    model[0].scale = nn.Parameter(torch.ones(()))  # of a head of somebody's own
    spread(model, mesh, head="0")
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


def repeated(mesh, name, *, is_fused, use_reentrant, is_compiled=False):
    """How far gradients are off, two steps after, if checkpointing repeats the forward pass."""
    from torch.utils.checkpoint import checkpoint

    model = spread(Network(name), mesh, head="head")
    twin = copy.deepcopy(model)
    call = torch.compile(twin, backend="aot_eager") if is_compiled else twin
    features, target, _, _ = problem(model.head, 7, ())
    features.requires_grad_()
    for _ in range(2):
        model(features, target, fused=is_fused).backward()
        checkpoint(
            lambda x: call(x, target, fused=is_fused), features, use_reentrant=use_reentrant
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


def compiled(mesh, name, *, is_given):
    """How far a compiled step is off, in total and gradients, twice: its masks are the same.

    In one graph if the noise is given.
    """
    model = spread(Network(name), mesh, head="head")
    twin = copy.deepcopy(model)
    features, target, arguments, _ = problem(model.head, 7, ())
    noise = arguments["noise"] if is_given else None
    torch.compiler.reset()
    step = torch.compile(twin, fullgraph=is_given, backend="aot_eager")
    totals = []
    for _ in range(2):
        totals.append((model(features, target, noise), step(features, target, noise)))
        for total in totals[-1]:
            total.backward()
    gradients = [[whole(p.grad) for p in net.parameters()] for net in (model, twin)]
    return max(furthest(*zip(*totals, strict=True)), furthest(*gradients))


def compiled_fused(mesh, count):
    """How far a fused loss is off whose parts are compiled, of classes that may be few."""
    from dropmax.fused import compiled

    enough, compiled.ENOUGH = compiled.ENOUGH, 0
    alone, head = made("dropmax", count), made("dropmax", count)
    head = spread(nn.Sequential(head), mesh, head="0")[0]
    terms, gradients, _, _ = found(alone, *problem(alone, count, ()))
    found_terms, found_gradients = fused(head, *problem(head, count, ())[:3])
    compiled.ENOUGH = enough
    return max(furthest(found_terms, terms), furthest(found_gradients, gradients))


def in_small_parts():
    """A few instances a chunk, and fewer a part, the fewer the more classes there are."""
    from dropmax.fused import chunks, compiled, passes

    passes.rows_at_once = lambda num_classes, _device: max(1, 12 // num_classes)
    chunks.part_of = lambda *_, **__: 6
    compiled._compiled = lambda function: torch.compile(function, dynamic=True, backend="aot_eager")


def on_two_dimensions(name, engine, *, is_fused):
    """How far parameters are off after three steps, instances over one dimension, classes over one.

    The best classes afterwards are compared, too.
    """
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
    distance = furthest(model(features), alone(features))
    if engine != "ddp":
        distance = max(distance, furthest(map(whole, model.parameters()), alone.parameters()))
    return distance


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
    features = torch.zeros(N, D, dtype=torch.float64)
    refused = [
        refusal(lambda: model.head.topk(features, 3)),
        refusal(lambda: spread(Network("dropmax"), mesh, head="head")),
    ]
    return masks, refused


def in_half_precision():
    """How far the total is off under FSDP, which rounds features and parameters; masks aside."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    name = "dropmax:preset=paper"
    alone, head = made(name, 7), made(name, 7)
    spread(nn.Sequential(head), mesh["tp"], head="0")
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    fully_shard(head, mesh=mesh["dp"], mp_policy=policy)
    features, target, arguments, _ = problem(alone, 7, ("sample weights",))
    total = head.fused_loss(features, target, **arguments).total
    rounded = alone.bfloat16()
    expected = rounded.loss(rounded(features.bfloat16()), target, **arguments).total
    return off(total.detach(), expected.detach())


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
    in_small_parts()
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
        "shapes": {
            f"{name} {shape} {dtype}": of_shape(mesh, name, shape, dtype)
            for name, shape, dtype in itertools.product(FUSED, SHAPES, DTYPES)
        },
        "clipped": clipped(mesh),
        "from meta": from_meta(mesh),
    }
    if world_size == 2:
        results["compiled"] = {
            f"{name} {is_given}": compiled(mesh, name, is_given=is_given)
            for name, is_given in itertools.product(FUSED, (False, True))
        }
        for is_fused in (False, True):
            results["repeated"][f"compiled {is_fused}"] = repeated(
                mesh, "dropmax", is_fused=is_fused, use_reentrant=False, is_compiled=True
            )
    if world_size == 3:
        results["compiled fused"] = [compiled_fused(mesh, count) for count in (2, 7)]
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
        results["in half precision"] = in_half_precision()
    file = folder / f"{rank} of {world_size}.json"
    file.with_suffix(".partial").write_text(json.dumps(results))
    file.with_suffix(".partial").replace(file)
    dist.barrier()  # or what one of them saw last would fail for want of the others
    os._exit(0)  # gloo workers now and then die at exit after correct results


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
