"""Data sets: columns, splits, draws, and what is said of those that do not fit."""

import json
from itertools import pairwise
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from raised import raises

from dropmax.data import BrokenRows, load_data, tables
from dropmax.data.corruption import CORRUPTIONS, corrupted

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data sets at {SHARED}")


def picture(n, size=(6, 5), mode="L"):
    """A picture of noise that differs for every n."""
    pixels = np.random.default_rng(n).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def rows(count=24, *, names=("ant", "bee", "cow"), start=0, **options):
    """A table of pictures with labels in turn."""
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))
    columns = {
        "image": [picture(start + n, **options) for n in range(count)],
        "label": [n % len(names) for n in range(count)],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def folder(path, **splits):
    """A folder with a parquet file for each split."""
    path.mkdir(parents=True, exist_ok=True)
    for name, table in splits.items():
        table.to_parquet(str(path / f"{name}-00000-of-00001.parquet"))
    return str(path)


def test_digits_are_whole_and_without_network():
    digits = load_data("digits", split="half")
    assert digits.shape == (1, 8, 8)
    assert digits.class_names == tuple("0123456789")
    assert len(digits.train.target) + len(digits.test.target) == 1797
    assert digits.train.inputs.dtype == torch.uint8
    assert (digits.train.inputs.amin(), digits.train.inputs.amax()) == (0, 255)
    assert digits.train.target.bincount().min() >= 87
    assert digits.test.target.bincount().min() >= 87


def test_a_folder_keeps_its_splits_its_pixels_and_its_names(tmp_path):
    path = folder(tmp_path, train=rows(), test=rows(9, start=100))
    data = load_data(path)
    assert data.class_names == ("ant", "bee", "cow")
    assert data.shape == (1, 5, 6)
    assert data.train.target.tolist() == [0, 1, 2] * 8
    assert data.test.target.tolist() == [0, 1, 2] * 3
    assert np.array_equal(data.train.inputs[7, 0].numpy(), np.asarray(picture(7)))
    assert np.array_equal(data.test.inputs[2, 0].numpy(), np.asarray(picture(102)))


def test_the_folder_is_found_below_the_root(tmp_path, monkeypatch):
    folder(tmp_path / "animals", train=rows(), test=rows(9))
    assert load_data("animals", root=tmp_path).name == "animals"
    monkeypatch.setenv("DROPMAX_DATA", str(tmp_path))
    assert len(load_data("animals").train.target) == 24


def test_colors_are_kept_and_a_single_colored_image_makes_all_of_them_so(tmp_path):
    path = folder(tmp_path / "a", train=rows(mode="RGB"), test=rows(9))
    data = load_data(path)
    assert data.shape == (3, 5, 6)
    assert data.test.inputs.shape == (9, 3, 5, 6)
    expected = np.asarray(picture(3, mode="RGB")).transpose(2, 0, 1)
    assert np.array_equal(data.train.inputs[3].numpy(), expected)


def test_text_and_integer_labels_become_classes_in_order(tmp_path):
    for n, labels in enumerate((["pear", "fig"], [7, 3])):
        table = rows().remove_columns("label").add_column("kind", labels * 12)
        data = load_data(folder(tmp_path / str(n), train=table), label_column="kind")
        assert data.class_names == tuple(str(label) for label in sorted(labels))
        total = data.train.target.bincount() + data.test.target.bincount()
        assert total.tolist() == [12, 12]


def test_draws_are_stratified_disjoint_and_by_the_seed():
    digits = load_data("digits")
    first = digits.draw(train_per_class=5, validation_per_class=3, seed=1)
    assert first.train.target.bincount().tolist() == [5] * 10
    assert first.validation.target.bincount().tolist() == [3] * 10
    assert torch.equal(first.test.inputs, digits.test.inputs)
    seen = {image.numpy().tobytes() for image in first.train.inputs}
    assert not seen & {image.numpy().tobytes() for image in first.validation.inputs}
    again = digits.draw(train_per_class=5, validation_per_class=3, seed=1)
    other = digits.draw(train_per_class=5, validation_per_class=3, seed=2)
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    larger = digits.draw(train_per_class=20, validation_per_class=3, seed=1)
    assert seen <= {image.numpy().tobytes() for image in larger.train.inputs}
    rest = digits.draw(validation_per_class=3, seed=1)
    assert len(rest.train.target) == len(digits.train.target) - 30


def test_a_draw_depends_neither_on_the_order_nor_on_the_storage_of_the_rows(tmp_path):
    table = rows()
    parquet = load_data(folder(tmp_path / "a", train=table.shuffle(seed=3), test=rows(3)))
    for n, row in enumerate(table):
        place = tmp_path / "b" / "train" / ("ant", "bee", "cow")[row["label"]]
        place.mkdir(parents=True, exist_ok=True)
        row["image"].save(place / f"{n}.bmp")
    (tmp_path / "b" / "test").mkdir()
    for n, name in enumerate(("ant", "bee", "cow")):
        (tmp_path / "b" / "test" / name).mkdir()
        picture(n).save(tmp_path / "b" / "test" / name / "0.png")
    files = load_data(str(tmp_path / "b"))
    one, other = (
        data.draw(train_per_class=4, validation_per_class=2, seed=8) for data in (parquet, files)
    )
    assert torch.equal(one.train.inputs, other.train.inputs)
    assert torch.equal(one.train.target, other.train.target)
    assert torch.equal(one.validation.inputs, other.validation.inputs)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_data_set_keeps_all_but_its_pixels(name):
    digits = load_data("digits")
    harder = digits.corrupted(name, seed=2)
    assert harder.class_names == digits.class_names
    for old, new in ((digits.train, harder.train), (digits.test, harder.test)):
        assert torch.equal(new.target, old.target)
        assert torch.equal(new.inputs, corrupted(old.inputs, name, seed=2))


def test_some_classes_are_numbered_anew_and_are_among_those_of_more():
    digits = load_data("digits")
    taken = [digits.of_classes(count, seed=1) for count in range(2, 11)]
    for fewer, more in pairwise(taken):
        assert set(fewer.class_names) < set(more.class_names)
    some = taken[3]
    assert list(some.class_names) == sorted(some.class_names)
    for split, whole in ((some.train, digits.train), (some.test, digits.test)):
        for index, name in enumerate(some.class_names):
            rows = whole.target == digits.class_names.index(name)
            assert torch.equal(split.inputs[split.target == index], whole.inputs[rows])
        assert split.target.unique().tolist() == list(range(5))
    assert torch.equal(taken[-1].train.inputs, digits.train.inputs)
    assert torch.equal(taken[-1].test.target, digits.test.target)
    assert len({digits.of_classes(5, seed=seed).class_names for seed in range(20)}) > 10


@needs_shared
@pytest.mark.parametrize(
    ("name", "shape", "train", "test", "classes"),
    [
        pytest.param("mnist", (1, 28, 28), 60_000, 10_000, 10, marks=pytest.mark.slow),
        ("cifar100-small", (3, 32, 32), 10_000, 5_000, 100),
    ],
)
def test_real_data_sets(name, shape, train, test, classes):
    data = load_data(name, root=SHARED)
    assert data.shape == shape
    assert (len(data.train.target), len(data.test.target)) == (train, test)
    assert len(data.class_names) == classes
    splits = data.draw(train_per_class=50, validation_per_class=50, seed=0)
    assert splits.train.target.bincount().tolist() == [50] * classes
    assert len(splits.validation.target) == 50 * classes


def broken(tmp_path):
    table = rows(4).cast_column("image", datasets.Image(decode=False))
    images = table["image"][:]
    images[2] = {"bytes": b"no picture", "path": None}
    table = datasets.Dataset.from_dict(
        {"image": images, "label": table["label"][:]}, features=rows(4).features
    )
    return folder(tmp_path, train=table)


def unlabeled(tmp_path, labels):
    columns = {"image": rows(len(labels))["image"][:], "label": labels}
    table = datasets.Dataset.from_dict(columns, features=rows(3).features)
    return folder(tmp_path, train=table)


def test_rows_without_a_readable_image_or_a_label_are_left_out(tmp_path):
    with pytest.warns(BrokenRows, match=r"1 of 4 .*: row 2 \(no picture of a format"):
        assert len(load_data(broken(tmp_path / "a")).train.target) == 2, (
            "and one row is for testing"
        )
    labels = [0, 1, None, 0, 1, 2, 2]
    with pytest.warns(BrokenRows, match=r"1 of 7 rows of train .*: row 2 \(no label\)"):
        data = load_data(unlabeled(tmp_path / "b", labels))
    assert len(data.train.target) + len(data.test.target) == 6


WRONG = {
    "no folder": (lambda _: "/no/where", {}, FileNotFoundError, "load_data: source"),
    "a file by a name that is misspelt": (
        lambda _: "clients.cvs",
        {},
        FileNotFoundError,
        "load_data: source",
    ),
    "neither folder nor hub": (lambda _: "some/thing", {}, OSError, "load_data: source"),
    "empty folder": (
        lambda tmp: folder(tmp / "empty"),
        {},
        FileNotFoundError,
        "load_data: source",
    ),
    "no name": (lambda _: "", {}, ValueError, "load_data: source"),
    "only a test split": (
        lambda tmp: folder(tmp, test=rows()),
        {},
        ValueError,
        "load_data: splits",
    ),
    "no image column": (
        lambda tmp: folder(tmp, train=rows().remove_columns("image")),
        {},
        ValueError,
        "load_data: columns",
    ),
    "no label column": (
        lambda tmp: folder(tmp, train=rows().remove_columns("label")),
        {},
        ValueError,
        "load_data: label_column",
    ),
    "two label columns": (
        lambda tmp: folder(
            tmp,
            train=rows(6).add_column(
                "other", [0, 1] * 3, feature=datasets.ClassLabel(names=["x", "y"])
            ),
        ),
        {},
        ValueError,
        "load_data: label_column",
    ),
    "unknown label column": (
        lambda tmp: folder(tmp, train=rows()),
        {"label_column": "labels"},
        ValueError,
        "load_data: label_column",
    ),
    "image column of labels": (
        lambda tmp: folder(tmp, train=rows()),
        {"image_column": "label"},
        ValueError,
        "load_data: column 'label'",
    ),
    "one class": (
        lambda tmp: folder(tmp, train=rows(names=("ant",))),
        {},
        ValueError,
        "load_data: labels",
    ),
    "size 0": (lambda _: "digits", {"size": 0}, ValueError, "load_data: size"),
    "half a size": (lambda _: "digits", {"size": 8.5}, TypeError, "load_data: size"),
    "a size of numbers": (
        lambda tmp: folder(tmp, train=rows().remove_columns("image").add_column("x", [1.0] * 24)),
        {"size": 8},
        ValueError,
        "load_data: source",
    ),
    "a size of texts": (
        lambda tmp: folder(tmp, train=rows().remove_columns("image").add_column("x", ["a"] * 24)),
        {"size": 8, "text_column": "x"},
        ValueError,
        "load_data: source",
    ),
    "no labels": (
        lambda tmp: unlabeled(tmp, [None] * 3),
        {},
        ValueError,
        "load_data: rows",
    ),
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(name, tmp_path):
    make, options, kind, where = WRONG[name]
    with raises(kind, where):
        load_data(make(tmp_path), **options)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "kind", "where"),
    [
        (
            {"train_per_class": 500},
            ValueError,
            "DataSet.draw: train_per_class + validation_per_class of digits",
        ),
        ({"train_per_class": 0}, ValueError, "DataSet.draw: train_per_class"),
        ({"validation_per_class": -1}, ValueError, "DataSet.draw: validation_per_class"),
        ({"seed": -1}, ValueError, "DataSet.draw: seed"),
    ],
)
def test_wrong_draws(options, kind, where):
    with raises(kind, where):
        load_data("digits").draw(**options)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("num_classes", "seed", "kind", "where"),
    [
        (11, 0, ValueError, "DataSet.of_classes: num_classes"),
        (1, 0, ValueError, "DataSet.of_classes: num_classes"),
        (2.0, 0, TypeError, "DataSet.of_classes: num_classes"),
        (5, -1, ValueError, "DataSet.of_classes: seed"),
    ],
)
def test_wrong_numbers_of_classes(num_classes, seed, kind, where):
    with raises(kind, where):
        load_data("digits").of_classes(num_classes, seed=seed)


