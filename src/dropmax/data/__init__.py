"""Labeled images of any data set, through Hugging Face `datasets`, as tensors.

`load_images` takes scikit-learn's digits, a folder with parquet or image files, or a data set of
the hub; `Images.draw` takes from them the splits of one experiment, the same for hub and folder.
"""

from dropmax.data.images import Images, Split, Splits
from dropmax.data.load import load_images

__all__ = ["Images", "Split", "Splits", "load_images"]
