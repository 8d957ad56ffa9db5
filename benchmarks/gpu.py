"""What the fused loss costs on a CUDA device, beside linear and cross-entropy, in five minutes.

    python benchmarks/gpu.py --out benchmarks/results/gpu.jsonl

It needs torch and the core of dropmax. Each line of JSON is printed once it is measured, and what
is not reached in time is a line, too: "not run". First comes the parity of the fused loss with
float64 of `head.loss` under the same noise. It is the error of the loss, and the largest error of a
gradient by its largest entry. Then come the costs of a step: features, maps, loss, forward and
backward. Parameters and features are both in the dtype that the line names, without autocast.
"fused" has the published objective, `preset="paper"`.

Ratios are to linear + cross_entropy of the same shape and dtype in the same run. Megabytes are the
allocator's peak in a step that starts without gradients; "above" leaves out the parameters and
their gradients. The share is that of the rate of a large matrix product: the operations of the
method's products, by its time, by that rate. "compiled" is whether torch.compile has made the part
of the fused loss that is no product.
"""

import argparse
import copy
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lines import conditions, write_lines
from many_classes_page import BASELINE, FUSED, LOW_RANK, RANK, Setting
from torch import Tensor, nn

import dropmax
from dropmax.fused import chunks

CHUNKED, COMPILED = "F.linear_cross_entropy", "linear + cross_entropy, compiled"
SPECS = {FUSED: "dropmax:preset=paper", LOW_RANK: f"dropmax:preset=paper,gate_rank={RANK}"}
HAS_CHUNKED = hasattr(nn, "LinearCrossEntropyOptions")
METHODS = [BASELINE, *([CHUNKED] if HAS_CHUNKED else []), *SPECS]

Loss = Callable[[Tensor, Tensor], Tensor]


class Plan(NamedTuple):
    """Where and at which sizes is measured; the costs of the first size are those of float32, too.

    Attributes:
        device: "cuda", or "cpu" to try the benchmark itself.
        parity: The size at which values are compared.
        costs: The sizes at which steps are timed.
        product: Rows and columns of the matrices whose product gives the rate.
        seconds: How long the steps of a line are repeated, about.
    """

    device: str
    parity: Setting
    costs: list[Setting]
    product: int
    seconds: float


CARD = Plan(
    "cuda",
    Setting(256, 512, 5_003),
    [Setting(8_192, 4_096, 32_768), Setting(8_192, 4_096, 131_072), Setting(1_024, 512, 2**20)],
    8_192,
    1.5,
)
TINY = Plan("cpu", Setting(8, 32, 40), [Setting(32, 32, 50), Setting(16, 32, 90)], 64, 0.01)


def maker(method: str, setting: Setting, **like: Any) -> tuple[nn.Module, Loss]:
    """The parameters of a method, and its loss of features and target."""
    if method in SPECS:
        head = dropmax.make_head(SPECS[method], setting.width, setting.classes, **like)
        return head, lambda x, y: head.fused_loss(x, y).total  # type: ignore[operator]
    linear = nn.Linear(setting.width, setting.classes, **like)
    if method == CHUNKED:
        return linear, lambda x, y: F.linear_cross_entropy(
            x,
            linear.weight,
            y,
            linear_bias=linear.bias,
            options=nn.LinearCrossEntropyOptions(),
        )

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(linear(x), y)

    return linear, torch.compile(loss) if method == COMPILED else loss


def operations(method: str, setting: Setting) -> int:
    """Those of the products, forward and backward."""
    instances, width, classes = setting
    of_map = 6 * instances * width * classes
    if method == FUSED:
        return 3 * of_map
    if method == LOW_RANK:
        return of_map + 12 * instances * RANK * classes + 6 * instances * width * RANK
    return of_map


def seconds_of(step: Callable[[], object], plan: Plan) -> float:
    """The median time of a step, of five or more after a first one, which may compile."""

    def timed() -> float:
        start = time.perf_counter()
        step()
        if plan.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed()
    times = [timed()]
    while len(times) < 5 or (len(times) < 50 and sum(times) < plan.seconds):
        times.append(timed())
    return statistics.median(times)


def rate(dtype: torch.dtype, plan: Plan) -> float:
    """Operations a second of a large product of matrices."""
    left, right = (
        torch.randn(plan.product, plan.product, dtype=dtype, device=plan.device) for _ in range(2)
    )
    return float(2 * plan.product**3 / seconds_of(lambda: left @ right, plan))


