"""Classifiers of Hugging Face Transformers with a head; imported late, like transformers.

Once it is imported, the Auto classes and pipelines load what such a classifier saved.
"""

from dropmax import _check

with _check.extra("transformers"):
    import transformers

    from dropmax.integrations.transformers.configuration import DropMaxConfig
    from dropmax.integrations.transformers.model import DropMaxForClassification

__all__ = ["DropMaxConfig", "DropMaxForClassification"]

transformers.AutoConfig.register(DropMaxConfig.model_type, DropMaxConfig, exist_ok=True)
for _auto in (
    transformers.AutoModelForSequenceClassification,
    transformers.AutoModelForTokenClassification,
    transformers.AutoModelForImageClassification,
):
    _auto.register(DropMaxConfig, DropMaxForClassification, exist_ok=True)
