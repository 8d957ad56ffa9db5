"""A pretrained network with a classifier on its pooled features, as a model of Transformers."""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from dropmax.integrations.transformers.features import (
    HIDDEN,
    Features,
    Pretrained,
    hidden_layer,
    made_features,
)


class PooledForClassification(PreTrainedModel):
    """The host of what `dropmax train` saves of a pretrained network.

    Args:
        config: Of the network.
        num_labels: Of the classifier.
        known: How features come of what it returns.
        hidden: Whether a hidden layer stands on them.
        features: The network; made of the configuration, without weights, if None.
    """

    base_model_prefix = "features"

    def __init__(
        self,
        config: PreTrainedConfig,
        num_labels: int,
        known: Pretrained,
        *,
        hidden: bool,
        features: Features | None = None,
    ) -> None:
        super().__init__(config)
        self.features = made_features(config, known) if features is None else features
        model: Any = self.features.model
        self.main_input_name = model.main_input_name
        self.supports_gradient_checkpointing = model.supports_gradient_checkpointing
        width = self.features.out_features
        self.backbone = hidden_layer(width) if hidden else nn.Sequential()
        self.classifier: nn.Module = nn.Linear(HIDDEN if hidden else width, num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pixel_values: Tensor | None = None,
        token_type_ids: Tensor | None = None,  # noqa: ARG002
        return_dict: bool = True,  # noqa: ARG002
    ) -> SequenceClassifierOutput:
        """The logits of token ids or of pixels. Types of tokens make no difference."""
        if pixel_values is not None:
            features = self.features.of_pixels(pixel_values)
        else:
            assert input_ids is not None
            mask = input_ids == input_ids if attention_mask is None else attention_mask
            features = self.features.of_tokens(input_ids, mask)
        return SequenceClassifierOutput(logits=self.classifier(self.backbone(features)))
