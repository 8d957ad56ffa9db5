"""A model with a head as an ordinary classifier."""

import warnings
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dropmax import _check
from dropmax.calibration import TemperatureScaling
from dropmax.heads import Scores
from dropmax.heads.base import without_correction
from dropmax.wrap.find import find_head


class Predictor(nn.Module):
    """An ordinary classifier, `x -> log_probs [*, K]`, made of a model that returns `Scores`.

    Everything that takes logits takes its log-probabilities. It shares the model's weights.

    Args:
        model: A module that contains exactly one `Head` and returns its scores.
        method: How the head predicts: "plugin", "exact" or "monte_carlo".
        scaling: Temperatures that `dropmax.calibration.fit_temperature` fitted, to `Scores` for
            the method "plugin", or to the log-probabilities of this method. Those that it did not
            keep are ignored.
        **options: Options of the method, as `Head.log_probs` takes them: `num_nodes` and
            `tolerance` for "exact", `num_samples` and `generator` for "monte_carlo".

    Raises:
        ValueError: If there is no head, the head has no such method, the method has no such
            option, or the scaling is for another head or method.
        TypeError: When called, if the model does not return scores.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> import dropmax
        >>> from dropmax import Predictor
        >>> model = nn.Sequential(nn.Flatten(), dropmax.make_head("dropmax", 16, 5))
        >>> classifier = Predictor(model, method="exact", num_nodes=64).eval()
        >>> classifier(torch.randn(8, 4, 4)).shape
        torch.Size([8, 5])
    """

    def __init__(
        self,
        model: nn.Module,
        method: str = "plugin",
        *,
        scaling: TemperatureScaling | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        head = find_head(model)
        generator = options.get("generator")
        device = generator.device if isinstance(generator, torch.Generator) else None
        nothing = torch.zeros(0, head.out_features, device=device)  # for which nothing is drawn
        none = Scores(*[head.axis.shard(nothing)] * (1 + len(head.branches)))
        head.log_probs(none, method=method, **options)
        gated = scaling is not None and scaling.gate_scale is not None
        if gated and (method != "plugin" or "retain" not in head.branches):
            must = f"be fitted on log-probabilities for {type(head).__name__} and method {method!r}"
            _check.fail("scaling", must, scaling, "fit it on those")
        self.model = model
        self.scaling = scaling if scaling is not None and scaling.kept else None
        self._scorer = _part_of_transformers(model)
        self._head = (head,)  # in a tuple: the head stays the model's submodule alone
        self.method = method
        self.options = options
        self._warned = False

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Log-probabilities `[*, K]` of what the model takes, in the dtype of its scores."""
        if self.training and not self._warned and not torch.compiler.is_compiling():
            self._warn_of_noise()
        model: Any = self.model
        scorer = model if self._scorer is None else model.get_submodule(self._scorer).scores
        (head,) = self._head
        with without_correction(head):
            scores = scorer(*args, **kwargs)
        if not isinstance(scores, Scores):
            remedy = "let the head be the last thing that the model computes"
            _check.fail("model", "return Scores", scores, remedy, of=Scores)
        if self.scaling is not None and self.scaling.gate_scale is not None:
            return self.scaling.log_probs(scores.each(head.axis.gather))
        log_probs = head.axis.gather(head.log_probs(scores, method=self.method, **self.options))
        return log_probs if self.scaling is None else self.scaling.log_probs(log_probs)

    def _warn_of_noise(self) -> None:
        """Say once that layers which only train with chance, or on the batch, still do."""
        noisy = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
        modules = self.model.named_modules()
        found = next((name for name, m in modules if isinstance(m, noisy) and m.training), None)
        if found is not None:
            self._warned = True
            message = (
                f"Predictor: the model must be in evaluation mode, got {found!r} in training mode, "
                "where dropout is on and batch statistics are used; call predictor.eval()."
            )
            warnings.warn(message, stacklevel=3)

    def extra_repr(self) -> str:
        named = self.options | ({} if self.scaling is None else {"scaling": "fitted"})
        options = "".join(f", {name}={value}" for name, value in named.items())
        return f"method={self.method!r}{options}"


def _part_of_transformers(model: nn.Module) -> str | None:
    """The name of a converted model of Transformers, however wrapped; its output is no Scores."""
    names: list[str] = [
        name
        for name, module in model.named_modules()
        if getattr(getattr(module, "config", None), "model_type", None) == "dropmax"
        and hasattr(type(module), "scores")
    ]
    return names[0] if names else None


@torch.no_grad()
def scores_of(model: nn.Module, rows: Any, batch_size: int, *, correction: bool) -> Scores:
    """The scores of rows, on the CPU, as a model in evaluation mode computes them.

    Args:
        model: Left in the mode in which it is.
        rows: What it takes, in slices.
        batch_size: So many rows at a time.
        correction: Whether the scores are for the loss, too.
    """
    head, training = find_head(model), model.training
    starts = range(0, max(1, len(rows)), batch_size)
    batches = (rows[start : start + batch_size].to(head.weight.device) for start in starts)
    model.eval()
    with nullcontext() if correction else without_correction(head):
        scores = Scores.joined(model(batch).each(Tensor.cpu) for batch in batches)
    model.train(training)
    return scores
