"""Labeled images, rows of numbers or texts of any data set as tensors.

`load_data` is the one door: it takes scikit-learn's digits, a table, a folder of parquet or image
files, or a data set of the hub, through Hugging Face `datasets`. `DataSet.draw` takes from it the
splits of one run, the same for hub and folder. Rows that cannot be read are left out with the
warning `BrokenRows`, and the notes of their split say why.
"""

from dropmax.data.corruption import CORRUPTIONS, corrupted
from dropmax.data.dataset import DataSet
from dropmax.data.images import ResizedPictures
from dropmax.data.labeled import BrokenRows, DataWarning, LabeledData
from dropmax.data.load import load_data
from dropmax.data.record import Record
from dropmax.data.splits import Splits
from dropmax.data.texts import PACKAGED

__all__ = [
    "CORRUPTIONS",
    "PACKAGED",
    "BrokenRows",
    "DataSet",
    "DataWarning",
    "LabeledData",
    "Record",
    "ResizedPictures",
    "Splits",
    "corrupted",
    "load_data",
]
