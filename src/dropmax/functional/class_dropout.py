"""Class dropout: the control of DropMax whose retain probability is fixed and not learned."""

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax import _check, bernoulli
from dropmax._precision import at_least_float32
from dropmax.axis import LOCAL, ClassAxis
from dropmax.functional.label import Label
from dropmax.functional.masking import cross_entropy, nll_of_each_class, retained_logits


def class_dropout_loss(
    logits: Float[Tensor, "*batch K"],
    target: Tensor,
    *,
    retain_prob: float = 0.5,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    axis: ClassAxis = LOCAL,
) -> Float[Tensor, "*batch"]:
    """Cross-entropy among the target and the rivals that a random mask retains.

    `-log p_t` of the softmax over {t} and {k : z_k = 1}, z_k ~ Bernoulli(retain_prob), which is
    z_k = [u_k > 1 - retain_prob] under uniform noise u, as in DropMax.

    Args:
        logits: Class scores `[*, K]`.
        target: Class indices `[*]`, or class probabilities `[*, K]`: the expectation over
            them. The target is always retained.
        retain_prob: The probability with which a rival is retained, in (0, 1].
        weight: Class weights `[K]`, of at least 0; ones if None.
        label_smoothing: The share of the label that is spread over all classes, in [0, 1].
        noise: Uniforms in (0, 1) `[*, K]`, float32 or float64; drawn if None.
        generator: The source of the noise; the default one if None.
        axis: Where the classes live.

    Returns:
        Loss `[*]` in nats, float32 at least.

    Raises:
        ValueError: If a shape, dtype, device or value does not fit.

    Source:
        The paper's rival "class dropout" (random masks at a fixed rate).

    Examples:
        >>> import torch
        >>> from dropmax.functional import class_dropout_loss
        >>> noise = torch.tensor([0.1, 0.9, 0.1])
        >>> class_dropout_loss(torch.zeros(3), torch.tensor(0), noise=noise)
        tensor(0.6931)
    """
    _check.class_tensors(logits)
    label = Label.of(
        target,
        logits,
        weight=weight,
        label_smoothing=label_smoothing,
        axis=axis,
    )
    _check.number("retain_prob", retain_prob, low=0.0, high=1.0, open_low=True)
    logits = at_least_float32(logits)
    noise = bernoulli.uniforms_like(logits, noise, generator)
    kept = noise > 1.0 - retain_prob
    if label.is_one_class:
        kept = kept | axis.one_hot(label.target, logits)
        return label.scaled(cross_entropy(retained_logits(logits, kept), label.target, axis))
    masked, dropped = retained_logits(logits, kept), retained_logits(logits, ~kept)
    return label.nll(nll_of_each_class(masked, dropped, logits, axis))
