"""What every head is: linear maps of the features to `Scores`, a loss, log-probabilities."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional import Objective
from dropmax.functional.instances import IGNORE_INDEX, REDUCTIONS, Instances
from dropmax.heads.maps import LinearMaps, predicting
from dropmax.heads.scores import Scores


class Head(LinearMaps, ABC):
    """A classification head: `features [*, D] -> Scores`, in the place of the last `nn.Linear`.

    Parameters are named like those of nn.Linear, `weight [K, D]` and `bias [K]`, so that the
    checkpoint of a softmax classifier loads as it is; heads with a gate add `retain_weight`,
    `retain_bias` and, where the objective uses it, `correction_weight` and `correction_bias`; one
    of low rank adds `gate_weight [r, D]`, and its other two are `[K, r]`.
    Weights start Glorot-uniform and biases at zero, as in the authors' code.

    Training and evaluation are two methods, `loss` and `log_probs`: no head looks at
    `self.training`.

    Attributes:
        axis: Where the classes live; `LOCAL` unless they are sharded.
        label_smoothing: The share of the label that the nll spreads over all classes.
    """

    predictive_methods: ClassVar[tuple[str, ...]] = ("plugin",)
    axis: ClassAxis = LOCAL

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        branches: tuple[str, ...] = (),
        gate_rank: int | None = None,
        retain_bias_init: float = 0.0,
        label_smoothing: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_features,
            num_classes,
            branches=branches,
            gate_rank=gate_rank,
            retain_bias_init=retain_bias_init,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        _check.number("label_smoothing", label_smoothing, low=0.0, high=1.0)
        self.label_smoothing = label_smoothing

    def loss(
        self,
        scores: Scores,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        ignore_index: int = IGNORE_INDEX,
        label_smoothing: float | None = None,
        reduction: str = "mean",
        sample_weight: Tensor | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Objective:
        """The head's training objective, its terms already weighted so that total is their sum.

        The options mean what they do in `torch.nn.CrossEntropyLoss`, to which `nll` is equal where
        the gates are open (that of sparsemax is another loss). Unlike there, the mean over nothing
        (no instances, all ignored, all of weight 0) is 0 with zero gradient, what has weight 0 is
        left out even where it is infinite, a class that a logit of -inf masks brings no infinity
        unless it is the target, and class probabilities below 0, or whose sum is not 1, are
        refused. The total may be negative: `Objective` says why.

        Args:
            scores: What `forward` returned.
            target: Class indices `[*]`, or class probabilities `[*, K]` of a floating-point dtype
                (mixup, distillation), which sum to 1 over the classes: the loss is then its
                expectation over the classes, with the same noise.
            weight: Class weights `[K]`, of at least 0, which multiply all terms.
            ignore_index: Instances of this class index do not count.
            label_smoothing: The share of the label that the nll alone spreads over all classes;
                the head's own if None.
            reduction: "mean" and "sum" over instances give scalars, "none" gives `[*]`. The mean
                divides by the sum of the weights of the targets, or for class probabilities by the
                number of instances, as in torch; that of an empty batch is 0.
            sample_weight: Weights of the instances `[*]`, of at least 0: one of weight 2 counts as
                two of them.
            noise: Uniforms in (0, 1) `[*, K]`, or `[S, *, K]` for S samples; drawn if None. A
                deterministic head reads neither noise nor generator.
            generator: The source of the noise; the default one if None.

        Returns:
            `Objective` in nats, float32 at least.

        Raises:
            ValueError: If a shape, dtype, device or value does not fit.
        """
        raw = self.raw_loss(
            scores,
            target,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            reduction=reduction,
            sample_weight=sample_weight,
            noise=noise,
            generator=generator,
        )
        return self.weighted(raw)

    def raw_loss(
        self,
        scores: Scores,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        ignore_index: int = IGNORE_INDEX,
        label_smoothing: float | None = None,
        reduction: str = "mean",
        sample_weight: Tensor | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Objective:
        """The terms of `loss` before their weights, from the same arguments."""
        _check.choice("reduction", reduction, REDUCTIONS)
        self._check_scores(scores, self.branches)
        instances = Instances.of(
            target,
            scores.logits,
            weight=weight,
            ignore_index=ignore_index,
            sample_weight=sample_weight,
            axis=self.axis,
        )
        smoothing = self.label_smoothing if label_smoothing is None else label_smoothing
        label = {"weight": weight, "label_smoothing": smoothing, "axis": self.axis}
        objective = self._objective(scores, instances.target, label, noise, generator)
        return instances.reduced(objective, reduction)

    def weighted(self, raw: Objective) -> Objective:
        """What `loss` returns, from the terms of `raw_loss`."""
        return raw

    def log_probs(
        self,
        scores: Scores,
        *,
        method: str = "plugin",
        num_samples: int | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        tolerance: float | None = None,
        num_nodes: int | None = None,
    ) -> Float[Tensor, "*batch K"]:
        """Log-probabilities `[*, K]` of the classes, in the dtype of the scores; -inf at exact 0.

        Args:
            scores: What `forward` returned.
            method: "plugin", or for heads with random masks at prediction "monte_carlo" and
                "exact", their average by samples and without.
            num_samples: The number of masks of "monte_carlo", which alone takes it and the noise.
            noise: Uniforms in (0, 1) `[S, *, K]`; drawn if None.
            generator: The source of the noise; the default one if None.
            tolerance: Relative error of "exact", which alone takes it and the nodes, as
                `dropmax.predictive.exact` does.
            num_nodes: Nodes of "exact"; counted from the data if None.

        Raises:
            ValueError: If the head has no such method, or the method no such option.
        """
        _check.choice("method", method, self.predictive_methods)
        self._check_scores(scores, self.branches[:1])
        options = {
            "num_samples": num_samples,
            "noise": noise,
            "generator": generator,
            "tolerance": tolerance,
            "num_nodes": num_nodes,
        }
        _check.unused(options, f"for method {method!r}")
        return self._plugin(scores)

    def predict(
        self,
        features: Float[Tensor, "*batch D"],
        *,
        method: str = "plugin",
        num_samples: int | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
        tolerance: float | None = None,
        num_nodes: int | None = None,
    ) -> Float[Tensor, "*batch K"]:
        """`log_probs` of features `[*, D]`, without the map that the loss alone uses.

        Args:
            features: As `forward` takes them.
            method: As in `log_probs`, and so the five below.
            num_samples: The number of masks of "monte_carlo".
            noise: Uniforms in (0, 1) `[S, *, K]`.
            generator: The source of the noise.
            tolerance: Relative error of "exact".
            num_nodes: Nodes of "exact".

        Raises:
            ValueError: If features do not fit the weights, or as in `log_probs`.

        Examples:
            >>> import torch
            >>> from dropmax.heads import DropMaxHead
            >>> DropMaxHead(16, 5).predict(torch.randn(8, 16), method="exact").shape
            torch.Size([8, 5])
        """
        with predicting():
            scores = self(features)
        return self.log_probs(
            scores,
            method=method,
            num_samples=num_samples,
            noise=noise,
            generator=generator,
            tolerance=tolerance,
            num_nodes=num_nodes,
        )

    def posterior_logits(self, scores: Scores, target: Tensor) -> Tensor | None:  # noqa: ARG002
        """The logits `[*, K]` of the masks that training draws once the label is known.

        Float32 at least and without gradient; None for a head whose masks are not drawn from a
        gate.

        Args:
            scores: What `forward` returned.
            target: Class indices `[*]`, always retained whatever their logits.
        """
        return None

    @abstractmethod
    def _objective(
        self,
        scores: Scores,
        target: Tensor,
        label: dict[str, Any],
        noise: Tensor | None,
        generator: torch.Generator | None,
    ) -> Objective:
        """The unweighted objective of each instance.

        `label` holds what every loss of `functional` takes: weight, label_smoothing and axis.
        """

    def _plugin(self, scores: Scores) -> Tensor:
        """Log-probabilities without sampling: the softmax of the logits."""
        return self.axis.log_softmax(at_least_float32(scores.logits)).to(scores.logits.dtype)

    def _check_scores(self, scores: Scores, branches: tuple[str, ...]) -> None:
        if not isinstance(scores, Scores):
            remedy = "pass what the head returned"
            _check.fail("scores", "be Scores", scores, remedy, of=Scores)
        for branch in branches:
            if getattr(scores, f"{branch}_logits") is None:
                argument = f"scores.{branch}_logits"
                remedy = "pass what this head returned, called outside predicting()"
                _check.fail(argument, "be given", None, remedy)
        num_classes = self.axis.num_classes(scores.logits)
        if num_classes != self.out_features:
            must = f"have {self.out_features} classes"
            _check.fail("scores", must, scores.logits, "pass what this head returned")

    def options(self) -> dict[str, Any]:
        """The options of the head as they stand, by the names its constructor has for them."""
        return {"label_smoothing": self.label_smoothing, "bias": self.bias is not None}

    def extra_repr(self) -> str:
        shape = {"in_features": self.in_features, "out_features": self.out_features}
        return ", ".join(f"{name}={value}" for name, value in (shape | self.options()).items())


def nll_only(nll: Tensor) -> Objective:
    """The objective that has no term but the negative log-likelihood."""
    absent = torch.zeros_like(nll)
    return Objective.of_terms(nll, absent, absent, absent)


def required(branch: Tensor | None) -> Tensor:
    """A branch of the scores that has been checked to be there."""
    assert branch is not None
    return branch
