"""Classifiers of Hugging Face Transformers with a head; imported late, like transformers."""

from dropmax.integrations.transformers.configuration import DropMaxConfig
from dropmax.integrations.transformers.host import checked_num_labels
from dropmax.integrations.transformers.model import DropMaxForClassification, around

__all__ = ["DropMaxConfig", "DropMaxForClassification", "around", "checked_num_labels"]
