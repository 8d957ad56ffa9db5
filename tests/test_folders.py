"""Folders as people have them: the split and the class of each picture, and what is left out."""

import os
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from raised import raises

from dropmax.data import DataWarning, load_data
from dropmax.errors import DropmaxError

WORDS = {"train": "train", "test": "test", "val": "validation", "valid": "validation"}
WORDS["validation"] = "validation"
TOPS = ("cat", "dog", "a [1]", "test?", "train", "Test", "VAL", "validation", ".old", "__MACOSX")
CLASSES = ("cat", "dog", "train", "10", "9")
FILES = (
    "1.png",
    "2.PNG",
    "train_3.png",
    "test.jpg",
    "b*.png",
    ".hidden.png",
    "notes.txt",
    "broken.png",
)


def save(file, content=0):
    """A picture of its content, or what the name says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if "broken" in file.name or file.suffix == ".txt":
        file.write_bytes(b"no picture")
    else:
        pixels = np.random.default_rng(content).integers(0, 256, (4, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")


def fill(folder, count, start=0):
    for n in range(start, start + count):
        save(folder / f"{n}.png", n)
    return folder


def load(folder, **options):
    """The data set, and what was warned of."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        data = load_data(str(folder), **options)
    return data, [str(one.message) for one in warned]


def counts(data):
    """By split how many instances each class has."""
    return {
        split: dict(Counter(data.class_names[k] for k in getattr(data, split).target.tolist()))
        for split in ("train", "validation", "test")
    }


def expected(folder):
    """By split and class the pictures of a tree, by a walk that shares no code; None if refused."""
    found, tops = [], set()
    for place, _, names in os.walk(folder):
        for name in names:
            parts = Path(place, name).relative_to(folder).parts
            passed = any(part.startswith(".") or part == "__MACOSX" for part in parts)
            if not passed and name.lower().endswith((".png", ".jpg")):
                found.append(parts)
                tops |= set(parts[:-1][:1])
    splits = bool(tops) and all(top.lower() in WORDS for top in tops)
    roles = [WORDS[top.lower()] for top in tops] if splits else []
    classes = {}
    for parts in found:
        split, *inner = (
            (WORDS[parts[0].lower()], *parts[1:]) if splits and parts[1:] else ("train", *parts)
        )
        if len(inner) > 1:
            classes.setdefault((split, inner[0]), []).append(inner)
    shallow = all(any(len(file) == 2 for file in files) for files in classes.values())
    train = [name for split, name in classes if split == "train"]
    if len(set(roles)) < len(roles) or not shallow or len(train) < 2:
        return None
    return {key: len(files) for key, files in classes.items()}


