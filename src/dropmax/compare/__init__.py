"""Many heads and seeds on one data set: a JSON line for each run, resumed if interrupted."""

from dropmax.compare.comparison import Comparison, compare, split_heads
from dropmax.compare.lines import RESULTS, append_line, read_lines
from dropmax.compare.runs import run_folder
from dropmax.compare.summary import Summary, summarize

__all__ = [
    "RESULTS",
    "Comparison",
    "Summary",
    "append_line",
    "compare",
    "read_lines",
    "run_folder",
    "split_heads",
    "summarize",
]
