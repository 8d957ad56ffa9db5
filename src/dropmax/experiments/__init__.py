"""Many heads and seeds on one data set: a JSON line a run, continued where it was interrupted."""

from dropmax.experiments.comparison import Comparison, compare, split_heads
from dropmax.experiments.lines import RESULTS, append_line, read_lines
from dropmax.experiments.runs import run_folder

__all__ = [
    "RESULTS",
    "Comparison",
    "append_line",
    "compare",
    "read_lines",
    "run_folder",
    "split_heads",
]
