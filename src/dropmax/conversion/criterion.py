"""Finding the head of a model, and training the model with its loss."""

from torch import Tensor, nn

from dropmax import _check
from dropmax.heads import Head, Scores


def find_head(model: nn.Module) -> Head:
    """The one head of a model, however it is wrapped (DDP, torch.compile, ...).

    Args:
        model: A module that is or contains exactly one `Head`.

    Raises:
        ValueError: If there is no head or more than one.

    Examples:
        >>> from torch import nn
        >>> import dropmax
        >>> from dropmax import find_head
        >>> model = nn.Sequential(nn.Flatten(), dropmax.make_head("sparsemax", 16, 5))
        >>> find_head(model)
        SparsemaxHead(in_features=16, out_features=5, bias=True)
    """
    if not isinstance(model, nn.Module):
        _check.fail("find_head", "model", "be an nn.Module", model, "pass the whole model")
    heads = {name: m for name, m in model.named_modules() if isinstance(m, Head)}
    if len(heads) != 1:
        found = ", ".join(name or type(head).__name__ for name, head in heads.items()) or "none"
        remedy = "make the last layer a head, dropmax.make_head(...), or pass the part with one"
        _check.fail("find_head", "model", "contain one head", _check.Verbatim(found), remedy)
    return next(iter(heads.values()))


class Criterion(nn.Module):
    """The loss function of a model's head: `criterion(model(x), y) -> scalar`.

    It takes the place of `nn.CrossEntropyLoss()` in a training loop: the mean over instances of the
    head's weighted objective. It has no parameters of its own and reads the head's options at each
    call, so that schedules work.

    Args:
        model: A module that contains exactly one `Head`.

    Raises:
        ValueError: If there is no head or more than one.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> import dropmax
        >>> from dropmax import Criterion
        >>> model = nn.Sequential(nn.Flatten(), dropmax.make_head("dropmax", 16, 5))
        >>> criterion = Criterion(model)
        >>> criterion(model(torch.randn(8, 4, 4)), torch.arange(8) % 5).backward()
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._head = (find_head(model),)  # in a tuple: the head stays the model's submodule alone

    def forward(self, scores: Scores, target: Tensor) -> Tensor:
        """The mean objective `[]` of scores `[*, K]` at class indices `[*]`, in nats."""
        (head,) = self._head
        return head.loss(scores, target).total

    def extra_repr(self) -> str:
        return repr(self._head[0])
