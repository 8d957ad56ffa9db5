"""A model with a head as an ONNX file, compared with onnxruntime before it is left."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dropmax import _check
from dropmax._files import whole
from dropmax.calibration import TemperatureScaling
from dropmax.errors import DropmaxFileNotFoundError, DropmaxValueError
from dropmax.heads.research import NUM_NODES
from dropmax.integrations.onnx.trace import onnx_program, or_fail
from dropmax.predictive import error_bound
from dropmax.wrap import Predictor, find_head
from dropmax.wrap.classifier import evaluating

METHODS = ("plugin", "exact")
OUTPUTS = ("log_probs", "probs")

BATCH_SIZES = (1, 64)
"""In batches of these sizes the file is compared with torch."""

NODES_ERROR = 1e-4
"""The exact predictive with a fixed number of nodes may be off by so much, relatively."""

MAX_BYTES = 2_000_000_000
"""Of the weights: a file of protobuf has less than 2 GiB."""


def export_onnx(
    model: nn.Module,
    example: Tensor | tuple[Tensor, ...],
    path: str | Path,
    *,
    method: str = "plugin",
    num_nodes: int | None = None,
    output: str = "log_probs",
    class_names: Sequence[str] | None = None,
    recipe: Mapping[str, Any] | None = None,
    scaling: TemperatureScaling | None = None,
    atol: float = 1e-5,
) -> dict[int, float]:
    """Write a model with a head as an ONNX file: inputs to log-probabilities, any number at once.

    The model is exported in evaluation mode and left as it was. The file is run by onnxruntime on
    the example, row by row and in batches of 64, and stays only if its probabilities are torch's.

    Args:
        model: A module that contains exactly one `Head` and returns its scores.
        example: Real inputs `[N, ...]`, or a tuple of them where the model takes several. N is at
            least 1, and some tens make a better test.
        path: The file to write; one that is there is replaced.
        method: "plugin" or "exact".
        num_nodes: Nodes of "exact", which a file cannot count from its data; 128 if None. Refused
            where `predictive.error_bound` on the example is above 1e-4.
        output: "log_probs", in nats, or "probs"; the name of the file's output.
        class_names: Written into the file's metadata as JSON, under `class_names`.
        recipe: What makes an input of an instance, as JSON takes it. It is written into the
            metadata, under `recipe`.
        scaling: A temperature that `dropmax.calibration.fit_temperature` fitted, as `Predictor`
            takes it: the file has it inside.
        atol: How far the probabilities may be from torch's.

    Returns:
        By batch size, 1 and 64, the largest difference of a probability to torch's.

    Raises:
        ImportError: If the extra `onnx` is not installed.
        FileNotFoundError: If the folder of the file is not there.
        ValueError: If an argument does not fit, the model draws random numbers, cannot be exported
            with any batch size, has 2 GB of weights, or differs in onnxruntime. There is no new
            file then.
        OSError: If the file cannot be written; an older one of its name stays.

    Examples:
        >>> import tempfile
        >>> import torch
        >>> import dropmax
        >>> from dropmax import export_onnx
        >>> head = dropmax.make_head("dropmax", 16, 5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     differences = export_onnx(head, torch.randn(8, 16), f"{folder}/head.onnx")
        >>> max(differences.values()) < 1e-5
        True
    """
    _check.choice("method", method, METHODS)
    _check.choice("output", output, OUTPUTS)
    _check.number("atol", atol, low=0.0, open_low=True)
    file = _checked_path(path)
    inputs = _checked_example(example)
    if method == "exact" and num_nodes is None:
        num_nodes = NUM_NODES
    options: dict[str, Any] = {} if num_nodes is None else {"num_nodes": num_nodes}
    predictor = Predictor(model, method, scaling=scaling, **options)
    metadata = {"method": method, **{name: str(value) for name, value in options.items()}}
    if class_names is not None:
        _check_class_names(class_names, find_head(model).out_features)
        metadata["class_names"] = json.dumps(list(class_names), ensure_ascii=False)
    if recipe is not None:
        metadata["recipe"] = _as_json(recipe)
    _check_size(model)
    _check_installed()
    with evaluating(model), torch.no_grad():
        expected = {size: _torch_probs(predictor, inputs, size) for size in BATCH_SIZES}
        if num_nodes is not None:
            _check_nodes(model, inputs, num_nodes)
        program = onnx_program(predictor, inputs, output)
    program.model.metadata_props.update(metadata)
    with whole(file) as partial:
        partial.write_bytes(program.model_proto.SerializeToString())
        found = _onnxruntime_probs(partial, inputs, output)
        differences = {
            size: (found[size] - probs).abs().max().item() for size, probs in expected.items()
        }
        if not all(difference <= atol for difference in differences.values()):
            got = _check.Verbatim(", ".join(f"{x:.1e}" for x in differences.values()))
            must = f"be within {atol:g} of torch's in onnxruntime"
            remedy = "export a model in float32, or raise atol"
            _check.fail("probabilities", must, got, remedy)
    return differences


def _checked_path(path: str | Path) -> Path:
    """Where the file goes."""
    file = Path(path)
    if file.is_dir() or not file.parent.is_dir():
        must = "be a file in a folder that is there"
        error = DropmaxValueError if file.is_dir() else DropmaxFileNotFoundError
        _check.fail("path", must, str(path), "name the file to write", error=error)
    return file


def _checked_example(example: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs `[N, ...]`, all of one N."""
    inputs = example if isinstance(example, tuple) else (example,)
    counts = {tuple(x.shape[:1]) if isinstance(x, Tensor) else () for x in inputs}
    if len(counts) != 1 or counts & {(), (0,)}:
        must = "be a tensor [N, ...] or a tuple of them, N >= 1"
        _check.fail("example", must, example, "pass real inputs of the model", of=Tensor | tuple)
    return inputs


def _check_class_names(class_names: Sequence[str], num_classes: int) -> None:
    if len(class_names) != num_classes or not all(isinstance(x, str) for x in class_names):
        must = f"be {num_classes} names"
        _check.fail("class_names", must, class_names, "name each class once")


def _as_json(recipe: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(recipe), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        got = _check.Verbatim(str(error))
        _check.fail("recipe", "be what JSON takes", got, "pass names, numbers and lists of them")


def _check_size(model: nn.Module) -> None:
    tensors = chain(model.parameters(), model.buffers())
    size = sum(x.numel() * x.element_size() for x in tensors)
    if size > MAX_BYTES:
        must = f"have at most {MAX_BYTES / 1e9:g} GB of weights"
        got = _check.Verbatim(f"{size} bytes")
        _check.fail("model", must, got, "use torch.export, which has no limit")


def _check_installed() -> None:
    """What `torch.onnx` and the comparison need is there."""
    with _check.extra("onnx"):
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401


def _check_nodes(model: nn.Module, inputs: tuple[Tensor, ...], num_nodes: int) -> None:
    """So many nodes are enough for the example."""
    bounds = [
        error_bound(model(*batch).logits, num_nodes=num_nodes).max()
        for batch in _batches(inputs, BATCH_SIZES[-1])
    ]
    bound = torch.stack(bounds).max().item()
    if not bound <= NODES_ERROR:
        must = f"keep the relative error of probabilities below {NODES_ERROR:g} on the example"
        got = _check.Verbatim(f"{num_nodes}, with a bound of {bound:.1e}")
        remedy = f"pass more, num_nodes={2 * num_nodes} say"
        _check.fail("num_nodes", must, got, remedy)


def _batches(inputs: tuple[Tensor, ...], size: int) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(x, size) for x in inputs), strict=True)


def _torch_probs(predictor: Predictor, inputs: tuple[Tensor, ...], size: int) -> Tensor:
    """Probabilities `[N, ..., K]`, in batches of a size."""
    found = [predictor(*batch) for batch in _batches(inputs, size)]
    return torch.cat(found).double().exp().cpu()


def _onnxruntime_probs(file: Path, inputs: tuple[Tensor, ...], output: str) -> dict[int, Tensor]:
    """Probabilities `[N, ..., K]` by batch size, as the file gives them."""
    import onnxruntime

    found = {}
    with or_fail("run in onnxruntime", "export a model in float32"):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        names = [x.name for x in session.get_inputs()]
        for size in BATCH_SIZES:
            batches = [
                session.run(None, dict(zip(names, (x.cpu().numpy() for x in batch), strict=True)))
                for batch in _batches(inputs, size)
            ]
            values = torch.cat([torch.from_numpy(value) for (value,) in batches]).double()
            found[size] = values.exp() if output == "log_probs" else values
    return found
