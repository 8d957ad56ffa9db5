"""Rows as a network takes them: scaled, dense, in batches."""

from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor


class Rows:
    """Scaled rows `[N, D]`, float32 where they train: sparse ones become dense batch by batch."""

    def __init__(self, table: Any, scaler: StandardScaler, dtype: torch.dtype = torch.float32):
        self.sparse = is_sparse(table)
        self.table = table if self.sparse else scaler.transform(table)
        self.scaler, self.dtype = scaler, dtype

    def __len__(self) -> int:
        return int(self.table.shape[0])

    def __getitem__(self, chosen: Any) -> Tensor:
        rows = self.table[chosen]
        dense = self.scaler.transform(rows.toarray()) if self.sparse else rows
        return torch.from_numpy(np.ascontiguousarray(dense)).to(self.dtype)


def is_sparse(table: Any) -> bool:
    """Whether a table keeps only what is not 0."""
    return hasattr(table, "toarray")


def scale_to(scaler: StandardScaler, table: Any, weight: Any) -> StandardScaler:
    """Let mean and deviation follow more rows.

    Sparse rows stay sparse for it. They are centered like dense ones when they become dense.
    """
    scaler.with_mean = not is_sparse(table)
    scaler.partial_fit(table, sample_weight=weight)
    scaler.with_mean = True
    return scaler
