"""What a classifier confuses; what its gate keeps, how good its posterior is and what it is for."""

from dropmax.analysis.conformal import ConformalSets, fit_conformal
from dropmax.analysis.confusion import Confusion, confusions
from dropmax.analysis.gates import Retained, hesitation, kept_for, retained_classes
from dropmax.analysis.inference import (
    TOLERANCE,
    Uncertainty,
    VariationalGap,
    uncertainty,
    variational_gap,
)
from dropmax.analysis.suspicion import Suspicion, label_suspicion, scope_suspicion

__all__ = [
    "TOLERANCE",
    "ConformalSets",
    "Confusion",
    "Retained",
    "Suspicion",
    "Uncertainty",
    "VariationalGap",
    "confusions",
    "fit_conformal",
    "hesitation",
    "kept_for",
    "label_suspicion",
    "retained_classes",
    "scope_suspicion",
    "uncertainty",
    "variational_gap",
]
