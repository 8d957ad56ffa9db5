"""The studies of this repository: questions in YAML files, their runs, and the pages made of them.

None of this is in the wheel; `python -m studies` in a clone runs it.
"""

from studies.calibrated import CALIBRATION, Judging, write_calibration
from studies.change import write_changed
from studies.gates import GATES, write_gates
from studies.pages import page_files, update_pages, with_blocks
from studies.poster import draw_gates
from studies.study import Part, Study, load_study, progress_of, run_study
from studies.variants import (
    DrawnTargetHead,
    EarlierDefaultHead,
    PluginNllHead,
    SeeingGateHead,
    register_variants,
)

__all__ = [
    "CALIBRATION",
    "GATES",
    "DrawnTargetHead",
    "EarlierDefaultHead",
    "Judging",
    "Part",
    "PluginNllHead",
    "SeeingGateHead",
    "Study",
    "draw_gates",
    "load_study",
    "page_files",
    "progress_of",
    "register_variants",
    "run_study",
    "update_pages",
    "with_blocks",
    "write_calibration",
    "write_changed",
    "write_gates",
]
