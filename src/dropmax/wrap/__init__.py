"""A head within a model: put in, found, trained with its loss, served as a classifier."""

from dropmax.wrap.criterion import Criterion
from dropmax.wrap.find import find_head
from dropmax.wrap.predictor import Predictor
from dropmax.wrap.swap import convert, revert

__all__ = ["Criterion", "Predictor", "convert", "find_head", "revert"]
