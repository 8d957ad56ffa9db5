"""The objective of DropMax straight from the features, for very many classes.

The three maps and the objective go over a few instances at a time; nothing of the size [N, K]
outlives its turn, and the gradient is made in the forward pass.
"""

from dropmax.fused.linear import linear_dropmax_objective

__all__ = ["linear_dropmax_objective"]
