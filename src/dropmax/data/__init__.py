"""Labeled images or rows of numbers of any data set as tensors.

`load_images` takes scikit-learn's digits, a folder with parquet or image files, or a data set of
the hub, through Hugging Face `datasets`; `load_numbers` a table. `Images.draw` takes from them the
splits of one experiment, the same for hub and folder. Rows that cannot be read are left out with
the warning `BrokenRows`.
"""

from dropmax.data.images import Images, Split, Splits
from dropmax.data.load import load_images
from dropmax.data.numbers import load_numbers
from dropmax.data.tables import BrokenRows

__all__ = ["BrokenRows", "Images", "Split", "Splits", "load_images", "load_numbers"]
