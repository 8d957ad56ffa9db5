"""Rows that are computed once and kept, each by a hash of what it was computed from.

They are kept in the folder that the environment variable DROPMAX_CACHE names, else in
`~/.cache/dropmax`.
"""

import hashlib
import os
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from dropmax import _check
from dropmax._files import make_folder, write_whole

PART = 512
"""So many rows are computed, and kept, at a time."""


def cached(
    maker: str, keys: Sequence[bytes], make: Callable[[Sequence[int]], Tensor], what: str
) -> Tensor:
    """A row for each key, out of the cache where it has them.

    Each key's row is made once, whatever keys stand around it. Rows are made and kept a part at a
    time, with a bar on a terminal: what was interrupted goes on.

    Args:
        maker: A hash of what makes the rows.
        keys: At least one, of equal length.
        make: From places among the keys to their rows.
        what: The rows are of, such as "texts"; for the bar.
    """
    with _check.extra("text"):
        from tqdm import tqdm

    folder = _cache_folder() / maker
    found = _kept(folder, set(keys))
    each_once = {key: place for place, key in enumerate(keys)}
    missing = [(key, place) for key, place in each_once.items() if key not in found]
    with tqdm(total=len(missing), desc=what, unit="", disable=None, leave=False) as bar:
        for start in range(0, len(missing), PART):
            part = dict(missing[start : start + PART])
            rows = make(list(part.values()))
            _keep(folder, list(part), rows)
            found |= zip(part, rows, strict=True)
            bar.update(len(part))
    return torch.stack([found[key] for key in keys])


def _kept(folder: Path, wanted: Set[bytes]) -> dict[bytes, Tensor]:
    """The rows that a folder of the cache has, by key."""
    found: dict[bytes, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with suppress(FileNotFoundError, SafetensorError):  # one cut off is made again
            kept = safetensors.torch.load_file(file)
            keys = map(bytes, kept["keys"].numpy())
            rows = zip(keys, kept["embeddings"], strict=True)
            found |= {key: row.clone() for key, row in rows if key in wanted}
    return found


def _keep(folder: Path, keys: Sequence[bytes], rows: Tensor) -> None:
    """Put new rows into a folder of the cache, in a file of their own."""
    hashes = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(len(keys), -1)
    file = make_folder(folder) / f"{hashlib.sha256(b''.join(keys)).hexdigest()}.safetensors"
    write_whole(file, safetensors.torch.save({"keys": hashes, "embeddings": rows.contiguous()}))


def _cache_folder() -> Path:
    return Path(os.environ.get("DROPMAX_CACHE") or "~/.cache/dropmax").expanduser()