trees = st.lists(
    st.tuples(
        st.sampled_from(TOPS),
        st.sampled_from((*CLASSES, "")),
        st.sampled_from(("", "", "deeper")),
        st.sampled_from(FILES),
        st.integers(0, 6),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(trees, st.booleans())
def test_loaded_and_left_out_are_the_files_there_and_no_picture_is_on_two_sides(tree, only_splits):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "data [v1]")
        folder.mkdir()
        for top, name, deeper, file, content in tree:
            if only_splits and top.lower() not in WORDS:
                continue
            save(folder.joinpath(top, name, deeper, file), content)
        there = [path for path in folder.rglob("*") if path.is_file()]
        classes = expected(folder)
        try:
            data, warned = load(folder)
        except DropmaxError:
            known = {name for split, name in classes or () if split == "train"}
            judged = {split: set() for split, _ in classes or ()}
            for split, name in classes or ():
                judged[split] |= {name} & known
            broken = any(path.name == "broken.png" for path in there)
            assert classes is None or broken or not all(judged.values())
            return
        assert classes is not None
        drawn = data.origin.get("test") != data.origin["train"]
        notes = [*data.train.notes, *data.validation.notes, *(() if drawn else data.test.notes)]
        loaded = len(data.train) + len(data.validation) + len(data.test)
        left_out = [name for name in data.unused if not name.endswith("/")]
        assert loaded + len(notes) + len(left_out) == len(there)
        assert bool(data.unused) == any("left out: " in message for message in warned)
        found = Counter()
        for split, named in counts(data).items():
            for name, count in named.items():
                found["train" if drawn and split == "test" else split, name] += count
        assert sum(found.values()) == sum(classes.values()) - len(notes)
        assert all(classes[key] >= count for key, count in found.items())
        if drawn:
            assert not set(data.train.keys) & set(data.test.keys)


@pytest.mark.parametrize("names", [("bus", "car", "train"), ("control", "test"), ("dev", "prod")])
def test_words_of_splits_are_names_of_classes_beside_others(names, tmp_path):
    for start, name in enumerate(names):
        fill(tmp_path / name, 10, start * 100)
    found = counts(load_data(str(tmp_path)))
    assert found["train"] == dict.fromkeys(names, 8)
    assert found["test"] == dict.fromkeys(names, 2)


def test_a_split_is_a_top_folder_of_that_name_in_any_case(tmp_path):
    for start, split in enumerate(("Train", "VALID", "test")):
        for other, name in enumerate(("cat", "dog")):
            fill(tmp_path / split / name, 8 - 2 * start, 100 * start + 10 * other)
    data = load_data(str(tmp_path))
    assert counts(data) == {
        split: {"cat": count, "dog": count}
        for split, count in (("train", 8), ("validation", 6), ("test", 4))
    }
    assert data.draw().validation is data.validation
    for rule in ({"validation_per_class": 1}, {"validation_fraction": 0.5}):
        with raises(ValueError, f"DataSet.draw: {next(iter(rule))}"):
            data.draw(**rule)


def test_links_are_followed_once_and_circles_not(tmp_path):
    fill(tmp_path / "elsewhere", 5)
    fill(tmp_path / "data" / "b", 5, 10)
    fill(tmp_path / "data" / "c", 5, 20)
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "aa").symlink_to(tmp_path / "data" / "b")
    (tmp_path / "data" / "c" / "circle").symlink_to(tmp_path)
    (tmp_path / "data" / "c" / "gone.png").symlink_to("nowhere")
    data, _ = load(tmp_path / "data")
    total = Counter()
    for found in counts(data).values():
        total += Counter(found)
    assert total == {"a": 5, "b": 5, "c": 5}
    assert {"aa", "c/gone.png"} <= set(data.unused)
    assert not any("elsewhere" in name for name in data.train.ids)


