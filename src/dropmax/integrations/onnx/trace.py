"""From a predictor to the graph of an ONNX file."""

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from dropmax import _check
from dropmax.integrations.onnx.operators import DECOMPOSITIONS
from dropmax.wrap import Predictor

BATCH = "batch"
"""What the first dimension of inputs and output is called."""

RANDOM = frozenset(
    {
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
"""The operators of ONNX that draw numbers."""


class _Probs(nn.Module):
    """Probabilities in the place of a predictor's log-probabilities."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, *inputs: Tensor) -> Tensor:
        probs = self.predictor(*inputs).exp()
        assert isinstance(probs, Tensor)
        return probs


def onnx_program(
    predictor: Predictor, inputs: tuple[Tensor, ...], output: str
) -> torch.onnx.ONNXProgram:
    """The `torch.onnx.ONNXProgram` of a predictor, without randomness."""
    module = predictor if output == "log_probs" else _Probs(predictor)
    rows = tuple(torch.cat([x[:1], x[:1]]) for x in inputs)  # one row alone would fix the batch
    batch = torch.export.Dim(BATCH)
    must, remedy = "go through torch.onnx at any batch size", "mend what the traceback names"
    with _quiet(), or_fail(must, remedy):
        traced = torch.export.export(
            module, rows, dynamic_shapes=(tuple({0: batch} for _ in rows),)
        )
        program = torch.onnx.export(
            traced.run_decompositions(dict(DECOMPOSITIONS)),
            dynamo=True,
            input_names=_input_names(predictor.model, len(rows)),
            output_names=[output],
            dynamic_shapes=(({0: BATCH}, *[None] * (len(rows) - 1)),),  # one name for all of them
            verbose=False,
        )
    assert program is not None
    graph, functions = program.model.graph, program.model.functions.values()
    nodes = list(chain(graph.all_nodes(), *(function.all_nodes() for function in functions)))
    random = sorted({node.op_type for node in nodes} & RANDOM)
    if random:
        got = _check.Verbatim(f"one that draws from {', '.join(random)}")
        must = "draw no random numbers in evaluation mode"
        _check.fail("model", must, got, "make its noise depend on self.training")
    graph.metadata_props.clear()  # what torch traced it from, with the paths of this machine
    for node in nodes:
        node.metadata_props.clear()
    return program


def _input_names(model: nn.Module, count: int) -> list[str]:
    """As the arguments of the model's forward are called, where they are so many."""
    parameters = inspect.signature(model.forward).parameters.values()
    names = [x.name for x in parameters if x.kind is x.POSITIONAL_OR_KEYWORD]
    return names[:count] if len(names) >= count else [f"input_{n}" for n in range(count)]


@contextmanager
def or_fail(must: str, remedy: str) -> Iterator[None]:
    """Whatever torch and onnxruntime stumble over, as an error of ours."""
    try:
        yield
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = "".join(lines[:1])[:200].rstrip(".")
        got = _check.Verbatim(f"{type(error).__name__}: {reason}")
        _check.fail("model", must, got, remedy)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of its own code and of torchvision."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
