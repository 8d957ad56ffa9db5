"""Whether a gate's order of the rivals is that in which other networks confuse them."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dropmax.report.instances import Judged


def rank_correlation(x: Float[Tensor, "N M"], y: Float[Tensor, "N M"]) -> Float[Tensor, " N"]:
    """Spearman's rank correlation of each row, with average ranks for ties.

    0 where all of a row of `x` or of `y` are alike: they have no order.

    Examples:
        >>> import torch
        >>> from studies.ranks import rank_correlation
        >>> x = torch.tensor([[1.0, 2.0, 9.0], [1.0, 1.0, 1.0]])
        >>> rank_correlation(x, torch.tensor([[7.0, 5.0, 0.0], [0.0, 5.0, 7.0]])).round()
        tensor([-1.,  0.], dtype=torch.float64)
    """
    from scipy.stats import rankdata

    ranks = [torch.from_numpy(rankdata(values.numpy(), axis=-1)) for values in (x, y)]
    a, b = (rank - rank.mean(-1, keepdim=True) for rank in ranks)
    norms = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(norms > 0.0, (a * b).sum(-1) / norms, 0.0)


def without_target(values: Float[Tensor, "N K"], target: Tensor) -> Float[Tensor, "N M"]:
    """The values of all classes but the target, M = K - 1."""
    kept = torch.ones_like(values, dtype=torch.bool).scatter_(-1, target[:, None], False)
    return values[kept].reshape(len(values), -1)


def ranks(judged: Mapping[int, Judged]) -> dict[int, dict[str, Any]]:
    """For each seed, how orders of the rivals agree with the confusions of the other seeds.

    C is the sum of the confusion matrices of the baseline's runs at other seeds. For an instance of
    target t, Spearman's rank correlation over k != t between C[t, k] and the retain probability
    rho_k ("retain"), the probability that the baseline's run at the seed gives k ("baseline"), and
    that by the plug-in ("plugin").

    Args:
        judged: By seed the test images as its two runs see them; of two seeds or more.

    Returns:
        By seed: over "all" instances and over those that the baseline of the seed gets "wrong", the
        three means (None over nothing), the number of "instances" in them, and how many are
        "unranked", since row t of C does not tell the rivals apart (no confusions at all).
    """
    confusions = {seed: _confusions(one) for seed, one in judged.items()}
    total = torch.stack(list(confusions.values())).sum(0)
    return {seed: _ranks(one, total - confusions[seed]) for seed, one in judged.items()}


def _confusions(judged: Judged) -> Tensor:
    """How often a class [K] is taken for another [K] by the baseline."""
    num_classes = len(judged.data.class_names)
    pairs = judged.target * num_classes + judged.answer
    counts = torch.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).double()


def _ranks(judged: Judged, confusions: Tensor) -> dict[str, Any]:
    target = judged.target
    confused = without_target(confusions[target], target)
    ranked = (confused != confused[:, :1]).any(-1)
    orders = {
        "retain": judged.retain_logits,
        "baseline": judged.baseline_log_probs,
        "plugin": judged.log_probs,
    }
    found = {
        name: rank_correlation(without_target(values, target), confused)
        for name, values in orders.items()
    }
    groups = {"all": torch.ones_like(ranked), "wrong": judged.answer != target}
    return {
        group: {
            **{name: _mean(values[members & ranked]) for name, values in found.items()},
            "instances": int((members & ranked).sum()),
            "unranked": int((members & ~ranked).sum()),
        }
        for group, members in groups.items()
    }


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None
