"""A table on the screen."""

from collections.abc import Sequence

WIDE = 200
"""Characters in a line where no terminal says how many fit."""
LEFT_OUT = ("wins", "Brier", "rivals retained")
"""Columns of a comparison that a terminal has no room for; its `table.md` has them."""
INTERVAL = "[95 %]"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print the cells of a comparison, its heading first: of numbers, intervals alone may wrap."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = [n for n, heading in enumerate(rows[0]) if heading not in LEFT_OUT]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for n in shown:
        table.add_column(
            Text(rows[0][n]),
            justify="right" if n else "left",
            overflow="fold",
            no_wrap=n > 0 and INTERVAL not in rows[0][n],
            min_width=len("[-0.00,+0.00]") if INTERVAL in rows[0][n] else None,
        )
    for row in rows[1:]:
        name, *cells = (row[n] for n in shown)
        table.add_row(Text(name.strip("`")), *(Text(cell.replace(", ", ",")) for cell in cells))
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)
