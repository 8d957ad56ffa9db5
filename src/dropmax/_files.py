"""A file is written whole or not at all."""

from pathlib import Path


def write_whole(file: Path, data: str | bytes) -> None:
    """Write a file whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(data.encode() if isinstance(data, str) else data)
    partial.replace(file)
