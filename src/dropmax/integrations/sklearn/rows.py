"""Rows as a network takes them: scaled, dense, in batches."""

from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor


class Rows:
    """Scaled rows `[N, D]`, float32 where they train: sparse ones become dense batch by batch."""

    def __init__(self, table: Any, scaler: Any, dtype: torch.dtype = torch.float32) -> None:
        self.scaled = scaler.transform(dense_where(table, scaler))
        self.dtype = dtype

    def __len__(self) -> int:
        return int(self.scaled.shape[0])

    def __getitem__(self, chosen: Any) -> Tensor:
        rows = self.scaled[chosen]
        dense = rows.toarray() if hasattr(rows, "toarray") else rows
        return torch.from_numpy(np.ascontiguousarray(dense)).to(self.dtype)


def scaler_for(table: Any) -> StandardScaler:
    """Deviation 1 and mean 0; zeros of sparse rows stay zeros."""
    return StandardScaler(with_mean=not hasattr(table, "toarray"))


def dense_where(table: Any, scaler: StandardScaler) -> Any:
    """Sparse rows become dense where the scaler centers them, as it was fitted on dense ones."""
    return table.toarray() if scaler.with_mean and hasattr(table, "toarray") else table
