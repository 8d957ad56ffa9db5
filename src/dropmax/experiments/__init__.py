"""Many heads and seeds: comparisons on one data set, studies made of them, and their gates."""

from dropmax.experiments.change import write_changed
from dropmax.experiments.comparison import Comparison, compare, split_heads
from dropmax.experiments.gates import GATES, write_gates
from dropmax.experiments.lines import RESULTS, append_line, read_lines
from dropmax.experiments.runs import run_folder
from dropmax.experiments.study import Part, Study, load_study, progress_of, run_study

__all__ = [
    "GATES",
    "RESULTS",
    "Comparison",
    "Part",
    "Study",
    "append_line",
    "compare",
    "load_study",
    "progress_of",
    "read_lines",
    "run_folder",
    "run_study",
    "split_heads",
    "write_changed",
    "write_gates",
]