@pytest.mark.usefixtures("untyped")
def test_colors_cannot_be_corrupted(tmp_path):
    data = load_data(folder(tmp_path, train=rows(mode="RGB"), test=rows(9, mode="RGB")))
    with raises(ValueError, "corrupted: images"):
        data.corrupted("background")


def test_an_instance_is_called_by_its_file_or_row_and_a_split_notes_what_is_left_out(tmp_path):
    (tmp_path / "ants").mkdir()
    (tmp_path / "bees").mkdir()
    for n in range(6):
        picture(n).save(tmp_path / ("ants" if n % 2 else "bees") / f"{n}.png")
    (tmp_path / "ants" / "broken.png").write_bytes(b"no picture")
    with pytest.warns(BrokenRows):
        data = load_data(str(tmp_path))
    names = sorted(Path(name).name for name in (*data.train.ids, *data.test.ids))
    assert names == [f"{n}.png" for n in range(6)]
    for split in (data.train, data.test):
        for n, name in enumerate(split.ids):
            pixels = np.asarray(picture(int(Path(name).stem)))
            assert np.array_equal(split.inputs[n, 0].numpy(), pixels)
        (note,) = split.notes
        assert note.startswith(f"{tmp_path / 'ants' / 'broken.png'}: ")
    drawn = data.draw(train_per_class=1).train
    assert set(drawn.ids) <= set(data.train.ids)


def test_a_row_keeps_its_number(tmp_path):
    file = tmp_path / "a.csv"
    rows = ["x,label", "1.5,a", "2,2,b", "3,a", "4,b", "5,b"]
    file.write_text("\n".join(rows))
    with pytest.warns(BrokenRows):
        data = load_data(str(file))
    rows_of = {
        name: json.loads(text)
        for split in (data.train, data.test)
        for name, text in zip(split.ids, split.texts, strict=True)
    }
    assert rows_of == {"0": [1.5], "2": [3.0], "3": [4.0], "4": [5.0]}
    assert data.train.notes == ("row 1: 3 fields in place of 2",)


@pytest.mark.parametrize("kind", ["images", "numbers"])
def test_nothing_is_loaded_twice(kind, tmp_path, monkeypatch):
    loaded = []
    keep = tables.read
    monkeypatch.setattr(tables, "read", lambda *a, **k: loaded.append(a) or keep(*a, **k))
    table = rows()
    if kind == "numbers":
        table = table.remove_columns("image").add_column("x", [n / 2 for n in range(len(table))])
    load_data(folder(tmp_path, train=table))
    assert len(loaded) == 1
