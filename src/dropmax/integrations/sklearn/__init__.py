"""`DropMaxClassifier`, a classifier of scikit-learn; imported late, as it needs scikit-learn."""

from dropmax import _check

with _check.extra("sklearn"):
    from dropmax.integrations.sklearn.classifier import DropMaxClassifier

__all__ = ["DropMaxClassifier"]
