"""Tables and CSV files: columns, broken rows, gaps, predictions, and what does not fit."""

import csv
import json
import random
from pathlib import Path

import datasets
import pandas
import pytest
import torch
from raised import raises

from dropmax.cli import main
from dropmax.compare import RESULTS, read_lines, run_folder
from dropmax.data import BrokenRows, DataWarning, delimited, load_data
from dropmax.data import texts as text
from dropmax.training import RunConfig, data_for, describe_predictions, draw, load_run, train

NAMES = ("ant", "bee", "cow")
HEADER = ["legs", "wings", "mass", "label"]


def cells(count=60, seed=0):
    """Rows whose first number is near that of their class; the last one is of another scale."""
    rng = random.Random(seed)
    return [
        [n % 3 + rng.gauss(0, 0.1), rng.gauss(0, 1), 5e4 + 1e3 * rng.gauss(0, 1), NAMES[n % 3]]
        for n in range(count)
    ]


def write(file, rows, header=HEADER, separator=","):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        csv.writer(stream, delimiter=separator).writerows([header, *rows])
    return str(file)


def parquet(file, rows):
    columns = dict(zip(HEADER, map(list, zip(*rows, strict=True)), strict=True))
    datasets.Dataset.from_dict(columns).to_parquet(str(file))
    return str(file)


def sorted_rows(data):
    """The cells of every row of a data set with its class, whatever the split and the order."""
    both = (data.train, data.test)
    rows = [
        [*json.loads(text), k]
        for part in both
        for text, k in zip(part.texts, part.target.tolist(), strict=True)
    ]
    return sorted(rows, key=str)


