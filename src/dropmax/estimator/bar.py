"""The progress bar of a fit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def epoch_bar(epochs: int, *, shown: bool) -> Iterator[Callable[[float], None]]:
    """A bar over epochs with the nll and the time left; yields what advances it."""
    if not shown:
        yield lambda nll: None  # noqa: ARG005
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("nll {task.fields[nll]:.4f} nats"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("fit", total=epochs, nll=float("nan"))
        yield lambda nll: progress.update(task, advance=1, nll=nll)
