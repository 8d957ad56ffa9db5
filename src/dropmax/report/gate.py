"""Heat maps of what the gate retains, over easy and over difficult test images."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dropmax import _check
from dropmax.conversion import find_head
from dropmax.data import Images
from dropmax.heads import Scores
from dropmax.heads.base import required
from dropmax.predictive import mask_posterior
from dropmax.report.figures import axes_of, save
from dropmax.training import Run
from dropmax.training.classifier import predict

INSTANCES = 10
NAMED_CLASSES = 20
"""Up to so many classes have their names under the heat map."""


def draw_gate(run: Run, images: Images, out: str | Path, *, rival: Run | None = None) -> list[Path]:
    """Draw rho over the test images that a rival finds easiest and those it gets most wrong.

    Targets are circled, the rival's wrong answers crossed, as on the paper's poster.

    Args:
        run: A run whose head has a gate.
        images: The data set it was trained on.
        out: The directory for `gate.png` and `gate.svg`.
        rival: Whose answers say what is easy and what difficult, a softmax run; `run` if None.

    Returns:
        The files.

    Raises:
        ValueError: If the head has no gate, or a run does not fit the images.

    Examples:
        >>> import tempfile
        >>> from dropmax.data import load_images
        >>> from dropmax.report import draw_gate
        >>> from dropmax.training import RunConfig, train
        >>> config = RunConfig("digits", "dropmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run = train(config, out + "/run", progress=False)
        ...     [file.name for file in draw_gate(run, load_images("digits"), out)]
        ['gate.png', 'gate.svg']
    """
    scores, answer, order = _ordered("draw_gate", run, images, rival)
    target, wrong = images.test.target, order[(answer != images.test.target)[order]]
    figure, axes = axes_of(4, width=2.2, height=4.0, ratios=(0.5, 4.0, 0.5, 4.0))
    panels = (("easy", _one_a_class(order, target)), ("difficult", wrong.flip(0)[:INSTANCES]))
    retain = required(scores.retain_logits).double().sigmoid()
    shown: Any = None
    for pair, (title, rows) in enumerate(panels):
        strip, ax = axes[2 * pair : 2 * pair + 2]
        if len(rows):
            _strip(strip, images.test.images[rows])
            shown = _heat_map(ax, retain[rows], target[rows], answer[rows], images.class_names)
        strip.axis("off")
        ax.set_title(f"{title} test instances", fontsize=9)
    figure.colorbar(shown, ax=axes[-1], label="retain probability", fraction=0.05)
    return save({"gate": figure}, out)


def draw_posterior(
    run: Run, images: Images, out: str | Path, *, rival: Run | None = None
) -> list[Path]:
    """Draw prior, variational and exact posterior over the test images a rival gets most wrong.

    The variational posterior is what training draws masks from; the exact one is
    `dropmax.predictive.mask_posterior` given that the target is retained.

    Args:
        run: A run of DropMax, but one trained on the marginal likelihood.
        images: The data set it was trained on.
        out: The directory for `posterior.png` and `posterior.svg`.
        rival: Whose answers say what is difficult, a softmax run; `run` if None.

    Returns:
        The files.

    Raises:
        ValueError: If the head has no posterior, a run does not fit the images, or nothing is
            wrong.

    Examples:
        >>> import tempfile
        >>> from dropmax.data import load_images
        >>> from dropmax.report import draw_posterior
        >>> from dropmax.training import RunConfig, train
        >>> config = RunConfig("digits", "dropmax", train_per_class=5, epochs=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run = train(config, out + "/run", progress=False)
        ...     [file.name for file in draw_posterior(run, load_images("digits"), out)]
        ['posterior.png', 'posterior.svg']
    """
    scores, answer, order = _ordered("draw_posterior", run, images, rival)
    wrong = order[(answer != images.test.target)[order]].flip(0)[:INSTANCES]
    if not len(wrong):
        got = _check.Verbatim("a run that gets every test image right")
        _check.fail("draw_posterior", "images", "hold wrong answers", got, "draw another run")
    retain_logits = required(scores.retain_logits)[wrong]
    correction_logits = scores.correction_logits
    if correction_logits is not None:
        correction_logits = correction_logits[wrong]
    hard = Scores(scores.logits[wrong], retain_logits, correction_logits)
    target = images.test.target[wrong]
    posterior = find_head(run.classifier()).posterior_logits(hard, target)
    if posterior is None:
        got = _check.Verbatim(repr(run.config.head))
        _check.fail(
            "draw_posterior", "run", "have a posterior", got, "draw it of a variational DropMax"
        )
    exact = mask_posterior(hard.logits, retain_logits, target, target_kept=True)
    panels = (
        ("prior", retain_logits),
        ("posterior of training", posterior),
        ("exact posterior", exact),
    )
    figure, axes = axes_of(4, width=2.6, height=4.0, ratios=(0.5, 4.0, 4.0, 4.0))
    _strip(axes[0], images.test.images[wrong])
    axes[0].axis("off")
    for ax, (title, logits) in zip(axes[1:], panels, strict=True):
        probs = logits.double().sigmoid()
        if logits is not retain_logits:  # given the label, its class is retained
            probs.scatter_(-1, target[:, None], 1.0)
        shown = _heat_map(ax, probs, target, answer[wrong], images.class_names)
        ax.set_title(title, fontsize=9)
    figure.colorbar(shown, ax=axes[-1], label="probability of being retained", fraction=0.05)
    return save({"posterior": figure}, out)


def _ordered(
    function: str, run: Run, images: Images, rival: Run | None
) -> tuple[Scores, Tensor, Tensor]:
    """Scores of the test images, the rival's answers, and the images from easy to difficult."""
    for one in (run, rival or run):
        if (one.shape, one.class_names) != (images.shape, images.class_names):
            got = _check.Verbatim(f"{images.name}, of other classes or sizes")
            _check.fail(function, "images", "be those of the run", got, "load its data set")
    scores, log_probs = predict(run.classifier(), images.test.images)
    if scores.retain_logits is None:
        got = _check.Verbatim(repr(run.config.head))
        _check.fail(function, "run", "have a gate", got, "draw it of DropMax or attention")
    if rival is not None:
        log_probs = predict(rival.classifier(), images.test.images).log_probs
    at_target = log_probs.gather(-1, images.test.target[:, None]).squeeze(-1)
    return scores, log_probs.argmax(-1), at_target.argsort(descending=True, stable=True)


def _one_a_class(order: Tensor, target: Tensor) -> Tensor:
    """The first instance of each class in the order, up to the number that is shown."""
    first: dict[int, int] = {}
    for n in order.tolist():
        first.setdefault(int(target[n]), n)
    return torch.tensor([first[k] for k in sorted(first)][:INSTANCES], dtype=torch.int64)


def _strip(ax: Any, images: Tensor) -> None:
    """The images below one another; rows of numbers are not shown."""
    if images.ndim != 4:
        return
    apart = F.pad(images, (0, 0, 1, 1), value=255)
    tall = torch.cat(list(apart), dim=1).permute(1, 2, 0)
    ax.imshow(tall.expand(-1, -1, 3).numpy(), aspect="auto", interpolation="nearest")


def _heat_map(
    ax: Any, retain: Tensor, target: Tensor, answer: Tensor, class_names: tuple[str, ...]
) -> Any:
    shown = ax.imshow(retain.numpy(), aspect="auto", cmap="viridis", vmin=0.0, vmax=1.0)
    for row, (t, a) in enumerate(zip(target.tolist(), answer.tolist(), strict=True)):
        ax.plot(t, row, "o", mec="white", mfc="none", ms=8, mew=1.5)
        if a != t:
            ax.plot(a, row, "x", color="#ff4b4b", ms=6, mew=2)
    ax.set_yticks([])
    ax.set_xlabel("class (o target, x wrong answer)", fontsize=8)
    if len(class_names) <= NAMED_CLASSES:
        upright = max(map(len, class_names)) <= 2
        ax.set_xticks(range(len(class_names)), class_names, rotation=0 if upright else 90)
    return shown
