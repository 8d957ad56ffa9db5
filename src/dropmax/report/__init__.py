"""What the lines of a comparison come to: a table and figures, and those of its gates."""

from dropmax.report.figures import draw
from dropmax.report.gate import draw_gate, draw_posterior
from dropmax.report.poster import draw_gates
from dropmax.report.summary import Summary, summarize
from dropmax.report.table import table

__all__ = ["Summary", "draw", "draw_gate", "draw_gates", "draw_posterior", "summarize", "table"]
