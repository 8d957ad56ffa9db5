"""What the lines of a comparison come to: a table and figures."""

from dropmax.report.figures import draw
from dropmax.report.gate import draw_gate, draw_posterior
from dropmax.report.summary import Summary, summarize
from dropmax.report.tables import table

__all__ = ["Summary", "draw", "draw_gate", "draw_posterior", "summarize", "table"]
