"""scikit-learn's logistic regression on the draws of our runs, the rival of linear heads.

    python experiments/logistic.py --data banking77 --encoder all-minilm-l6-v2 --data-root FOLDER \
        --train-per-class 5 --validation-per-class 5 --seeds 5 --out logistic.jsonl

Writes a line a seed, with the metrics of our lines. The inverse strength C of its L2 penalty is
the best by the log-likelihood in five-fold cross-validation on the training rows, which are scaled
as our protocols scale them. A seed that has its line is left alone.
"""

import argparse
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from torch import Tensor

from dropmax.data import Images, Split
from dropmax.experiments import append_line, read_lines
from dropmax.metrics import evaluate
from dropmax.training import RunConfig, check, load_data
from dropmax.training.run import versions

HEAD = "logistic_regression"
GRID = tuple(10.0 ** (step / 2) for step in range(-8, 9))
"""The values of C that are tried, in half powers of ten."""
