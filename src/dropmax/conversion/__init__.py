"""A head within a model: put in, found, trained with its loss, served as a classifier."""

from dropmax.conversion.criterion import Criterion, find_head
from dropmax.conversion.predictor import Predictor
from dropmax.conversion.swap import convert, revert

__all__ = ["Criterion", "Predictor", "convert", "find_head", "revert"]
