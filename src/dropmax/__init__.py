"""DropMax: a softmax whose classes are dropped per instance with learned probabilities.

Variational training and prediction after Lee et al., "DropMax: Adaptive Variational Softmax",
NeurIPS 2018, with the rival heads of the paper behind one interface.
"""

from typing import TYPE_CHECKING, Any

from dropmax import analysis, axis, bernoulli, calibration, functional, heads, predictive
from dropmax.conversion import Criterion, Predictor, convert, find_head, revert
from dropmax.export import export_onnx
from dropmax.functional import Objective
from dropmax.heads import HEADS, Head, Scores, decay_groups, make_head

if TYPE_CHECKING:
    from dropmax.estimator import DropMaxClassifier

__version__ = "0.1.0"

__all__ = [
    "HEADS",
    "Criterion",
    "DropMaxClassifier",
    "Head",
    "Objective",
    "Predictor",
    "Scores",
    "__version__",
    "analysis",
    "axis",
    "bernoulli",
    "calibration",
    "convert",
    "decay_groups",
    "export_onnx",
    "find_head",
    "functional",
    "heads",
    "make_head",
    "predictive",
    "revert",
]


def __getattr__(name: str) -> Any:
    """`DropMaxClassifier`, which needs scikit-learn, where it is asked for."""
    if name == "DropMaxClassifier":
        from dropmax.estimator import DropMaxClassifier

        return DropMaxClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
