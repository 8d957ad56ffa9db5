"""The bar over runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

A_DAY = 86_400.0


@contextmanager
def run_bar(total: float, done: float, *, shown: bool) -> Iterator[Callable[[float], None]]:
    """A bar with the time left; what it yields moves it on, by runs or by their minutes."""
    if not shown:
        yield lambda amount: None  # noqa: ARG005
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("of the runs"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        speed_estimate_period=A_DAY,
    ) as progress:
        task = progress.add_task("", total=total)
        progress.update(task, completed=done)
        yield lambda amount: progress.advance(task, amount)
