"""What the lines of a comparison come to: a table and figures."""

from dropmax.report.figures import draw
from dropmax.report.gate import draw_gate, draw_posterior
from dropmax.report.tables import table

__all__ = ["draw", "draw_gate", "draw_posterior", "table"]
