"""What a comparison comes to, and what a classifier confuses: tables, figures and pages."""

from dropmax.report.figures import draw
from dropmax.report.gate import draw_gate, draw_posterior
from dropmax.report.runs import write_comparison, write_report
from dropmax.report.tables import table
from dropmax.report.verdict import verdict
from dropmax.report.write import write

__all__ = [
    "draw",
    "draw_gate",
    "draw_posterior",
    "table",
    "verdict",
    "write",
    "write_comparison",
    "write_report",
]
