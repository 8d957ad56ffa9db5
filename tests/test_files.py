"""Files are written whole or not at all, lines are read without a change to them, and texts are
UTF-8 on every system."""

import ast
import builtins
import errno
import io
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import dropmax
from dropmax import DropMaxClassifier
from dropmax._files import make_folder, write_whole
from dropmax.compare import append_line, read_lines
from dropmax.errors import DropmaxOSError
from dropmax.report.figures import save
from dropmax.training import RunConfig, load_run, train
from dropmax.training.callbacks import WholeCheckpoints

LINES = [{"seed": 0}, {"seed": 1}]
FULL = OSError(errno.ENOSPC, "No space left on device")


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "weights"
    write_whole(file, b"good")

    def full(_):
        raise FULL

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DropmaxOSError, match=f"disk full at {file}"):
        write_whole(file, b"bad")
    assert file.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [file]


def test_a_run_that_was_killed_before_it_was_described_goes_on(tmp_path):
    (tmp_path / "run.json.partial").write_text('{"config": {')
    train(RunConfig("digits", "softmax", train_per_class=2, epochs=1), tmp_path)
    assert load_run(tmp_path).metrics["epochs"] == 1
    assert not (tmp_path / "run.json.partial").exists()


class Half:
    """A file on a disk that is full once half of what is written at first is on it."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, data):
        self.stream.write(data[: len(data) // 2])
        self.stream.flush()
        raise FULL

    def fileno(self):
        raise io.UnsupportedOperation  # so that Pillow writes by `write`, too

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def __getattr__(self, name):
        return getattr(self.stream, name)


@contextmanager
def full(folder):
    """Within, the disk of a folder is full."""

    def opened(file, mode="r", *arguments, **options):
        stream = right(file, mode, *arguments, **options)
        here = isinstance(file, str | Path) and Path(file).is_relative_to(folder)
        return Half(stream) if here and set(mode) & set("wax+") else stream

    right = io.open
    with pytest.MonkeyPatch.context() as patch:
        for place in (io, builtins):
            patch.setattr(place, "open", opened)
        yield


def checkpoint(file, seed):
    WholeCheckpoints().save_checkpoint({"weights": torch.full((50,), seed)}, file)


def exported(file, seed):
    torch.manual_seed(seed)
    dropmax.export_onnx(dropmax.make_head("softmax", 4, 3), torch.randn(2, 4), file)


def fitted(file, seed):
    rows = np.random.default_rng(seed).normal(size=(12, 3))
    DropMaxClassifier(max_iter=1, random_state=seed).fit(rows, np.arange(12) % 2).save(file)


def drawn(file, seed):
    figure = Figure(figsize=(1.0, 1.0))
    figure.add_subplot().plot([0, seed + 1])
    save({file.stem: figure}, file.parent, [file.suffix[1:]])


WRITERS = {
    "text": ("table.md", lambda file, seed: write_whole(file, f"{seed} " * 50)),
    "weights": ("model.safetensors", lambda file, seed: write_whole(file, bytes([seed] * 99))),
    "checkpoint": ("resume.ckpt", checkpoint),
    "ONNX": ("model.onnx", exported),
    "classifier": ("classifier.safetensors", fitted),
    "PNG": ("figure.png", drawn),
    "SVG": ("figure.svg", drawn),
    "line": ("results.jsonl", lambda file, seed: append_line(file, {"seed": seed})),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_fills_up_while_a_file_is_written_leaves_the_good_one(kind, tmp_path):
    name, write = WRITERS[kind]
    file = tmp_path / name
    write(file, 0)
    good = file.read_bytes()
    with full(tmp_path), pytest.raises(DropmaxOSError, match=f"disk full at {file}"):
        write(file, 1)
    if kind == "line":  # of the new one a part may stand there, which nobody reads
        assert file.read_bytes().startswith(good)
        assert read_lines(file) == [{"seed": 0}]
    else:
        assert file.read_bytes() == good
    assert list(tmp_path.iterdir()) == [file]
    write(file, 1)
    assert file.read_bytes() != good
    if kind == "line":
        assert read_lines(file) == LINES


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_line_of_which_a_part_fits_is_no_line(tmp_path):
    """The system takes what fits, says so, and raises at the next write alone."""
    import resource

    file = tmp_path / "results.jsonl"
    append_line(file, LINES[0])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 5, limits[1]))
    try:
        with pytest.raises(DropmaxOSError, match=str(file)):
            append_line(file, LINES[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_lines(file) == LINES[:1]
    append_line(file, LINES[1])
    assert read_lines(file) == LINES


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DropmaxOSError, match=str(tmp_path / "file")):
        make_folder(tmp_path / "file" / "folder")


def test_a_full_disk_leaves_the_last_state_to_go_on_from(tmp_path, monkeypatch):
    """The state of the third epoch does not fit; with room again the run ends as it should."""
    config = RunConfig("digits", "dropmax", train_per_class=5, epochs=4)
    whole = train(config, tmp_path / "whole", progress=False)
    keep, synced = os.fsync, []

    def until_full(descriptor):
        synced.append(descriptor)
        if len(synced) == 4:  # the settings, the first two states, the third
            raise FULL
        keep(descriptor)

    out = tmp_path / "full"
    monkeypatch.setattr(os, "fsync", until_full)
    with pytest.raises(DropmaxOSError, match=r"disk full at .*resume\.ckpt"):
        train(config, out, progress=False)
    monkeypatch.setattr(os, "fsync", keep)
    assert torch.load(out / "resume.ckpt", weights_only=True)["epoch"] == 1
    again = train(config, out, progress=False)
    assert [row["weighted"] for row in again.history] == [row["weighted"] for row in whole.history]
    assert load_run(out).metrics["test"] == whole.metrics["test"]


def test_reading_lines_leaves_a_file_that_is_being_written(tmp_path):
    """A reader comes when half of a line is written: the other half still lands in the file."""
    file = tmp_path / "results.jsonl"
    append_line(file, LINES[0])
    with file.open("ab", buffering=0) as writer:
        writer.write(b'{"seed"')
        assert read_lines(file) == LINES[:1]
        writer.write(b": 1}\n")
    assert read_lines(file) == LINES


READ = "import sys; from pathlib import Path; from dropmax.compare import read_lines; "


def test_many_readers_beside_a_writer_lose_no_line(tmp_path):
    file = tmp_path / "results.jsonl"
    loop = READ + "[read_lines(Path(sys.argv[1])) for _ in iter(lambda: sys.stdin.read(1), '')]"
    readers = [
        subprocess.Popen([sys.executable, "-c", loop, file], stdin=subprocess.PIPE)
        for _ in range(2)
    ]
    for seed in range(200):
        append_line(file, {"seed": seed, "filler": "x" * 5000})
        for reader in readers:
            reader.stdin.write(b".")
            reader.stdin.flush()
    for reader in readers:
        reader.stdin.close()
        assert reader.wait() == 0
    assert [line["seed"] for line in read_lines(file)] == list(range(200))


def test_a_new_line_takes_the_place_of_one_that_was_cut_off(tmp_path):
    file = tmp_path / "results.jsonl"
    append_line(file, LINES[0])
    with file.open("ab") as cut:
        cut.write(b'{"seed": 1, "te')
    before = file.read_bytes()
    assert read_lines(file) == LINES[:1]
    assert file.read_bytes() == before
    append_line(file, LINES[1])
    assert read_lines(file) == LINES


ROOT = Path(__file__).parent.parent
SOURCES = [*(ROOT / "src").rglob("*.py"), *(ROOT / "studies").glob("*.py")]


@pytest.mark.parametrize("path", sorted(SOURCES), ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_are_read_and_written_in_an_encoding_that_is_named(path):
    """Where none is named, Windows takes its own."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and is_of_text(node):
            assert "encoding=" in ast.unparse(node)


def is_of_text(call):
    """Whether a call opens a text: not a picture, a descriptor, or a stream of bytes."""
    name = ast.unparse(call.func)
    opens = name.rpartition(".")[2] == "open" and name not in ("Image.open", "os.open")
    is_binary = "b'" in ast.unparse(call)  # 'rb', 'a+b'
    return name.endswith((".read_text", ".write_text")) or (opens and not is_binary)
