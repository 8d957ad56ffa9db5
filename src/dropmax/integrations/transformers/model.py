"""A classifier of Transformers with a head, as one more model of Transformers."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import guard_torch_init_functions, no_init_weights
from transformers.utils.generic import ModelOutput, can_return_tuple

from dropmax import _check
from dropmax.heads import Head, Scores
from dropmax.heads.base import without_correction
from dropmax.integrations.transformers.configuration import DropMaxConfig
from dropmax.integrations.transformers.host import (
    PackedHead,
    WithHostArguments,
    made_host,
    only_called_within,
)
from dropmax.integrations.transformers.hub import add_code


class DropMaxForClassification(PreTrainedModel):
    """A classifier of Hugging Face Transformers with a head, as `dropmax.convert` makes it.

    It takes what the host takes and returns the host's output, in which `logits` are
    log-probabilities and, given labels, `loss` is the head's. Trainer, pipelines and PEFT use it as
    they use the host. It is saved under a model_type of its own, which the Auto classes for
    classification know once this module is imported. The host within refuses to be called alone.

    Args:
        config: What it is made of. `config.method` and `config.method_options` say how
            logits are computed, and may be set at any time.
        host: A model whose classifier is a `PackedHead`; made from the configuration if None.

    Raises:
        ValueError: If the configuration has no host, or one that is no classifier of transformers.

    Examples:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> from dropmax import convert
        >>> config = BertConfig(
        ...     vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        ...     intermediate_size=16, num_labels=5,
        ... )
        >>> model = convert(BertForSequenceClassification(config))
        >>> output = model(torch.ones(8, 6, dtype=torch.long), labels=torch.arange(8) % 5)
        >>> output.loss.backward()
        >>> output.logits.shape
        torch.Size([8, 5])
    """

    config_class = DropMaxConfig
    base_model_prefix = "host"
    accepts_loss_kwargs = True  # Trainer passes num_items_in_batch
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True  # the host checks for itself

    def __init__(self, config: DropMaxConfig, host: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        self.host = made_host(config) if host is None else host
        self.guard = only_called_within(self.host)
        self.config.host = self.host.config
        self.main_input_name = self.host.main_input_name
        self.supports_gradient_checkpointing = self.host.supports_gradient_checkpointing
        self.post_init()

    @property
    def base_model(self) -> nn.Module:
        """The host's own, without the head: freeze its parameters to train the head alone."""
        return self.host.base_model

    @property
    def head(self) -> Head:
        """The head, and under PEFT the copy of it that is in use."""
        return cast(Head, self.host.get_submodule(self.config.layer).head)

    def initialize_weights(self) -> None:
        """As every model of transformers; and what a checkpoint lacks of the head starts anew."""
        super().initialize_weights()
        with guard_torch_init_functions(), torch.no_grad():
            self.head.reset_parameters()

    def _upload_modified_files(self, working_dir: Any, *args: Any, **kwargs: Any) -> Any:
        """Whatever goes to the hub holds code by which the Auto classes load it, if trusted."""
        add_code(Path(working_dir))
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    @WithHostArguments
    @can_return_tuple
    def forward(
        self,
        *args: Any,
        labels: Tensor | None = None,
        sample_weight: Tensor | None = None,
        noise: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> ModelOutput:
        """The host's output, with log-probabilities as its logits and the head's loss.

        Args:
            *args: What the host takes.
            labels: Class indices `[*]`, of which -100 are ignored, or class probabilities `[*, K]`.
            sample_weight: The weight of each instance in the loss `[*]`.
            noise: Uniforms in (0, 1) for the masks `[N, ..., K]`, or `[N, S, ..., K]` for S of
                them; drawn if None.
            num_items_in_batch: What the sum of the losses is divided by in the place of this
                batch's mean: the entries of all labels that are accumulated, as Trainer counts.
            **kwargs: What the host takes.

        Raises:
            ValueError: If num_items_in_batch comes without labels, or the head finds fault.
        """
        only_predicts = labels is None and not torch.is_grad_enabled()
        with without_correction(self.head) if only_predicts else nullcontext():
            output = self.host(*args, **kwargs, return_dict=True, packed=True)
        scores = self._unpacked(output.logits)
        loss = None
        if labels is not None:
            loss = self._loss(scores, labels, num_items_in_batch, sample_weight, noise)
        elif num_items_in_batch is not None:
            remedy = (
                "leave out label_smoothing_factor and compute_loss_func, for which Trainer keeps "
                "the labels, and give convert the option label_smoothing"
            )
            must = "be given where num_items_in_batch is"
            _check.fail("labels", must, None, remedy)
        log_probs = self.head.log_probs(
            scores, method=self.config.method, **self.config.method_options
        )
        if self.config.scale != 1.0:
            log_probs = (self.config.scale * log_probs).log_softmax(-1)
        replaced: ModelOutput = replace(output, loss=loss, logits=log_probs)
        return replaced

    def scores(self, *args: Any, **kwargs: Any) -> Scores:
        """The head's scores, each `[*, K]`, of what the host takes; for `dropmax.analysis`."""
        return self._unpacked(self.host(*args, **kwargs, return_dict=True, packed=True).logits)

    def _unpacked(self, packed: Tensor) -> Scores:
        """The scores that `PackedHead` put into one tensor."""
        return Scores(*packed.split(self.head.out_features, -1))

    def _loss(
        self,
        scores: Scores,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None,
        sample_weight: Tensor | None,
        noise: Tensor | None,
    ) -> Tensor:
        """The mean loss, or the batch's part of the mean over num_items_in_batch entries."""
        if noise is not None and noise.ndim > scores.logits.ndim:
            noise = noise.movedim(1, 0)  # rows come first in a data set, samples in a head
        reduction = "mean" if num_items_in_batch is None else "sum"
        loss = self.head.loss(
            scores, labels, reduction=reduction, sample_weight=sample_weight, noise=noise
        ).total
        if num_items_in_batch is None:
            return loss
        entries = labels.shape[-1] if labels.is_floating_point() else 1  # of a row's target
        items = torch.as_tensor(num_items_in_batch, device=loss.device) / entries
        return loss / items.masked_fill(items == 0, 1)  # where all labels are ignored, 0


def around(host: Any, layer: str, head: str, options: dict[str, Any]) -> DropMaxForClassification:
    """The model around a host whose classifier, called `layer`, is a head already."""
    config = DropMaxConfig(
        host.config,
        architecture=type(host).__name__,
        layer=layer,
        head=head,
        options=options,
        num_labels=host.config.num_labels,
        id2label=host.config.id2label,
        label2id=host.config.label2id,
        problem_type=host.config.problem_type,
    )
    host.set_submodule(layer, PackedHead(host.get_submodule(layer)))
    with no_init_weights():
        model = DropMaxForClassification(config, host)
    model.train(host.training)
    return model