LAYOUTS = {
    "names beside": ("labels.csv", "{}.png", ""),
    "names in a folder": ("labels.csv", "images/{}.png", "images"),
    "stems": ("train.csv", "{}", "photos"),
    "names within their folder": ("train.csv", "{}.png", "train"),
    "numbers without zeros": ("labels.csv", "{:d}", "photos"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_table_beside_the_pictures_names_them_and_their_classes(layout, tmp_path):
    table, name, place = LAYOUTS[layout]
    fill(tmp_path / place, 12)
    rows = [f"{name.format(n)},{'xyz'[n % 3]},{n}" for n in range(9)]
    header = "picture,kind,weight"
    (tmp_path / table).write_text("\n".join([header, *rows, f"{name.format(99)},x,0"]))
    data, warned = load(tmp_path, label_column="kind")
    assert data.class_names == ("x", "y", "z")
    assert len(data.unused) == 3
    assert any("99" in message for message in warned)
    for part in (data.train, data.test):
        for file, k in zip(part.ids, part.target.tolist(), strict=True):
            assert int(Path(file).stem) % 3 == k


def test_the_only_other_column_holds_the_labels_and_unlabeled_pictures_are_left_out(tmp_path):
    fill(tmp_path / "train", 10)
    fill(tmp_path / "test", 4)
    (tmp_path / "train.csv").write_text(
        "\n".join(["id,species", *(f"{n},{'xy'[n % 2]}" for n in range(10))])
    )
    (tmp_path / "test.csv").write_text("\n".join(["id", *map(str, range(4))]))
    (tmp_path / "sample.csv").write_text("\n".join(["id,species", *(f"{n},x" for n in range(4))]))
    data, warned = load(tmp_path)
    assert counts(data)["train"] == {"x": 4, "y": 4}
    assert (len(data.train), len(data.test)) == (8, 2)
    assert len(data.unused) == 1 + 4
    assert len(warned) == 2


@pytest.mark.parametrize("index", ["", "n"])
def test_a_column_of_names_counts_before_one_that_numbers_the_rows(index, tmp_path):
    for n in range(12):
        save(tmp_path / f"{n:04}.png", n)
    rows = [f"{n},{11 - n:04}.png,{'xy'[(11 - n) % 2]}" for n in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join([f"{index},file,label", *rows]))
    data, _ = load(tmp_path)
    for part in (data.train, data.test):
        for file, k in zip(part.ids, part.target.tolist(), strict=True):
            assert int(Path(file).stem) % 2 == k


def test_a_number_names_the_picture_of_that_name_before_one_with_zeros(tmp_path):
    for n, name in enumerate(("7", "007", "08", "9")):
        save(tmp_path / f"{name}.png", n)
    (tmp_path / "labels.csv").write_text("id,label\n7,x\n007,y\n8,x\n9,y\n")
    data, _ = load(tmp_path)
    found = {
        Path(file).stem: data.class_names[k]
        for part in (data.train, data.test)
        for file, k in zip(part.ids, part.target.tolist(), strict=True)
    }
    assert found == {"7": "x", "007": "y", "08": "x", "9": "y"}


def names_of(data):
    """The classes of the pictures of each split, by their names."""
    return {
        split: {
            Path(file).stem: data.class_names[k]
            for file, k in zip(part.ids, part.target.tolist(), strict=True)
        }
        for split in ("train", "validation", "test")
        if (part := getattr(data, split))
    }


@pytest.mark.parametrize("table", ["labels.csv", "train_labels.csv"])
def test_a_competition_with_its_example_of_a_submission(table, tmp_path):
    """Names without ends, fewer pictures to train on than there are, and dummy labels of others."""
    for n in range(8):
        save(tmp_path / "train" / f"a{n}.png", n)
    for n in range(9):
        save(tmp_path / "test" / f"b{n}.png", 20 + n)
    rows = [f"a{n},{'xy'[n % 2]}" for n in range(8)]
    (tmp_path / table).write_text("\n".join(["id,breed", *rows]))
    rows = [f"b{n},x" for n in range(9)]
    (tmp_path / "sample_submission.csv").write_text("\n".join(["id,breed", *rows]))
    data, warned = load(tmp_path, label_column="breed")
    found = names_of(data)
    assert {**found["train"], **found["test"]} == {f"a{n}": "xy"[n % 2] for n in range(8)}
    assert any("sample_submission.csv" in message for message in warned)


@pytest.mark.parametrize("name", ["p{}", "{}", "{:03}", "p{}.png"])
def test_tables_of_splits_name_flat_pictures(name, tmp_path):
    for n in range(16):
        save(tmp_path / "pictures" / f"{name.format(n).removesuffix('.png')}.png", n)
    for split, numbers in (("train", range(8)), ("val", range(8, 10)), ("test", range(10, 16))):
        rows = [f"{name.format(n)},{'xy'[n % 2]}" for n in numbers]
        (tmp_path / f"{split}.csv").write_text("\n".join(["id,label", *rows]))
    found = names_of(load(tmp_path)[0])
    assert [len(found[split]) for split in ("train", "validation", "test")] == [8, 2, 6]
    assert {**found["train"], **found["validation"], **found["test"]} == {
        name.format(n).removesuffix(".png"): "xy"[n % 2] for n in range(16)
    }


NUMBERED = {
    "a float beside it": "id,price,label\n{n},{other}.25,{k}",
    "ages": "id,age,label\n{n},{half}.0,{k}",
    "float labels": "id,label\n{n},{bit}.0",
    "a saved index": ",image_id,label\n{other},{n},{k}",
    "float numbers": "id,label\n{n}.0,{k}",
    "a path of another machine": "path,label\n/kaggle/input/imgs/{n}.png,{k}",
}


@pytest.mark.parametrize("case", NUMBERED)
@pytest.mark.parametrize("table", ["train.csv", "labels.csv"])
def test_no_other_column_of_numbers_names_the_pictures(case, table, tmp_path):
    for n in range(20):
        save(tmp_path / "imgs" / f"{n}.png", n)
    header, row = NUMBERED[case].split("\n")
    rows = [
        row.format(n=n, other=(7 * n + 1) % 20, half=n // 2, k="xy"[n % 2], bit=n % 2)
        for n in range(20)
    ]
    (tmp_path / table).write_text("\n".join([header, *rows]))
    found = names_of(load(tmp_path)[0])
    classes = "01" if case == "float labels" else "xy"
    assert {**found["train"], **found["test"]} == {str(n): classes[n % 2] for n in range(20)}


def test_two_columns_that_name_other_pictures_are_refused(tmp_path):
    for n in range(20):
        save(tmp_path / f"{n}.png", n)
    rows = [f"{n},{(7 * n + 1) % 20},{'xy'[n % 2]}" for n in range(20)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,code,label", *rows]))
    with raises(ValueError, "load_data: source"):
        load(tmp_path)


def test_names_that_many_pictures_have_are_refused_and_few_are_left_out(tmp_path):
    for n in range(20):
        save(tmp_path / "train_images" / f"{n}.png", n)
    save(tmp_path / "test_images" / "3.png", 100)
    rows = [f"{n},{'xy'[n % 2]}" for n in range(20)]
    (tmp_path / "train.csv").write_text("\n".join(["id,label", *rows]))
    data, warned = load(tmp_path)
    assert len(data.train) + len(data.test) == 19
    assert any("2 pictures are called '3'" in message for message in warned)
    for n in range(10):
        save(tmp_path / "test_images" / f"{n}.png", 100 + n)
    with raises(ValueError, "load_data: source"):
        load(tmp_path)


@pytest.mark.parametrize("labeled", [True, False])
def test_a_table_of_the_test_pictures_is_none_to_train_on(labeled, tmp_path):
    for start, name in enumerate(("cat", "dog")):
        fill(tmp_path / "train" / name, 8, 100 * start)
    fill(tmp_path / "test", 6, 500)
    rows = [f"{n},{('cat', 'dog')[n % 2]}" if labeled else str(n) for n in range(6)]
    (tmp_path / "test.csv").write_text("\n".join(["id,label" if labeled else "id", *rows]))
    data, warned = load(tmp_path)
    assert len(data.train) + len(data.test) == 16
    assert all("/train/" in file for file in data.train.ids + data.test.ids)
    assert any("test.csv" in message for message in warned)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("deep", ["", "cat/"])
def test_one_table_of_pictures_in_folders_of_splits_moves_none(labeled, deep, tmp_path):
    rows = []
    for start, split in ((0, "train"), (100, "test")):
        for n in range(start, start + 8):
            save(tmp_path / split / deep / f"{n}.png", n)
            label = "xy"[n % 2] if labeled or split == "train" else ""
            rows.append(f"{split}/{deep}{n}.png,{label}")
    (tmp_path / "all.csv").write_text("\n".join(["file,label", *rows]))
    data, warned = load(tmp_path)
    found = names_of(data)
    if labeled:
        assert set(found["train"]) == {str(n) for n in range(8)}
        assert set(found["test"]) == {str(n) for n in range(100, 108)}
    else:
        assert {*found["train"], *found["test"]} == {str(n) for n in range(8)}
        assert any("test has no label" in message for message in warned)


@pytest.mark.parametrize("target", ["..", "../.."])
def test_a_link_to_a_folder_around_the_data_is_not_followed(target, tmp_path):
    fill(tmp_path / "private", 3, 50)
    for start, name in enumerate(("cat", "dog")):
        fill(tmp_path / "data" / name, 5, 10 * start)
    (tmp_path / "data" / "cat" / "up").symlink_to(target, target_is_directory=True)
    data, warned = load(tmp_path / "data")
    assert len(data.train) + len(data.test) == 10
    assert any("cat/up" in message for message in warned)


def test_a_table_that_names_no_picture_is_left_out(tmp_path):
    for start, name in enumerate("ab"):
        fill(tmp_path / name, 5, 10 * start)
    (tmp_path / "results.csv").write_text("head,error\nsoftmax,1\ndropmax,2\n")
    with pytest.warns(DataWarning, match=r"left out: 1 \(results\.csv\)"):
        assert load_data(str(tmp_path)).class_names == ("a", "b")


@pytest.mark.parametrize("others", [("cat", "dog"), ("cat",), ("ant", "cat", "dog")])
def test_the_classes_are_those_of_train_whatever_test_holds(others, tmp_path):
    for start, name in enumerate(("cat", "dog", "fox")):
        fill(tmp_path / "train" / name, 4, 10 * start)
    for start, name in enumerate(others):
        fill(tmp_path / "test" / name, 2, 100 + 10 * start)
    data, warned = load(tmp_path)
    assert data.class_names == ("cat", "dog", "fox")
    assert counts(data)["train"] == {"cat": 4, "dog": 4, "fox": 4}
    assert counts(data)["test"] == {name: 2 for name in others if name != "ant"}
    assert len(warned) == ("ant" in others)


def test_a_table_beside_folders_of_classes_counts_if_it_has_the_labels(tmp_path):
    for start, name in enumerate(("cat", "dog")):
        fill(tmp_path / name, 5, 10 * start)
    files = [
        f"{name}/{n}.png"
        for start, name in ((0, "cat"), (10, "dog"))
        for n in range(start, start + 5)
    ]
    table = tmp_path / "meta.csv"
    table.write_text(
        "\n".join(["file,taken by", *(f"{f},{'xy'[n % 2]}" for n, f in enumerate(files))])
    )
    data, warned = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.unused == ("meta.csv",)
    assert load(tmp_path, label_column="taken by")[0].class_names == ("x", "y")
    table.write_text(table.read_text().replace("taken by", "label"))
    data, warned = load(tmp_path)
    assert data.class_names == ("x", "y")
    assert len(warned) == 1


NAMES = (
    "./images/{}.png",
    ".\\images\\{}.png",
    "/data/me/images/{}.png",
    "{}.PNG",
    "{}.jpg",
    " {}.png ",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("times", [1, 3])
def test_pictures_are_named_in_many_ways_and_more_than_once(name, times, tmp_path):
    fill(tmp_path / "images", 10)
    rows = [f"{name.format(n)},{'xy'[n % 2]}" for n in range(10)] * times
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *rows]))
    data, _ = load(tmp_path)
    assert len(data.train) + len(data.test) == 10 * times
    assert data.unused == ()


REFUSED = {
    "a class deeper": lambda folder: [fill(folder / "cat", 3), fill(folder / "animals" / "dog", 3)],
    "all classes deeper": lambda folder: [
        fill(folder / "data" / name, 3, start) for start, name in enumerate("ab")
    ],
    "one class": lambda folder: fill(folder / "cat", 3),
    "pictures alone": lambda folder: fill(folder, 3),
    "splits without classes": lambda folder: [fill(folder / "train", 3), fill(folder / "test", 3)],
    "two folders of a split": lambda folder: [
        fill(folder / split / name, 3) for split in ("train", "val", "valid") for name in "ab"
    ],
    "no training split": lambda folder: [
        fill(folder / split / name, 3) for split in ("test", "val") for name in "ab"
    ],
    "splits beside another folder": lambda folder: [
        fill(folder / split / name, 3) for split in ("train", "test", "extra") for name in "ab"
    ],
    "labels in a text file": lambda folder: [
        fill(folder, 4),
        (folder / "labels.txt").write_text("0.png x\n1.png y\n"),
    ],
    "two tables": lambda folder: [
        fill(folder, 4),
        *((folder / f"{name}.csv").write_text("id,label\n0,x\n1,y\n2,x\n3,y\n") for name in "ab"),
    ],
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("case", REFUSED)
def test_other_layouts_are_refused(case, tmp_path):
    REFUSED[case](tmp_path)
    with raises(ValueError, "load_data: source") as raised:
        load_data(str(tmp_path))
    cause = {"splits beside another folder": "extra", "labels in a text file": "labels.txt"}
    assert cause.get(case, "") in str(raised.value)


@pytest.mark.parametrize("name", ["data[1].parquet", "data [v2].csv", "data?.csv", "d*.parquet"])
def test_brackets_and_stars_are_characters_of_a_path(name, tmp_path):
    for file, classes in ((tmp_path / "data1.csv", "ab"), (tmp_path / name, "cd")):
        frame = pandas.DataFrame({"x": [0.5, 1.5, 2.5, 3.5] * 5, "label": list(classes) * 10})
        write = frame.to_csv if file.suffix == ".csv" else frame.to_parquet
        write(file, index=False)
    assert load_data(str(tmp_path / name)).class_names == ("c", "d")


def test_a_name_that_is_not_in_utf8_is_named(tmp_path):
    for label in (b"caf\xe9", b"tea"):
        fill(tmp_path / os.fsdecode(label), 3)
    with raises(ValueError, "load_data: source") as raised:
        load_data(str(tmp_path))
    assert r"caf\xe9" in str(raised.value)
