"""What a comparison comes to, and what a classifier confuses: tables, figures and pages."""

from dropmax.report.figures import draw
from dropmax.report.files import Written, write
from dropmax.report.gate import draw_gate, draw_posterior
from dropmax.report.runs import write_comparison, write_report
from dropmax.report.sentences import verdict
from dropmax.report.tables import table

__all__ = [
    "Written",
    "draw",
    "draw_gate",
    "draw_posterior",
    "table",
    "verdict",
    "write",
    "write_comparison",
    "write_report",
]
