"""Classifiers of Hugging Face Transformers with a head; imported late, like transformers."""

from dropmax import _check

with _check.extra("transformers"):
    from dropmax.integrations.transformers.configuration import DropMaxConfig
    from dropmax.integrations.transformers.model import DropMaxForClassification

__all__ = ["DropMaxConfig", "DropMaxForClassification"]
