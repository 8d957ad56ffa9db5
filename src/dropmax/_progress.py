"""The one progress bar: how far, for how long, how long still, and a word beside it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dropmax import _check

A_DAY = 86_400.0
"""The time left is judged by the speed of so many seconds."""


@contextmanager
def progress_bar(
    total: int | float, counted: str, *, done: int | float = 0, label: str = "", shown: bool = True
) -> Iterator[Callable[..., None]]:
    """A bar on the terminal, where it is shown; yields `advance(amount=1.0, said="")`.

    That moves it on by an amount of what is counted, with a word that stands beside the bar.

    Args:
        total: How much there is to do.
        counted: Of what, "epochs" say.
        done: How much of it is done already.
        label: Stands before the bar.
        shown: Whether there is a bar at all.
    """
    if not shown:
        yield lambda amount=1.0, said="": None  # noqa: ARG005
        return
    with _check.extra("train"):
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

    with Progress(
        *([TextColumn(label)] if label else []),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(counted),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
        speed_estimate_period=A_DAY,
    ) as progress:
        task = progress.add_task("", total=total, completed=done, said="")  # type: ignore[arg-type]

        def advance(amount: float = 1.0, said: str = "") -> None:
            progress.update(task, advance=amount, said=said)

        yield advance
