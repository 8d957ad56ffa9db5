"""`DropMaxClassifier`, a classifier of scikit-learn; imported late, as it needs scikit-learn."""

from dropmax.estimator.classifier import DropMaxClassifier

__all__ = ["DropMaxClassifier"]
