"""Put the tables of committed result lines into the README and the documentation.

    python experiments/tables.py

A table stands between `<!-- compare: FOLDER -->` and `<!-- end -->`.
"""

import re
from pathlib import Path

from dropmax.experiments import RESULTS, read_lines
from dropmax.report import table
from dropmax.training.run import write_whole

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- compare: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The page with its tables made anew from the lines."""
    return BLOCK.sub(
        lambda found: f"{found[1]}\n{table(read_lines(ROOT / found[2] / RESULTS))}\n{found[3]}",
        page,
    )


def main() -> None:
    """Rewrite every page that has such a table."""
    for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        page = file.read_text()
        if (made := with_tables(page)) != page:
            write_whole(file, made)
            print(file.relative_to(ROOT))


if __name__ == "__main__":
    main()
