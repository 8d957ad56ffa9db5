"""What rebuilds a converted classifier."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig


def _of_host(name: str) -> property:
    """A setting that a user or Trainer makes here, and the host reads in its own configuration."""

    def read(config: "DropMaxConfig") -> Any:
        return config.host and getattr(config.get_text_config(), name, None)

    def write(config: "DropMaxConfig", value: Any) -> None:
        if config.host is not None:
            setattr(config.get_text_config(), name, value)

    return property(read, write)


class DropMaxConfig(PreTrainedConfig):
    """What rebuilds a converted classifier: the host's configuration, and the head's.

    Args:
        host: The configuration of the model that was converted, or its dictionary.
        architecture: The name of that model's class in transformers.
        layer: The name of the classifier within it.
        head: As `dropmax.make_head` takes it.
        options: Of the head.
        method: How logits are computed, a method of `Head.log_probs`: "plugin", "exact" or
            "monte_carlo".
        method_options: Of the method.
        scale: What log-probabilities are multiplied by, and normalized anew: one over a
            temperature.
        features: For a host that is a pretrained network with a classifier on its features: the
            fields of `Pretrained`, by which they are made.
        hidden: Whether there is a hidden layer on these features.
        **kwargs: Of every configuration of transformers, such as id2label.
    """

    model_type = "dropmax"
    sub_configs = {"host": AutoConfig}  # noqa: RUF012
    host: Any = None

    pad_token_id = _of_host("pad_token_id")
    use_cache = _of_host("use_cache")

    def __init__(
        self,
        host: PreTrainedConfig | dict[str, Any] | None = None,
        architecture: str = "",
        layer: str = "",
        head: str = "dropmax",
        options: dict[str, Any] | None = None,
        method: str = "plugin",
        method_options: dict[str, Any] | None = None,
        scale: float = 1.0,
        features: dict[str, Any] | None = None,
        hidden: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.host = AutoConfig.for_model(**host) if isinstance(host, dict) else host
        self.architecture = architecture
        self.layer = layer
        self.head = head
        self.options = options or {}
        self.method = method
        self.method_options = method_options or {}
        self.scale = scale
        self.features = features
        self.hidden = hidden

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        return self if self.host is None else self.host.get_text_config(*args, **kwargs)