HEADS = {
    "quoted": ('"Weight, kg";"Height, cm";label', ("Weight, kg", "Height, cm"), ";"),
    "three in quotes": ('"Weight, kg, dry";"a, b";label', ("Weight, kg, dry", "a, b"), ";"),
    "unquoted": ("Weight (kg, dry, net);Height (cm);label", None, ";"),
    "semicolons in quotes": ('"a; b; c","d; e",label', ("a; b; c", "d; e"), ","),
    "bars": ("a,b|c;d|label", ("a,b", "c;d"), "|"),
    "tabs": ("a, b\tc, d\tlabel", ("a, b", "c, d"), "\t"),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_separator_is_that_in_which_header_and_rows_agree(name, tmp_path):
    header, columns, separator = HEADS[name]
    rows = [f"{n}.5;{10 - n}.25;{'yes' if n % 2 else 'no'}" for n in range(8)]
    lines = [header, *(row.replace(";", separator) for row in rows)]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    data = load_data(str(tmp_path / "a.csv"))
    assert data.columns == (columns or tuple(header.split(separator)[:2]))
    assert data.shape == (2,)
    assert len(sorted_rows(data)) == 8


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_a_spreadsheets_encoding_is_read(encoding, tmp_path, recwarn):
    labels = ("oui", "peut-être", "désolé")
    text = "größe,b,label\n" + "".join(f"{n + 2},{n * n},{labels[n % 3]}\n" for n in range(30))
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    data = load_data(str(tmp_path / "a.csv"))
    assert data.columns == ("größe", "b")
    assert data.class_names == tuple(sorted(labels))
    assert len(sorted_rows(data)) == 30
    said = [str(one.message) for one in recwarn]
    assert sum("a.csv" in one and "cp1252" in one for one in said) == (encoding == "cp1252")


def test_a_class_whose_rows_are_all_broken_does_not_vanish(tmp_path):
    rows = [*[[f"a text {n}", NAMES[n % 3]] for n in range(9)], ["", "dog"], [" ", "dog"]]
    with raises(ValueError, "load_data: rows"):
        load_data(write(tmp_path / "a.csv", rows, ["text", "label"]), text_column="text")


def test_a_class_of_rows_that_are_no_utf8_does_not_vanish(tmp_path):
    words = ["gewöhnlich", "groß"] * 4
    rows = [f"{n % 3},{word},{'xy'[n % 2]}".encode() for n, word in enumerate(words)]
    rows += ["8,größe,rare".encode("cp1252"), "9,größe,rare".encode("cp1252")]
    (tmp_path / "a.csv").write_bytes(b"\n".join([b"n,word,label", *rows]))
    with raises(ValueError, "load_data: rows"):
        load_data(str(tmp_path / "a.csv"))


RAGGED = {
    "more fields": "a, b and c,rare",
    "empty fields after": "some text,rare,,",
    "a broken quote": '"a" text,rare',
    "a quote that does not end": '"a text,rare',
}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("kind", RAGGED)
def test_a_class_of_rows_with_other_numbers_of_fields_does_not_vanish(kind, first, tmp_path):
    lines = ["text,label", *(f"a text {n},{NAMES[n % 3]}" for n in range(9))]
    lines += [RAGGED[kind]] * 2
    if first:
        text, rare = RAGGED[kind].rstrip(",").rsplit(",", 1)
        tail = "," if kind == "empty fields after" else ""
        lines = ["label,text", *(f"{NAMES[n % 3]},a text {n}" for n in range(9))]
        lines += [f"{rare},{text}{tail}"] * 2
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    with raises(ValueError, "load_data: rows"):
        load_data(str(tmp_path / "a.csv"), text_column="text")


def test_a_note_beside_one_row_is_no_class(tmp_path):
    lines = ["x,label", *(f"{n * n},{NAMES[n % 3]}" for n in range(9)), "7,cat,see Bob"]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.warns(BrokenRows, match="1 of 10 rows"):
        data = load_data(str(tmp_path / "a.csv"))
    assert len(sorted_rows(data)) == 9


@pytest.mark.parametrize("count", [1, 9])
def test_decimal_commas_are_refused(count, tmp_path):
    rows = [[a, f"{n},5" if n < count else n, *rest] for n, (a, _, *rest) in enumerate(cells(9))]
    with raises(ValueError, "load_data: column 'wings'"):
        load_data(write(tmp_path / "a.csv", rows, separator=";"))


def test_rows_that_begin_with_a_broken_quote_are_read_in_time():
    """Each is looked at once: the number of lines that the reader is given grows with the rows."""
    lines = ["text,label\n", *(f'"Great" number {n},pos\n' for n in range(500))]

    class Counted(list):
        given = 0

        def __getitem__(self, n):
            Counted.given += 1
            return super().__getitem__(n)

        def __iter__(self):
            for n in range(len(self)):
                yield self[n]

    records = list(delimited._records(Counted(lines), ","))
    assert sum(isinstance(record, delimited.Unreadable) for record in records) == 500
    assert Counted.given <= 2 * len(lines)


def test_csv_and_parquet_of_the_same_numbers_are_the_same_data_set(tmp_path):
    rows = cells()
    one = load_data(write(tmp_path / "a.csv", rows))
    other = load_data(parquet(tmp_path / "a.parquet", rows))
    semicolons = load_data(write(tmp_path / "b.CSV", rows, separator=";"))
    for data in (one, other, semicolons):
        assert (data.shape, data.columns, data.class_names) == ((3,), tuple(HEADER[:3]), NAMES)
        assert torch.equal(data.train.inputs, one.train.inputs)
        assert torch.equal(data.test.target, one.test.target)
    expected = [[*row[:3], NAMES.index(row[3])] for row in rows]
    assert sorted_rows(one) == sorted(expected, key=str)
    assert one.train.target.bincount().tolist() == [16] * 3
    assert one.test.target.bincount().tolist() == [4] * 3


def test_a_folder_keeps_its_splits_and_is_found_below_the_root(tmp_path, monkeypatch):
    write(tmp_path / "zoo" / "train.csv", cells(30))
    write(tmp_path / "zoo" / "Test.csv", cells(9, seed=1))
    write(tmp_path / "zoo" / "test-1.csv", [["1"]], header=["x"])
    monkeypatch.setenv("DROPMAX_DATA", str(tmp_path))
    with pytest.warns(DataWarning, match=r"files that are left out: 1 \(test-1\.csv\)"):
        data = load_data("zoo")
    assert (len(data.train.target), len(data.test.target)) == (30, 9)
    assert data.train.target.tolist() == [0, 1, 2] * 10
    write(tmp_path / "one" / "animals.csv", cells(30))
    assert len(load_data("one", split="half").train.target) == 15
    assert len(load_data("one/animals.csv").test.target) == 6


def test_labels_are_sorted_as_numbers_where_they_are_numbers(tmp_path):
    rows = [[*row[:3], ("10", "9", "x")[n % 3]] for n, row in enumerate(cells(12))]
    assert load_data(write(tmp_path / "a.csv", rows)).class_names == ("9", "10", "x")


def test_an_index_without_a_name_is_no_feature(tmp_path):
    rows = [[n, *row] for n, row in enumerate(cells(12))]
    with pytest.warns(DataWarning, match="'Unnamed: 0'"):
        data = load_data(write(tmp_path / "a.csv", rows, header=["", *HEADER]))
    assert data.columns == ("legs", "wings", "mass")


def broken_rows():
    """Rows of which three are broken, each in another way, and what is said of them.

    Three others have a cell that is no number.
    """
    rows = cells(30)
    rows[3][1] = "many"
    rows[4][0] = ""
    rows[8][3] = ""
    rows[11] = rows[11][:2]
    rows[12] = [*rows[12], 1, 2]
    rows[20][2] = "inf"
    return rows, {8: "no label", 11: "2 fields in place of 4", 12: "6 fields in place of 4"}


ODD = {
    3: "column 'wings' holds 'many', no finite number",
    20: "column 'mass' holds 'inf', no finite number",
}


def test_broken_rows_are_named_and_the_rest_go_on(tmp_path):
    rows, reasons = broken_rows()
    with pytest.warns(DataWarning) as warned:
        data = load_data(write(tmp_path / "a.csv", rows))
    assert [one.category for one in warned] == [BrokenRows, DataWarning]
    broken, odd = (str(one.message) for one in warned)
    named = ", ".join(f"row {n} ({why})" for n, why in reasons.items())
    assert broken == f"load_data: 3 of 30 rows of train are broken and left out: {named}."
    assert ", ".join(f"row {n} ({why})" for n, why in ODD.items()) in odd
    whole = [
        [None if cell in ("", "many", "inf") else cell for cell in row[:3]] + [NAMES.index(row[3])]
        for n, row in enumerate(rows)
        if n not in reasons
    ]
    assert sorted_rows(data) == sorted(whole, key=str)


def test_a_class_that_is_only_in_test_is_broken(tmp_path):
    write(tmp_path / "train.csv", cells(9))
    write(tmp_path / "test.csv", [*cells(3), [0, 0, 0, "dog"]])
    with pytest.warns(BrokenRows, match=r"of test .*: row 3 \(the label 'dog' is not in train\)"):
        assert len(load_data(str(tmp_path)).test.target) == 3


def test_a_test_split_without_labels_is_left_out_and_another_drawn(tmp_path):
    write(tmp_path / "train.csv", cells(15))
    write(tmp_path / "test.csv", cells(3), [*HEADER[:3], "kind"])
    with pytest.warns(DataWarning, match="test has no column 'label'"):
        data = load_data(str(tmp_path))
    assert (len(data.train), len(data.test)) == (12, 3)


def test_missing_and_unreadable_cells_of_parquet_files(tmp_path):
    rows = cells(30)
    rows[5][0], rows[6][1], rows[7][3] = None, float("nan"), None
    with pytest.warns(BrokenRows, match=r"1 of 30 rows .*: row 7 \(no label"):
        data = load_data(parquet(tmp_path / "a.parquet", rows))
    found = sorted_rows(data)
    assert len(found) == 29
    assert sum(row[0] is None for row in found) == sum(row[1] is None for row in found) == 1


def test_bytes_that_are_no_text_and_quotes_that_do_not_end_cost_their_own_row(tmp_path):
    file = Path(write(tmp_path / "a.csv", cells(40)))
    lines = file.read_bytes().split(b"\r\n")
    lines[4] += b"\xff\xfe"
    lines[12] = b'"' + lines[12]
    lines[20] = b'"' + lines[20].replace(b",", b'",', 1)  # a sound quoted field
    lines[30] = b'"' + lines[30]
    file.write_bytes(b"\n \n\xef\xbb\xbf"[3:] + b"\r\n\r\n".join(lines))
    with pytest.warns(BrokenRows) as warned:
        data = load_data(str(file))
    message = str(warned[0].message)
    assert "3 of 40 rows of train are broken" in message
    assert "row 3 (bytes that are not UTF-8)" in message
    for row in (11, 29):
        assert f"row {row} (" in message
    assert message.count("a quote that does not end, or ends early") == 2
    assert len(sorted_rows(data)) == 37


def test_quoted_fields_hold_separators_line_ends_and_anything_long(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "embed", lambda texts, **_: torch.ones(len(texts), 2))
    rows = [["a, b\n\nc", "ant"], ["x" * 200_000, "bee"], ['say "d"', "ant"], ["e;", "bee"]]
    data = load_data(write(tmp_path / "a.csv", rows, ["text", "label"]), encoder="x")
    assert len(data.train.texts) == 2
    write(tmp_path / "b" / "train.csv", rows, [" text ", "label "])
    write(tmp_path / "b" / "test.csv", [["f", " ant "]], ["text", "label"])
    data = load_data(str(tmp_path / "b"), encoder="x")
    assert list(data.train.texts) == [row[0] for row in rows]
    assert data.test.target.tolist() == [0]


def test_names_like_nan_are_names_in_an_order_of_their_own(tmp_path):
    rows = [[*row[:3], ("nan", "3", "cow", "inf")[n % 4]] for n, row in enumerate(cells(12))]
    data = load_data(write(tmp_path / "a.csv", rows))
    assert data.class_names == ("3", "cow", "inf", "nan")


def test_the_index_of_a_frame_is_no_feature(tmp_path):
    frame = pandas.DataFrame(cells(12), columns=HEADER).sample(frac=1.0, random_state=0)
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.warns(DataWarning, match="__index_level_0__"):
        assert load_data(str(tmp_path / "a.parquet")).columns == tuple(HEADER[:3])


def test_a_folder_may_mix_csv_and_parquet_and_hold_other_files(tmp_path):
    write(tmp_path / "a" / "TRAIN.CSV", cells(12))
    parquet(tmp_path / "a" / "test.parquet", cells(6))
    (tmp_path / "a" / "readme.txt").write_text("...")
    with pytest.warns(DataWarning, match=r"left out: 1 \(readme\.txt\)"):
        assert len(load_data(str(tmp_path / "a")).test.target) == 6
    (tmp_path / "b").mkdir()
    parquet(tmp_path / "b" / "train.parquet", cells(12))
    write(tmp_path / "b" / "test.csv", cells(9))
    assert len(load_data(str(tmp_path / "b")).test.target) == 9


@pytest.mark.parametrize("change", ["nothing but the order", "classes", "columns", "kinds"])
def test_a_table_that_has_changed_is_not_evaluated(change, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.csv"
    out = str(tmp_path / "run")
    options = ["--head", "softmax", "--epochs", "1", "--quiet", "--out", out]
    assert main(["train", "--data", write(file, cells(30)), *options]) == 0
    rows, header = cells(30), HEADER
    if change == "nothing but the order":
        rows, header = [[b, a, *rest] for a, b, *rest in rows], ["wings", "legs", "mass", "label"]
    elif change == "classes":
        rows = [row for row in rows if row[3] != "bee"]
    elif change == "columns":
        rows, header = [row[1:] for row in rows], HEADER[1:]
    else:
        rows = [[str(row[0] > 1), *row[1:]] for row in rows]
    write(file, rows, header)
    capsys.readouterr()
    assert main(["evaluate", out]) == (0 if change == "nothing but the order" else 2)
    said = {
        "classes": "run must have data of the",
        "columns": "table must hold the column 'legs'",
        "kinds": "run must be of the same data set",
    }
    assert said.get(change, "") in capsys.readouterr().err


def test_a_run_of_texts_from_before_columns_were_written_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "embed", lambda texts, **_: torch.eye(len(texts))[:, :3])
    rows = [[f"{name} {n}", name] for n, name in enumerate(NAMES * 4)]
    file = write(tmp_path / "a.csv", rows, ["text", "label"])
    config = RunConfig(file, "softmax", epochs=1, encoder="x")
    train(config, tmp_path / "run", progress=False)
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described.pop("columns") == ["text"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(described))
    assert train(config, tmp_path / "run", progress=False).columns == ()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A comparison on a table of numbers, made by the command."""
    folder = tmp_path_factory.mktemp("tables")
    write(folder / "zoo.csv", cells(90))
    command = ["compare", "--data", str(folder / "zoo.csv"), "--heads", "softmax,dropmax"]
    command += ["--protocol", "modern"]
    assert (
        main([*command, "--seeds", "1", "--epochs", "40", "--quiet", "--out", str(folder / "out")])
        == 0
    )
    return folder


@pytest.mark.xdist_group("table")
def test_compare_learns_from_columns_of_any_scale(trained):
    lines = read_lines(trained / "out" / RESULTS)
    assert [line["test"]["error"] for line in lines] == [0.0, 0.0]
    run = load_run(run_folder(trained / "out", RunConfig(**lines[1]["config"])))
    assert run.columns == ("legs", "wings", "mass")
    splits = draw(run.config, data_for(run.config))
    rows = splits.train.inputs
    assert torch.equal(run.classifier().get_submodule("pixels")(rows), rows), "not scaled twice"
    whole = data_for(run.config).train.inputs
    assert whole.mean(0).abs().max() < 1e-6
    assert (whole.std(0, correction=0) - 1.0).abs().max() < 1e-6


@pytest.mark.xdist_group("table")
def test_predict_says_what_is_wrong_with_a_row_in_its_place(trained, tmp_path, capsys):
    rows, reasons = broken_rows()
    rows[8][3] = "unknown"  # no label is needed
    del reasons[8]
    file = write(tmp_path / "new.csv", [[row[-1], *row[:-1]] for row in rows], ["", *HEADER[:3]])
    run = run_folder(
        trained / "out",
        RunConfig(str(trained / "zoo.csv"), "dropmax", protocol="modern", epochs=40),
    )
    capsys.readouterr()
    assert main(["predict", str(run), file, file, "--top", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "predict: 4 of 60 can't be predicted; their lines say why.\n"
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["row"] for line in lines] == [*range(30)] * 2
    assert {line["file"] for line in lines} == {file}
    wrong = {line["row"]: line["error"] for line in lines if "error" in line}
    assert wrong == reasons
    notes = {line["row"]: line["note"] for line in lines if "note" in line}
    assert notes == ODD | {4: "column 'legs' is empty, as in no training row"}
    named = {line["row"]: line["top"][0]["class"] for line in lines if "top" in line}
    known = [n for n in range(30) if n not in reasons]
    assert sorted(named) == known
    assert all(named[n] == NAMES[n % 3] for n in known if n != 4)


@pytest.mark.xdist_group("table")
def test_predictions_of_many_rows_are_those_of_few(trained, tmp_path, monkeypatch):
    from dropmax.training import instances

    file = write(tmp_path / "new.csv", cells(10, seed=5))
    run = load_run(
        run_folder(
            trained / "out",
            RunConfig(str(trained / "zoo.csv"), "dropmax", protocol="modern", epochs=40),
        )
    )

    def described():
        lines = list(describe_predictions(run, [file]))
        top = [one for line in lines for one in line["top"]]
        return [one["class"] for one in top], [one["probability"] for one in top]

    classes, probabilities = described()
    monkeypatch.setattr(instances, "AT_ONCE", 3)
    assert described() == (classes, pytest.approx(probabilities, abs=2e-6))


@pytest.mark.xdist_group("table")
def test_a_broken_row_alone_is_no_mistake(trained, tmp_path):
    file = write(tmp_path / "new.csv", [[1, 2, "ant"]])
    run = load_run(
        run_folder(
            trained / "out",
            RunConfig(str(trained / "zoo.csv"), "dropmax", protocol="modern", epochs=40),
        )
    )
    (line,) = describe_predictions(run, [file])
    assert line == {"file": file, "row": 0, "error": "3 fields in place of 4"}


def test_texts_of_a_csv_file_from_end_to_end(tmp_path, monkeypatch, capsys):
    class Stub:
        def encode(self, texts, **_):
            return [[float(one.count(c)) for c in "abceontw"] for one in texts]

    monkeypatch.setenv("DROPMAX_CACHE", str(tmp_path / "cache"))
    asked = []
    monkeypatch.setattr(text, "_model", lambda encoder: asked.append(encoder) or Stub())
    rows = [[f"the {NAMES[n % 3]}, {n}", NAMES[n % 3]] for n in range(60)]
    rows[7][0] = " "
    file = write(tmp_path / "texts.csv", rows, ["query", "label"])
    out = tmp_path / "run"
    options = ["--text-column", "query", "--protocol", "modern", "--epochs", "30", "--quiet"]
    assert main(["train", "--data", file, *options, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.err == (
        "dropmax train: 1 of 60 rows of train are broken and left out: "
        "row 7 (column 'query' is empty).\n"
    )
    assert set(asked) == {text.PACKAGED}
    assert (load_run(out).columns, load_run(out).config.encoder) == (("query",), text.PACKAGED)
    assert main(["predict", str(out), file, "--top", "1"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[7] == {
        "file": file,
        "row": 7,
        "columns": {"query": " ", "label": "bee"},
        "error": "column 'query' is empty",
    }
    named = [line["top"][0]["class"] for line in lines if "top" in line]
    assert named == [NAMES[n % 3] for n in range(60) if n != 7]
    with pytest.warns(BrokenRows):
        found = load_data(file, encoder="x").columns
    assert found == ("query",), "the only column but the labels"


def test_a_run_without_columns_is_the_run_it_was(tmp_path):
    config = RunConfig("digits", "softmax", train_per_class=3, epochs=1)
    train(config, tmp_path, data=load_data("digits"), progress=False)
    assert "columns" not in json.loads((tmp_path / "run.json").read_text())
    assert load_run(tmp_path).columns == ()


WRONG = {
    "no file": (
        lambda _: "nowhere.csv",
        FileNotFoundError,
        "load_data: source",
    ),
    "empty": (lambda tmp: empty(tmp), ValueError, "load_data: names of columns"),
    "a name twice": (
        lambda tmp: write(tmp / "a.csv", cells(9), ["x", "x", "y", "label"]),
        ValueError,
        "load_data: names of columns",
    ),
    "no rows": (lambda tmp: write(tmp / "a.csv", []), ValueError, "load_data: rows"),
    "one class": (lambda tmp: write(tmp / "a.csv", cells(9)[::3]), ValueError, "load_data: labels"),
    "no column label": (
        lambda tmp: write(tmp / "a.csv", cells(9), ["x", "y", "z", "kind"]),
        ValueError,
        "load_data: label_column",
    ),
    "labels alone": (
        lambda tmp: write(tmp / "a.csv", [["ant"], ["bee"]], ["label"]),
        ValueError,
        "load_data: columns",
    ),
    "texts": (
        lambda tmp: write(tmp / "a.csv", [["hi", "ant"], ["ho", "bee"]], ["text", "label"]),
        ValueError,
        "load_data: columns",
    ),
    "two tables to train on": (
        lambda tmp: str(Path(write(tmp / "b.csv", []), write(tmp / "a.csv", [])).parent),
        ValueError,
        "load_data: splits",
    ),
    "test alone": (
        lambda tmp: str(Path(write(tmp / "test.csv", cells(9))).parent),
        ValueError,
        "load_data: splits",
    ),
    "no UTF-8": (
        lambda tmp: utf16(tmp / "a.csv"),
        ValueError,
        "load_data: source",
    ),
    "no parquet file": (
        lambda tmp: str(Path(empty(tmp)).rename(tmp / "a.parquet")),
        ValueError,
        "load_data: source",
    ),
}


def utf16(file):
    file.write_text("x,label\n1,a\n", encoding="utf-16")
    return str(file)


def empty(folder):
    (folder / "a.csv").write_text("")
    return str(folder / "a.csv")


@pytest.mark.usefixtures("untyped")
def test_a_class_with_one_row_cannot_be_halved(tmp_path):
    file = write(tmp_path / "a.csv", [*cells(9), [1, 2, 3, "dog"]])
    data = load_data(file, split="half")
    with raises(ValueError, f"DataSet.draw: training rows of {file}"):
        data.draw()


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case, tmp_path):
    make, kind, where = WRONG[case]
    with raises(kind, where):
        load_data(make(tmp_path))


@pytest.mark.xdist_group("table")
@pytest.mark.parametrize("kind", ["another column", "an image", "nothing"])
def test_wrong_tables_to_predict(kind, trained, tmp_path, capsys):
    run = run_folder(
        trained / "out",
        RunConfig(str(trained / "zoo.csv"), "dropmax", protocol="modern", epochs=40),
    )
    file = {
        "another column": write(tmp_path / "a.csv", cells(3), ["feet", *HEADER[1:]]),
        "an image": str(tmp_path / "a.png"),
        "nothing": str(tmp_path / "none.csv"),
    }[kind]
    capsys.readouterr()
    assert main(["predict", str(run), file]) == 2
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    said = {
        "another column": "table must hold the column 'legs' as in training, got the columns feet",
    }.get(kind, "files must be CSV, TSV or parquet files, as the run is on rows of a table")
    assert said in printed.err
