"""Small pictures of rows inside a page, each there once, up to a number of bytes."""

import base64
import io

from torch import Tensor

SIDE = 96
"""Pixels of the longer side, at most."""
SHARP = 48
"""Pictures up to so many pixels are kept as they are, without loss."""
LARGE = 64
"""Smaller pictures are enlarged to about so many pixels where they are shown."""
BYTES = 1_800_000
"""Of all of them, as text."""


class Thumbnails:
    """The pictures of a page by the number of their row.

    Attributes:
        rules: By number the width and height of a picture, and itself as a data URI.
        left_out: How many were asked for once there was no room any more.
    """

    def __init__(self) -> None:
        self.rules: dict[int, tuple[int, int, str]] = {}
        self.left_out = 0
        self._bytes = 0

    def add(self, number: int, picture: Tensor) -> bool:
        """Take a picture uint8 `[C, H, W]`, unless there is no room; whether it is there."""
        if number not in self.rules:
            width, height, uri = _encoded(picture)
            if self._bytes + len(uri) > BYTES:
                self.left_out += 1
                return False
            self._bytes += len(uri)
            self.rules[number] = width, height, uri
        return True


def _encoded(picture: Tensor) -> tuple[int, int, str]:
    from PIL import Image

    image = Image.fromarray(picture.permute(1, 2, 0).squeeze(-1).numpy())
    stream, kind = io.BytesIO(), "png"
    if max(image.size) <= SHARP:
        image.save(stream, "PNG", optimize=True)
    else:
        image.thumbnail((SIDE, SIDE))
        kind = "jpeg"
        image.save(stream, "JPEG", quality=80)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    times = max(LARGE // max(image.size), 1)
    return image.width * times, image.height * times, f"data:image/{kind};base64,{text}"
