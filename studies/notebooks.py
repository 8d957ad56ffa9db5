"""The notebooks of examples/, executed anew: `python -m studies.notebooks` writes their outputs.

Files that are named after it take their place. A notebook keeps its cells, their outputs and the
name of its language, so that little changes in its file where little changed. Its kernel is this
Python.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from dropmax._files import write_whole

EXAMPLES = Path(__file__).parent.parent / "examples"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",
}
"""No network, and no progress bars, nor what tqdm says where it cannot draw them."""
SECONDS = 600
"""So long may a cell take."""


def notebook_files() -> list[Path]:
    """The notebooks, in the order of their names."""
    return sorted(EXAMPLES.glob("*.ipynb"))


def executed(file: Path) -> Any:
    """A notebook with the outputs of a new kernel, and no metadata of when and where.

    The kernel works in the notebook's folder and keeps nothing of its own: neither embeddings nor
    settings of IPython are those of the user.

    Raises:
        CellExecutionError: If a cell raises.
    """
    notebook = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    with TemporaryDirectory() as folder:
        manager = AsyncKernelManager(
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            connection_file=str(Path(folder, "kernel.json")),
            transport="ipc",
        )
        client = NotebookClient(
            notebook,
            manager,
            timeout=SECONDS,
            record_timing=False,
            resources={"metadata": {"path": str(file.parent)}},
        )
        own = {"DROPMAX_CACHE": folder, "IPYTHONDIR": folder}
        client.execute(cleanup_kc=True, env=os.environ | QUIET | own)
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def main() -> None:
    """Execute notebooks, and write each with its new outputs."""
    for file in map(Path, sys.argv[1:] or notebook_files()):
        print(file.name, flush=True)
        text = nbformat.writes(executed(file))  # type: ignore[no-untyped-call]
        write_whole(file, text + "\n")


if __name__ == "__main__":
    main()
