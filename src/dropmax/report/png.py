"""An image as text that JSON can hold."""

import base64
import io

import numpy as np
import torch
from torch import Tensor


def to_png(image: Tensor) -> str | None:
    """An image uint8 `[C, H, W]` as a PNG file in base64; None for a row of numbers.

    Examples:
        >>> import torch
        >>> from dropmax.report.png import from_png, to_png
        >>> image = torch.randint(256, (3, 4, 5), dtype=torch.uint8)
        >>> torch.equal(from_png(to_png(image)), image)
        True
    """
    from PIL import Image

    if image.ndim != 3:
        return None
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def from_png(text: str) -> Tensor:
    """The image that `to_png` wrote."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        pixels = np.array(image)
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
