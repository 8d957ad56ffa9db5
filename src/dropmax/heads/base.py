"""What every head is: features to `Scores`, a loss, log-probabilities."""

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional import Label, Objective
from dropmax.functional.targets import IGNORE_INDEX, REDUCTIONS, Instances
from dropmax.heads.scores import Scores
from dropmax.heads.top import TopK, top_of

Method = TypeVar("Method", bound=Callable[..., Any])


def reads_parameters(method: Method) -> Method:
    """A method of features that reads parameters as `forward` does: FSDP gathers them for it, too.

    At the first call `register_fsdp_forward_method` is told so.
    """

    @wraps(method)
    def called(self: Any, features: Tensor, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return method(self, features, *args, **kwargs)
        fsdp: Any = sys.modules.get("torch.distributed.fsdp")  # imported where a module is FSDP's
        if not isinstance(self, getattr(fsdp, "FSDPModule", ())):
            return method(self, features, *args, **kwargs)
        head = cast(Head, self)
        if "_gathered" not in vars(head):
            fsdp.register_fsdp_forward_method(head, "_gathered")
        # FSDP would round all that it is passed to its precision, and not the features alone
        return head._gathered(features, lambda given: method(head, given, *args, **kwargs))

    return cast(Method, called)


class Map(NamedTuple):
    """A linear map of inputs `[*, D]` to a branch of the scores `[*, K]`."""

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None


class Head(nn.Module, ABC):
    """A classification head, `features [*, D] -> Scores`, in place of the last `nn.Linear`.

    Parameters have the names of nn.Linear, `weight [K, D]` and `bias [K]`, so the checkpoint of a
    softmax classifier loads as it is. Weights start Glorot-uniform and biases at zero, as in the
    authors' code.

    `loss` is for training and `log_probs` for prediction. No head looks at `self.training`. A head
    of your own implements `objective`, and also `log_probs` if it predicts something else than the
    softmax of its logits.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        label_smoothing: The share of the label that the nll spreads over all classes, in [0, 1].
        bias: Whether the maps have biases.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Attributes:
        predictive_methods: The methods that `log_probs` takes.
        branches: The scores it has besides the logits: "retain", "correction".
        axis: Where the classes live; `LOCAL` unless they are sharded.

    Raises:
        ValueError: If an argument does not fit.
    """

    predictive_methods: ClassVar[tuple[str, ...]] = ("plugin",)
    _ours: ClassVar[tuple[str, ...]] = (__name__,)
    """The modules whose `predict` is the softmax of `_plugin_logits`, and goes class by class."""
    branches: tuple[str, ...] = ()
    axis: ClassAxis = LOCAL

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        label_smoothing: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        for option in unknown:
            _check.choice("an option", option, self.option_names())
        _check.integer("in_features", in_features, low=1)
        _check.integer("num_classes", num_classes, low=1)
        _check.boolean("bias", bias)
        _check.number("label_smoothing", label_smoothing, low=0.0, high=1.0)
        self.in_features = in_features
        self.out_features = num_classes
        self.label_smoothing = label_smoothing
        weight = torch.empty(num_classes, in_features, device=device, dtype=dtype)
        self.weight = nn.Parameter(weight)
        self.register_parameter(
            "bias", nn.Parameter(weight.new_empty(num_classes)) if bias else None
        )
        Head.reset_parameters(self)

    def reset_parameters(self) -> None:
        """Start anew: Glorot-uniform weights and zero biases."""
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, features: Float[Tensor, "*batch D"], *, correction: bool = True) -> Scores:
        """Map features `[*, D]` to scores `[*, K]`.

        Args:
            features: `[*, D]`.
            correction: Whether to do the map that the loss alone uses, where the head has one.

        Raises:
            ValueError: If features do not fit the weights.
        """
        return self._scores(self._maps(features, correction=correction))

    def _maps(self, features: Tensor, *, correction: bool) -> list[Map]:  # noqa: ARG002
        """The maps of this process's classes to the scores, in the order of `Scores`."""
        weight, bias = self._local("weight", "bias")
        _check.features(features, required(weight))
        (features,) = self.axis.spread(features)
        return [Map(features, required(weight), bias)]

    def _scores(self, maps: Iterable[Map]) -> Scores:
        """The scores that these maps give, or maps to some of the classes."""
        return Scores(*(F.linear(*one) for one in maps))

    def gate_parameters(self) -> list[nn.Parameter]:
        """The parameters that weight decay spares: those of a gate, where the head has one."""
        return []

    def _gathered(self, features: Tensor, call: Callable[[Tensor], Any]) -> Any:
        """A call for which FSDP has gathered the parameters, as it has for `forward`."""
        return call(features)

    def _local(self, *names: str) -> list[Tensor | None]:
        """What this process has of these parameters; None where there is none."""
        parameters = (getattr(self, name) for name in names)
        return [None if found is None else self.axis.local(found) for found in parameters]

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
        the gates are open (those of sparsemax, sigsoftmax and one_vs_rest are other losses). Unlike
        there, the mean over nothing (no instances, all ignored, all of weight 0) is 0 with zero
        gradient, what has weight 0 is left out even where it is infinite, a class that a logit of
        -inf masks brings no infinity unless it is the target, and class probabilities below 0, or
        whose sum is not 1, are refused. The total may be negative: `Objective` says why.

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
        """The total of `loss`, and its terms before their weights, from the same arguments."""
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
        label = Label.of(
            instances.target,
            scores.logits,
            weight=weight,
            label_smoothing=self.label_smoothing if label_smoothing is None else label_smoothing,
            axis=self.axis,
            checked=not instances.target.is_floating_point(),
        )
        objective = self.objective(scores, label, noise=noise, generator=generator)
        return instances.reduced(objective, reduction)

    @abstractmethod
    def objective(self, scores: Scores, label: Label, **random: Any) -> Objective:
        """The objective of each instance: what a head of your own implements.

        `loss` has checked the arguments, and reduces and weights what comes back. Where the loss of
        an instance follows from what it is if class k were the label, for all k `[*, K]`, it is
        `label.nll(that)`, which knows of indices, probabilities, class weights and smoothing.

        Args:
            scores: What `forward` returned.
            label: The class, or the probabilities of classes, of each instance.
            **random: The noise and the generator of `loss`, which may be None, for what draws.

        Returns:
            `Objective` of tensors `[*]` in nats, float32 at least; `Objective.of_nll(nll)` where
            there is no term but the nll. The total has the weights of the terms in it, the terms
            have not: `weighted` multiplies them.
        """

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
        self, features: Float[Tensor, "*batch D"], *, method: str = "plugin", **options: Any
    ) -> Float[Tensor, "*batch K"]:
        """`log_probs` of features `[*, D]`, without the map that the loss alone uses.

        Args:
            features: As `forward` takes them.
            method: As in `log_probs`.
            **options: Of the method, as in `log_probs`.

        Raises:
            ValueError: If features do not fit the weights, or as in `log_probs`.

        Examples:
            >>> import torch
            >>> from dropmax.heads import DropMaxHead
            >>> DropMaxHead(16, 5).predict(torch.randn(8, 16), method="exact").shape
            torch.Size([8, 5])
        """
        scores = self(features, correction=False)
        return self.axis.gather(self.log_probs(scores, method=method, **options))

    @reads_parameters
    @torch.no_grad()
    def topk(self, features: Float[Tensor, "*batch D"], k: int) -> TopK:
        """The k most probable classes of features `[*, D]`, for very many classes; no gradient.

        Those of `torch.topk(head.predict(features), k)`, up to rounding and the order of equal
        ones. It goes over the classes a few at a time, and never holds the scores of all. A head
        that predicts something else than the softmax of one logit a class, such as sparsemax, does
        hold them. Processes over which the classes are spread gather the k best ones of each.

        Args:
            features: As `forward` takes them.
            k: How many classes, from 1 to K.

        Returns:
            `TopK`: log-probabilities among all classes `[*, k]`, descending, in the dtype of the
            scores, and class indices `[*, k]`.

        Raises:
            ValueError: If features do not fit the weights, or there are fewer than k classes.

        Examples:
            >>> import torch
            >>> from dropmax.heads import DropMaxHead
            >>> log_probs, classes = DropMaxHead(16, 1000).topk(torch.randn(8, 16), 3)
            >>> log_probs.shape, classes.shape
            (torch.Size([8, 3]), torch.Size([8, 3]))
        """
        _check.integer("k", k, low=1, high=self.out_features)
        if not self._predicts_class_by_class():
            return TopK(*self.predict(features).topk(k))
        maps = self._maps(features, correction=False)
        none = F.linear(*_part(maps[0], slice(0)))
        return top_of(
            lambda classes: self._plugin_logits(self._scores(_part(one, classes) for one in maps)),
            none,
            len(maps[0].weight),
            k,
            self.axis,
        )

    def _predicts_class_by_class(self) -> bool:
        """Whether `predict` is the softmax of `_plugin_logits` of `_maps`, class by class."""
        methods = (self.forward, self.predict, self.log_probs, self._plugin)
        return all(method.__module__ in self._ours for method in methods)

    def posterior_logits(self, scores: Scores, target: Tensor) -> Tensor | None:  # noqa: ARG002
        """The logits `[*, K]` of the masks that training draws once the label is known.

        Float32 at least and without gradient; None for a head whose masks are not drawn from a
        gate.

        Args:
            scores: What `forward` returned.
            target: Class indices `[*]`, always retained whatever their logits.
        """
        return None

    def _plugin(self, scores: Scores) -> Tensor:
        """Log-probabilities without sampling: the softmax of the plug-in's logits."""
        return self.axis.log_softmax(self._plugin_logits(scores)).to(scores.logits.dtype)

    def _plugin_logits(self, scores: Scores) -> Tensor:
        """The logits of the plug-in, float32 at least, each of the scores of its class alone."""
        return at_least_float32(scores.logits)

    def _check_scores(self, scores: Scores, branches: tuple[str, ...]) -> None:
        if not isinstance(scores, Scores):
            remedy = "pass what the head returned"
            _check.fail("scores", "be Scores", scores, remedy, of=Scores)
        for branch in branches:
            if getattr(scores, f"{branch}_logits") is None:
                argument = f"scores.{branch}_logits"
                remedy = "pass what head(features) returned"
                _check.fail(argument, "be given", None, remedy)
        num_classes = self.axis.num_classes(scores.logits)
        if num_classes != self.out_features:
            must = f"have {self.out_features} classes"
            _check.fail("scores", must, scores.logits, "pass what this head returned")

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """The options of the constructor, by name."""
        made = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
        known = (
            parameter
            for function in made[: made.index(Head.__init__) + 1]
            for parameter in inspect.signature(function).parameters.values()
        )
        names = (option.name for option in known if option.kind is option.KEYWORD_ONLY)
        return tuple(dict.fromkeys(names))

    def options(self) -> dict[str, Any]:
        """The options of the head as they stand, by the names its constructor has for them."""
        return {"label_smoothing": self.label_smoothing, "bias": self.bias is not None}

    def extra_repr(self) -> str:
        shape = {"in_features": self.in_features, "out_features": self.out_features}
        return ", ".join(f"{name}={value}" for name, value in (shape | self.options()).items())


@contextmanager
def without_correction(head: Head) -> Iterator[None]:
    """Within, the head is called with `correction=False`, however deep in a model it stands.

    Not in code that is compiled, which leaves out what nothing uses.
    """
    if "correction" not in head.branches or torch.compiler.is_compiling():
        yield
        return
    hook = head.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {**kwargs, "correction": False}), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def _part(whole: Map, classes: slice) -> Map:
    """The map to some of the classes."""
    inputs, weight, bias = whole
    return Map(inputs, weight[classes], None if bias is None else bias[classes])


def initialize(parameter: nn.Parameter) -> None:
    """Glorot-uniform where it is a weight, zero where it is a bias."""
    if parameter.ndim > 1:
        nn.init.xavier_uniform_(parameter)
    else:
        nn.init.zeros_(parameter)


def required(branch: Tensor | None) -> Tensor:
    """A branch of the scores that has been checked to be there."""
    assert branch is not None
    return branch