def bytes_of(tensors: Iterator[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def peak_of(step: Callable[[], object]) -> int:
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated()


def cost(method: str, setting: Setting, dtype: torch.dtype, plan: Plan) -> dict[str, float | None]:
    """Time and memory of a method's step."""
    torch.manual_seed(0)
    like: dict[str, Any] = {"dtype": dtype, "device": plan.device}
    module, loss = maker(method, setting, **like)
    features = torch.randn(setting.instances, setting.width, **like, requires_grad=True)
    target = torch.randint(setting.classes, (setting.instances,), device=plan.device)

    def step() -> None:
        features.grad = None
        module.zero_grad()
        loss(features, target).backward()  # type: ignore[no-untyped-call]

    seconds = seconds_of(step, plan)
    found = {"milliseconds": 1e3 * seconds, "megabytes": None, "megabytes_above": None}
    if plan.device == "cuda":
        peak, held = peak_of(step), 2 * bytes_of(module.parameters())
        found |= {"megabytes": peak / 2**20, "megabytes_above": (peak - held) / 2**20}
    return found


def parity(method: str, autocast: bool, plan: Plan) -> dict[str, float | None]:
    """The largest relative errors of the fused loss and of its gradients."""
    torch.manual_seed(0)
    instances, width, classes = plan.parity
    head, _ = maker(method, plan.parity, device=plan.device)
    features = torch.randn(instances, width, device=plan.device)
    target = torch.randint(classes, (instances,), device=plan.device)
    noise = torch.rand(instances, classes, device=plan.device).clamp(1e-6, 1.0 - 1e-6)

    def found(head: nn.Module, features: Tensor, fused: bool) -> list[Tensor]:
        features.requires_grad_()
        if fused:
            total = head.fused_loss(features, target, noise=noise).total  # type: ignore[operator]
        else:
            total = head.loss(head(features), target, noise=noise).total  # type: ignore[operator]
        return [total.detach(), *torch.autograd.grad(total, [features, *head.parameters()])]

    truth = found(copy.deepcopy(head).double(), features.double(), fused=False)
    with torch.autocast(plan.device, dtype=torch.bfloat16, enabled=autocast):
        got = found(head, features, fused=True)
    of_loss, *of_gradients = (
        ((one - true).abs().max() / true.abs().max()).item()
        for one, true in zip(got, truth, strict=True)
    )
    return {"loss_error": of_loss, "gradient_error": max(of_gradients)}


class Line(NamedTuple):
    """What is to be measured."""

    kind: str
    setting: Setting
    method: str
    dtype: str


def plan_of(plan: Plan) -> list[Line]:
    """All lines in the order in which they are measured."""
    first = plan.costs[0]
    return [
        *(
            Line("parity", plan.parity, method, dtype)
            for method in SPECS
            for dtype in ("float32", "bfloat16 autocast")
        ),
        *(
            Line("cost", setting, method, "bfloat16")
            for setting in plan.costs
            for method in METHODS
        ),
        Line("cost", first, COMPILED, "bfloat16"),
        *(Line("cost", first, method, "float32") for method in METHODS),
    ]


class Run:
    """What has been measured that other lines refer to."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rates: dict[str, float] = {}
        self.baselines: dict[tuple[Setting, str], dict[str, float | None]] = {}

    def measured(self, line: Line) -> dict[str, float | None]:
        if line.kind == "parity":
            return parity(line.method, "autocast" in line.dtype, self.plan)
        dtype = getattr(torch, line.dtype)
        if line.dtype not in self.rates:
            self.rates[line.dtype] = rate(dtype, self.plan)
        found = cost(line.method, line.setting, dtype, self.plan)
        if line.method == BASELINE:
            self.baselines[line.setting, line.dtype] = found
        baseline = self.baselines.get((line.setting, line.dtype), {})
        for name, quantity in {"ratio": "milliseconds", "ratio_above": "megabytes_above"}.items():
            mine, its = found[quantity], baseline.get(quantity)
            found[name] = mine / its if mine and its else None
        of_rate = self.rates[line.dtype]
        assert found["milliseconds"]
        by_second = operations(line.method, line.setting) / (1e-3 * found["milliseconds"])
        return found | {"share": by_second / of_rate, "rate_teraflops": of_rate / 1e12}


def lines_of(plan: Plan, budget: float) -> Iterator[dict[str, Any]]:
    """One for each that is planned, in so many seconds and the time that the last one takes."""
    end, run = time.monotonic() + budget, Run(plan)
    device = torch.cuda.get_device_name() if plan.device == "cuda" else plan.device
    for line in plan_of(plan):
        found: dict[str, Any] = {"not run": "no time left"}
        if time.monotonic() < end:
            try:
                found = run.measured(line)
            except RuntimeError as error:  # of memory, or of a compiler
                found = {"not run": str(error).partition("\n")[0]}
            gc.collect()
            torch.cuda.empty_cache()
        rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in found.items()}
        if "not run" not in found and line.method in SPECS:
            found["compiled"] = (
                chunks.in_one_pass.compiled is not None and chunks.in_one_pass.possible
            )
        setting = line.setting._asdict()
        described = {"kind": line.kind, **setting, "method": line.method, "dtype": line.dtype}
        yield {"benchmark": "gpu", **described, **rounded, "device": device, **conditions()}


def main() -> None:
    """Measure, print, write the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the result lines; replaced whole")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument(
        "--budget", type=float, default=260.0, help="seconds after which no other line is begun"
    )
    options = parser.parse_args()
    if not (options.tiny or torch.cuda.is_available()):
        parser.error("this machine has no CUDA device; --tiny tries it on the CPU")
    lines = []
    for line in lines_of(TINY if options.tiny else CARD, options.budget):
        print(json.dumps(line), flush=True)
        lines.append(line)
    if options.out is not None:
        write_lines(options.out, lines)


if __name__ == "__main__":
    main()
