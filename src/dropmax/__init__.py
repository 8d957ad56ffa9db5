"""DropMax: a softmax whose classes are dropped per instance with learned probabilities.

Variational training and prediction after Lee et al., "DropMax: Adaptive Variational Softmax",
NeurIPS 2018, with the baseline heads of the paper behind one interface. Every room is an attribute,
`dropmax.metrics` say, and is imported when it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dropmax import analysis, axis, bernoulli, calibration, functional, heads, predictive
from dropmax.errors import DropmaxError
from dropmax.functional import Objective
from dropmax.heads import HEADS, Head, Scores, decay_groups, make_head, register_head
from dropmax.integrations.onnx import export_onnx
from dropmax.wrap import Criterion, Predictor, convert, find_head, revert

if TYPE_CHECKING:
    from dropmax import (
        compare,
        data,
        fused,
        integrations,
        metrics,
        parallel,
        report,
        training,
    )
    from dropmax.integrations.sklearn import DropMaxClassifier
    from dropmax.parallel import ClassParallel

__version__ = "0.1.0"

__all__ = [
    "HEADS",
    "ClassParallel",
    "Criterion",
    "DropMaxClassifier",
    "DropmaxError",
    "Head",
    "Objective",
    "Predictor",
    "Scores",
    "__version__",
    "analysis",
    "axis",
    "bernoulli",
    "calibration",
    "compare",
    "convert",
    "data",
    "decay_groups",
    "export_onnx",
    "find_head",
    "functional",
    "fused",
    "heads",
    "integrations",
    "make_head",
    "metrics",
    "parallel",
    "predictive",
    "register_head",
    "report",
    "revert",
    "training",
]

LATE = {
    "ClassParallel": "dropmax.parallel",
    "DropMaxClassifier": "dropmax.integrations.sklearn",
}
"""Where the classes are that are imported when they are asked for."""


def __getattr__(name: str) -> Any:
    """A room, or a class that takes other packages along, where it is asked for first."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in LATE:
        return getattr(importlib.import_module(LATE[name]), name)
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
