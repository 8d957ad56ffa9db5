"""The command that takes small parts out of CIFAR-100 and CIFAR-10, on a made-up CIFAR-100."""

import importlib.util
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from dropmax.data import load_data

SHARED = Path(__file__).parents[2] / "shared" / "data"
SCRIPT = Path(__file__).parents[1] / "studies" / "cifar.py"
LIST = "cifar100-small.sha256"
NAMES = ("apple", "bee", "crab", "cup", "wolf")


def pixels(n):
    return np.random.default_rng(n).integers(0, 256, (8, 6, 3), dtype=np.uint8)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The script with a list of 12 images to train and 6 to test on, of apples, bees and crabs."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lines = []
    for n in (11, 3, 7, 0, 1, 2, 4, 5, 6, 8, 9, 10, *range(12, 18)):
        digest = module.hashlib.sha256(pixels(n).tobytes()).hexdigest()[:16]
        lines.append(f"{'train' if n < 12 else 'test'} {NAMES[n % 3]} {digest}\n")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    (tmp_path / LIST).write_text("".join(lines))
    return module


def hub(path, without=()):
    """A folder like the hub's: those images and others, shuffled and in either split.

    Image 50 has the pixels of image 3, an apple, but is labeled as a wolf; and the hub misspells
    the crab.
    """
    names = [{"crab": "cra"}.get(name, name) for name in NAMES]
    features = datasets.Features(
        img=datasets.Image(),
        fine_label=datasets.ClassLabel(names=names),
        coarse_label=datasets.ClassLabel(names=["food", "animals"]),
    )
    numbers = [n for n in np.random.default_rng(0).permutation(51).tolist() if n not in without]
    for split, some in (("train", numbers[:30]), ("test", numbers[30:])):
        columns = {
            "img": [Image.fromarray(pixels(3 if n == 50 else n)) for n in some],
            "fine_label": [n % 3 if n < 18 else 3 + n % 2 for n in some],
            "coarse_label": [n % 2 for n in some],
        }
        path.mkdir(exist_ok=True)
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(str(path / f"{split}-00000-of-00001.parquet"))
    return path


@pytest.mark.parametrize(
    ("name", "num_classes", "train", "test"),
    [("cifar100-small", 100, 100, 50), ("cifar10-small", 10, 500, 500)],
)
def test_the_list_has_the_images_of_each_class(name, num_classes, train, test):
    text = SCRIPT.with_name(f"{name}.sha256").read_text()
    lines = [line.split() for line in text.splitlines()]
    counts = Counter((split, label) for split, label, _ in lines)
    assert Counter(counts.values()) == Counter(num_classes * [train] + num_classes * [test])
    assert all(
        count == {"train": train, "test": test}[split] for (split, _), count in counts.items()
    )
    assert {len(digest) for _, _, digest in lines} == {16}
    assert len({tuple(line) for line in lines}) == len(lines)


def test_listed_images_are_found_wherever_they_are_and_stand_in_the_order_of_the_list(
    module, tmp_path
):
    source, out = hub(tmp_path / "hub"), tmp_path / "new" / "small"
    assert module.main(["cifar100-small", "--out", str(out), "--source", str(source)]) == 0
    data = load_data(str(out))
    assert data.class_names == NAMES[:3]
    order = (11, 3, 7, 0, 1, 2, 4, 5, 6, 8, 9, 10)
    for split, numbers in ((data.train, order), (data.test, range(12, 18))):
        assert split.target.tolist() == [n % 3 for n in numbers]
        expected = np.stack([pixels(n).transpose(2, 0, 1) for n in numbers])
        assert np.array_equal(split.inputs.numpy(), expected)
    assert module.main(["cifar100-small", "--verify", str(out)]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["small"]


@pytest.mark.usefixtures("untyped")
def test_missing_images_are_counted_and_nothing_is_left(module, tmp_path, capsys):
    source, out = hub(tmp_path / "hub", without=(3, 14)), tmp_path / "small"
    assert module.main(["cifar100-small", "--out", str(out), "--source", str(source)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "must hold the 18 listed images, got 2 missing, the first apple " in error
    assert sorted(path.name for path in tmp_path.iterdir()) == [LIST, "hub"]


def test_a_failure_while_writing_leaves_nothing(module, tmp_path, capsys, monkeypatch):
    source, out = hub(tmp_path / "hub"), tmp_path / "small"
    whole = datasets.Dataset.to_parquet

    def full(table, path):
        if "test" in Path(path).name:
            raise OSError(28, "No space left on device")
        return whole(table, path)

    monkeypatch.setattr(datasets.Dataset, "to_parquet", full)
    assert module.main(["cifar100-small", "--out", str(out), "--source", str(source)]) == 2
    assert "No space left" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [LIST, "hub"]


@pytest.mark.usefixtures("untyped")
def test_a_folder_that_is_there_is_left_alone(module, tmp_path, capsys):
    (tmp_path / "small").mkdir()
    assert (
        module.main(["cifar100-small", "--out", str(tmp_path / "small"), "--source", "unused"]) == 2
    )
    assert "--out must not exist yet" in capsys.readouterr().err
    assert not list((tmp_path / "small").iterdir())


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [lines[1], lines[0], *lines[2:]], "them, but rows or classes in another"),
        (lambda lines: [*lines[:-1], "test bee 0123456789abcdef"], "1 missing and 1 others"),
        (lambda lines: lines[:-1], "0 missing and 1 others"),
        (lambda lines: ["train cup" + lines[0][-17:], *lines[1:]], "1 missing and 1 others"),
    ],
)
def test_a_folder_that_differs_is_told_from_the_list(change, message, module, tmp_path, capsys):
    source, out = hub(tmp_path / "hub"), tmp_path / "small"
    assert module.main(["cifar100-small", "--out", str(out), "--source", str(source)]) == 0
    listed = tmp_path / LIST
    listed.write_text("\n".join(change(listed.read_text().splitlines())))
    assert module.main(["cifar100-small", "--verify", str(out)]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("untyped")
def test_a_part_that_is_not_on_the_hub_needs_a_source(module, tmp_path, capsys):
    assert module.main(["cifar10-small", "--out", str(tmp_path / "small")]) == 2
    assert "--source must be named for cifar10-small" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cifar100-small", "cifar10-small"])
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data sets at {SHARED}")
def test_the_images_of_the_experiments_are_those_of_the_list(name, module, monkeypatch):
    monkeypatch.setattr(module, "FOLDER", SCRIPT.parent)
    assert module.main([name, "--verify", str(SHARED / name)]) == 0
