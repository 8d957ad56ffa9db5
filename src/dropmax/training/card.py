"""The model card of a run on a pretrained network: README.md, as hubs of models show it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dropmax.metrics import error_interval
from dropmax.training.config import RunConfig

CARD = "README.md"
SHOWN = 20
"""Classes that are named, at most."""
OF_TEXTS = "text-classification", "texts", '"a text", truncation=True'
OF_PICTURES = "image-classification", "pictures", '"a picture.jpg"'
TUNED = {
    "none": "stayed as it was, with a hidden layer on its features",
    "all": "was trained further",
    "lora": "was trained further by LoRA",
}


def card(
    config: RunConfig,
    class_names: Sequence[str],
    sizes: Mapping[str, int],
    metrics: Mapping[str, Any],
    *,
    of_texts: bool,
) -> str:
    """What a run was trained on, how good it is, how to use it, and where it ends.

    Args:
        config: The settings.
        class_names: In the order of the class indices.
        sizes: The number of rows of each split.
        metrics: Of the run.
        of_texts: Whether it classifies texts, and not pictures.
    """
    task, what, given = OF_TEXTS if of_texts else OF_PICTURES
    more = f", and {len(class_names) - SHOWN:,} more" if len(class_names) > SHOWN else ""
    counts = ", ".join(f"{sizes[name]:,} for {name}" for name in sizes if sizes[name])
    network, data = Path(config.pretrained or "").name, Path(config.data).name
    return f"""---
library_name: transformers
pipeline_tag: {task}
tags: [dropmax]
---

# {config.head} on {network}

It tells {len(class_names):,} classes of {what} apart: {", ".join(class_names[:SHOWN])}{more}.

## Data

{data}, with so many {what}: {counts}.

## How good it is

{_measured(metrics, sizes.get("test", 0))}

## How to use it

    import dropmax.integrations.transformers
    from transformers import pipeline

    pipeline("{task}", model="this folder")({given})

You need the package `dropmax` with its extra `transformers`.

## How it was made

The network {network} {TUNED[config.tune or "none"]}.
Its head is `{config.head}`, and the seed {config.seed}.
`run.json` has all settings, and the digest of the data.

## Limits

It names one of its classes for whatever you give it, also for what is none of them.
The numbers hold for data like those it was tested on.
What the pretrained network learned from, and its licence, are told where you have it from.
"""


def _measured(metrics: Mapping[str, Any], count: int) -> str:
    """Error with its 95 % interval (Wilson), likelihood and calibration on the test rows."""
    if "test" not in metrics:
        return "Nothing judges it: there were no test rows."
    test = metrics["test"]
    low, high = error_interval(test["error"], count)
    interval = (
        f"{test['error']:.1f} % ({low:.1f} to {high:.1f}, a 95 % interval over the test rows)"
    )
    others = f"NLL {test['nll']:.3f} nats, ECE {test['ece']:.1f} %"
    return f"On {count:,} test rows: error {interval}, {others}."
