"""The DropMax head: three linear maps and the variational objective."""

from dataclasses import asdict, fields, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check
from dropmax._check import at_least_float32
from dropmax.functional import Label, Objective, ObjectiveOptions
from dropmax.functional.dropmax import corrected_logits
from dropmax.functional.one_pass import totaled_objective
from dropmax.functional.targets import IGNORE_INDEX
from dropmax.heads.base import reads_parameters, required
from dropmax.heads.gated import GATE, GatedHead
from dropmax.heads.presets import PRESETS
from dropmax.heads.scores import Scores

OBJECTIVE_OPTIONS = tuple(field.name for field in fields(ObjectiveOptions))


class DropMaxHead(GatedHead):
    """Softmax whose classes are dropped per instance with learned probabilities.

    The head of Lee et al. 2018. Besides the class scores it learns the probability that each class
    stays in the softmax of an instance (`retain_weight`), and how that probability changes once the
    label is known (`correction_weight`). It predicts with the retain probability in place of the
    mask ("plugin"), with sampled masks ("monte_carlo"), or with the average over all masks
    ("exact").

    The options of the objective may be set during training: `head.kl_weight = step / steps`.

    Args:
        in_features: Width D of the features.
        num_classes: Number K of classes.
        preset: Sets the options of the objective that you do not give. "default" depends on the
            number of classes, and "paper" is the method as published. Both are functions in
            `dropmax.heads.PRESETS`.
        posterior: What training draws the masks from. "learned" is the prior with a learned
            correction. "prior" is the prior itself (q = p in the paper), without correction and
            aux term.
        **options: Those of `dropmax.functional.ObjectiveOptions`, such as kl_weight, temperature
            and num_samples; gate_rank and retain_bias_init as in `GatedHead`; label_smoothing,
            bias, device and dtype as in `Head`.

    Attributes:
        objective_options: The `ObjectiveOptions` as they stand.

    Raises:
        ValueError: If an argument does not fit, or belongs to a part that the objective lacks.

    Examples:
        >>> import torch
        >>> from dropmax.heads import DropMaxHead
        >>> head = DropMaxHead(16, 5)
        >>> scores = head(torch.randn(8, 16))
        >>> head.loss(scores, torch.arange(8) % 5).total.backward()
        >>> head.log_probs(scores, method="monte_carlo", num_samples=10).shape
        torch.Size([8, 5])
    """

    posteriors: ClassVar[tuple[str, ...]] = ("learned", "prior")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        preset: str = "default",
        posterior: str = "learned",
        **options: Any,
    ) -> None:
        _check.integer("num_classes", num_classes, low=1)
        _check.choice("preset", preset, PRESETS)
        _check.choice("posterior", posterior, self.posteriors)
        given = {name: options[name] for name in OBJECTIVE_OPTIONS if name in options}
        others = {name: value for name, value in options.items() if name not in given}
        super().__init__(in_features, num_classes, **others)
        self.posterior = posterior
        self.objective_options = PRESETS[preset](num_classes)
        if posterior == "learned":
            self._add_branch("correction")
        else:
            self.objective_options = replace(self.objective_options, aux_prior="label")
        self._change(**given)

    def _change(self, **options: Any) -> None:
        """Change options of the objective to values that fit and are read."""
        changed = replace(self.objective_options, **options)
        for name, where in self._unread(changed).items():
            _check.unused({name: options.get(name)}, where)
        self.objective_options = changed

    def _unread(self, options: ObjectiveOptions) -> dict[str, str]:
        """The options that have no effect, each with the reason."""
        unread: dict[str, str] = {}
        if self.posterior != "learned":
            where = f"where posterior is {self.posterior!r}"
            unread |= dict.fromkeys(("aux_prior", "aux_weight"), where)
        if options.masks == "mean":
            unread |= dict.fromkeys(("temperature", "num_samples"), "where masks is 'mean'")
        return unread

    def objective(self, scores: Scores, label: Label, **random: Any) -> Objective:
        logits, retain_logits = scores.logits, required(scores.retain_logits)
        correction_logits, options = scores.correction_logits, self.objective_options
        return totaled_objective(
            logits, retain_logits, correction_logits, label, options=options, **random
        )

    def weighted(self, raw: Objective) -> Objective:
        return self.objective_options.weighted(raw)._replace(total=raw.total)

    @torch.no_grad()
    def posterior_logits(self, scores: Scores, target: Tensor) -> Tensor | None:
        self._check_scores(scores, self.branches)
        _check.class_target(target, scores.logits, self.axis.num_classes(scores.logits))
        retain_logits = at_least_float32(required(scores.retain_logits))
        return corrected_logits(retain_logits, scores.correction_logits)

    @property
    def can_fuse(self) -> bool:
        """Whether `fused_loss` takes this head, by its posterior."""
        from dropmax.fused.linear import POSTERIORS  # late: it takes the compiler along

        return self.posterior in POSTERIORS

    @reads_parameters
    def fused_loss(
        self,
        features: Float[Tensor, "*batch D"],
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
        """`loss` of the features, for very many classes: their scores are never held.

        The same values and gradients under the same noise, a few instances at a time, by
        `dropmax.fused.linear_dropmax_objective`. Only `total` carries a gradient. In a model that
        is wrapped, by DistributedDataParallel say, it is to be called in the model's forward.

        Args:
            features: `[*, D]`, as `forward` takes them.
            target: As in `loss`, and so the seven below.
            weight: Class weights `[K]`.
            ignore_index: Instances of this class index do not count.
            label_smoothing: Of the nll; the head's own if None.
            reduction: "mean", "sum" or "none".
            sample_weight: Weights of the instances `[*]`.
            noise: Uniforms in (0, 1) `[*, K]`, or `[S, *, K]` for S samples.
            generator: The source of the noise.

        Raises:
            ValueError: If an argument does not fit, the head's posterior needs more than one pass
                over the classes, or FSDP holds a shard of its parameters; in the backward pass if
                a second derivative is asked for.

        Examples:
            >>> import torch
            >>> from dropmax.heads import DropMaxHead
            >>> head = DropMaxHead(16, 1_000)
            >>> head.fused_loss(torch.randn(8, 16), torch.arange(8)).total.backward()
            >>> head.weight.grad.shape
            torch.Size([1000, 16])
        """
        from dropmax.fused.linear import POSTERIORS, linear_dropmax_objective  # late, too

        if not self.can_fuse:
            must = f"be {' or '.join(POSTERIORS)}"
            remedy = "call loss of the scores, head.loss(head(features), target)"
            _check.fail("the head's posterior", must, self.posterior, remedy)
        gate_weight, *maps = self._local("gate_weight", "weight", "bias", *GATE[1:])
        objective: Objective = linear_dropmax_objective(
            features,
            *maps,
            target,
            gate_weight=gate_weight,
            posterior=self.posterior,
            options=self.objective_options,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=self.label_smoothing if label_smoothing is None else label_smoothing,
            reduction=reduction,
            sample_weight=sample_weight,
            noise=noise,
            generator=generator,
            axis=self.axis,
        )
        return objective

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        return (*super().option_names(), *OBJECTIVE_OPTIONS)

    def options(self) -> dict[str, Any]:
        unread = self._unread(self.objective_options)
        read = {k: v for k, v in asdict(self.objective_options).items() if k not in unread}
        return super().options() | {"posterior": self.posterior} | read


def _option(name: str) -> property:
    """An option of the objective as an attribute of the head."""
    return property(
        lambda head: getattr(head.objective_options, name),
        lambda head, value: head._change(**{name: value}),
    )


for _name in OBJECTIVE_OPTIONS:
    setattr(DropMaxHead, _name, _option(_name))
