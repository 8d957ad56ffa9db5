"""What comes first in a classifier: pixels or columns, shifted and scaled."""

import torch
from torch import Tensor, nn

from dropmax.data.pictures import Inputs

FITTED = 1_000
"""Images that are held at once when their mean and deviation are taken."""


class Pixels(nn.Module):
    """Images uint8 `[N, C, H, W]` to floats, shifted and scaled a channel as the run states.

    Embeddings `[N, D]` are shifted and scaled a column; a constant one is shifted only. Rows of a
    table stay what their record made of them. The statistics are buffers: they are saved with the
    weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels = (shape[0], *(1 for _ in shape[1:]))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.unit = 1 if len(shape) == 1 else 255

    def fit(self, images: Inputs) -> None:
        """Take the mean and deviation of the images, of which a part is held at a time."""
        count, mean, variance = 0, torch.zeros(()), torch.zeros(())
        low, high = torch.tensor(torch.inf), torch.tensor(-torch.inf)
        step = len(images) if images.ndim == 2 else FITTED
        for start in range(0, len(images), step):
            part = images[start : start + step].double().div(self.unit).transpose(0, 1).flatten(1)
            more, offset = part.shape[1], part.mean(1) - mean
            total = count + more
            between = offset.square() * (count * more / total / (total - 1))
            within = part.var(1) * ((more - 1) / (total - 1))
            variance = variance * ((count - 1) / (total - 1)) + within + between
            mean, count = mean + offset * (more / total), total
            low, high = part.amin(1).minimum(low), part.amax(1).maximum(high)
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_(variance.sqrt().where(high > low, 1.0).view_as(self.std))

    def forward(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) / self.unit - self.mean) / self.std
