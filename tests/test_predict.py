"""`dropmax predict`: what it takes, what a line says, sets that hold the true class, and files."""

import csv
import datetime
import io
import json
import math
import shutil
import sys
from pathlib import Path

import pyarrow
import pytest
import safetensors.torch
import torch
from PIL import Image
from pyarrow import parquet
from raised import raises

from dropmax.analysis import fit_conformal
from dropmax.cli import lines, main
from dropmax.data import load_data
from dropmax.data import texts as text
from dropmax.training import RunConfig, data_of, describe_predictions, draw, load_run, train
from dropmax.training import predictions as of_training
from dropmax.training.classifier import predict

NAMES = ("ant", "bee", "=cow()")
OURS = "file,row,answer,probability,top2,top2_probability,top3,top3_probability,retained,note,error"


def table(file, rows, header):
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return str(file)


def read(file, delimiter=","):
    with Path(file).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter, strict=True))


def read_json(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A run on a table, whose third class is called as a formula."""
    folder = tmp_path_factory.mktemp("zoo")
    rows = [[n % 3 + 0.01 * (n % 7), (n * n) % 5, NAMES[n % 3]] for n in range(120)]
    file = table(folder / "zoo.csv", rows, ["x", "y", "label"])
    train(RunConfig(file, "dropmax", epochs=30), folder / "run", progress=False)
    return folder / "run"


class Stub:
    def encode(self, texts, **_):
        return [[float(one.count(c)) for c in "abenot"] for one in texts]


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def talk(tmp_path_factory, patched):
    """A run on texts, with an encoder that counts letters."""
    folder = tmp_path_factory.mktemp("talk")
    patched.setenv("DROPMAX_CACHE", str(folder / "cache"))
    patched.setattr(text, "_model", lambda _: Stub())
    rows = [[f"the {NAMES[n % 2]} {'o' * (n % 5)}", NAMES[n % 2]] for n in range(60)]
    file = table(folder / "talk.csv", rows, ["query", "label"])
    config = RunConfig(file, "dropmax", epochs=40, encoder="stub", text_column="query")
    train(config, folder / "run", progress=False)
    return folder / "run"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run on few digits, and a folder of others."""
    folder = tmp_path_factory.mktemp("digits")
    config = RunConfig(
        "digits", "dropmax", train_per_class=20, validation_per_class=30, epochs=15, seed=3
    )
    train(config, folder / "run", progress=False)
    (folder / "new").mkdir()
    held_out = load_data("digits").test
    for n, image in enumerate(held_out.inputs[:]):
        Image.fromarray(image[0].numpy()).save(folder / "new" / f"{n:04}.png")
    return folder / "run"


def stdin(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


HOSTILE = {
    "=cmd()": "'=cmd()",
    "+1+1": "'+1+1",
    "-1-1": "'-1-1",
    "@x": "'@x",
    "  =1+1": "'  =1+1",
    "\t=1": "'\t=1",
    "\tx": "'\tx",
    "\rx": "'\rx",
    "-2": "-2",
    " +3.5e-1 ": " +3.5e-1 ",
    "a=b": "a=b",
    "'=x": "'=x",
    "": "",
    ' "quoted", \n': ' "quoted", \n',
    "é\u2028": "é\u2028",
}


@pytest.mark.parametrize("end", ["csv", "tsv"])
def test_columns_come_back_as_they_came_but_for_cells_that_would_be_run(zoo, tmp_path, end):
    rows = [[str(n % 3), " 1 ", cell] for n, cell in enumerate(HOSTILE)]
    file = table(tmp_path / "new.csv", rows, ["x", "y", "=comment"])
    assert main(["predict", str(zoo), file, "--out", str(tmp_path / f"out.{end}"), "--quiet"]) == 0
    written = read(tmp_path / f"out.{end}", "\t" if end == "tsv" else ",")
    assert list(written[0]) == ["x", "y", "'=comment", *OURS.split(",")]
    assert [[line["x"], line["y"]] for line in written] == [row[:2] for row in rows]
    assert [line["'=comment"] for line in written] == list(HOSTILE.values())
    expected = list(describe_predictions(load_run(zoo), [file]))
    assert [line["columns"]["=comment"] for line in expected] == list(HOSTILE)
    for line, found in zip(expected, written, strict=True):
        assert found["answer"] == lines.guarded(line["answer"])
        assert float(found["probability"]) == line["probability"] == line["top"][0]["probability"]
        assert found["top2"] == lines.guarded(line["top"][1]["class"])
        assert float(found["top3_probability"]) == line["top"][2]["probability"]
        retained = "; ".join(lines.guarded(one["class"]) for one in line["retained"])
        assert (found["retained"], found["row"]) == (retained, str(line["row"]))
    assert {line["answer"] for line in expected} == set(NAMES), "or the classes are not tried"


def test_a_column_of_the_name_of_ours_is_kept(zoo, tmp_path):
    header = ["x", "y", "answer", "probability", "dropmax_probability"]
    file = table(tmp_path / "new.csv", [["0", "1", "mine", "0.5", "0.25"]], header)
    assert main(["predict", str(zoo), file, "--out", str(tmp_path / "out.csv"), "--quiet"]) == 0
    (line,) = read(tmp_path / "out.csv")
    assert [line[name] for name in header] == ["0", "1", "mine", "0.5", "0.25"]
    assert line["dropmax_answer"] == "ant"
    assert float(line["dropmax_dropmax_probability"]) > 0.5


def test_several_tables_share_their_columns(zoo, tmp_path):
    one = table(tmp_path / "a.csv", [["0", "1", "p"]], ["x", "y", "only a"])
    other = table(tmp_path / "b.csv", [["q", "1", "2"]], ["only b", "y", "x"])
    out = tmp_path / "out.csv"
    assert main(["predict", str(zoo), one, other, "--out", str(out), "--quiet"]) == 0
    first, second = read(out)
    assert list(first)[:4] == ["x", "y", "only a", "only b"]
    assert (first["only a"], first["only b"], first["file"]) == ("p", "", one)
    assert (second["x"], second["only a"], second["only b"]) == ("2", "", "q")


def test_lines_of_json_in_a_file_are_those_that_are_printed(zoo, tmp_path, capsys):
    file = table(tmp_path / "new.csv", [["0", "1"], ["2"], ["", "4"]], ["x", "y"])
    assert main(["predict", str(zoo), file]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for name in ("out.jsonl", "out.json"):
        assert main(["predict", str(zoo), file, "--out", str(tmp_path / name), "--quiet"]) == 0
        assert read_json(tmp_path / name) == printed
    assert printed[1] == {"file": file, "row": 1, "error": "1 fields in place of 2"}
    assert printed[2]["note"] == "column 'x' is empty, as in no training row"
    assert printed[0] == next(describe_predictions(load_run(zoo), [file]))


def test_cells_of_any_type_are_carried(zoo, tmp_path, capsys):
    columns = {
        "x": pyarrow.array([0.5, math.nan]),
        "y": pyarrow.array([-1, None]),
        "day": pyarrow.array([datetime.date(2024, 1, 31), None]),
        "sold": pyarrow.array([True, False]),
        "tags": pyarrow.array([["=a"], []]),
    }
    file = str(tmp_path / "new.parquet")
    parquet.write_table(pyarrow.table(columns), file)
    assert main(["predict", str(zoo), file]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    whole = {"x": 0.5, "y": -1, "day": "2024-01-31", "sold": True, "tags": "['=a']"}
    assert first["columns"] == whole
    assert second["columns"] == whole | {
        "x": None,
        "y": None,
        "day": None,
        "sold": False,
        "tags": "[]",
    }
    assert main(["predict", str(zoo), file, "--out", str(tmp_path / "a.csv"), "--quiet"]) == 0
    first, second = read(tmp_path / "a.csv")
    assert [first[name] for name in whole] == ["0.5", "-1", "2024-01-31", "True", "['=a']"]
    assert [second[name] for name in whole] == ["", "", "", "False", "[]"]


def test_a_broken_row_has_its_reason_in_a_table_too(zoo, tmp_path, capsys):
    content = b"x,y,z\n0,1,a\n2\n1,1,\xff\n2,0,b\n2,1,\xc3\xa9\n"
    (tmp_path / "new.csv").write_bytes(content)
    out = tmp_path / "out.csv"
    assert main(["predict", str(zoo), str(tmp_path / "new.csv"), "--out", str(out)]) == 0
    assert "2 of 5 can't be predicted" in capsys.readouterr().err
    written = read(out)
    reasons = ["", "1 fields in place of 3", "bytes that are not UTF-8", "", ""]
    assert [line["error"] for line in written] == reasons
    assert [line["answer"] for line in written] == ["ant", "", "", "'=cow()", "'=cow()"]
    assert [line["z"] for line in written] == ["a", "", "\ufffd", "b", "é"]


def test_answers_are_those_of_their_rows_whatever_is_broken_between(zoo, tmp_path, monkeypatch):
    monkeypatch.setattr("dropmax.training.instances.AT_ONCE", 3)
    rows = [[str(n % 3), "1"] if n % 4 else ["broken"] for n in range(20)]
    file = table(tmp_path / "new.csv", rows, ["x", "y"])
    found = list(describe_predictions(load_run(zoo), [file]))
    expected = [NAMES[n % 3] if n % 4 else None for n in range(20)]
    assert [line.get("answer") for line in found] == expected
    assert [line["row"] for line in found] == list(range(20))


def test_a_table_comes_by_the_standard_input(zoo, tmp_path, capsys, monkeypatch):
    file = table(tmp_path / "new.csv", [["0", "1"], ["2", "3"]], ["x", "y"])
    stdin(monkeypatch, (tmp_path / "new.csv").read_bytes())
    assert main(["predict", str(zoo), "-"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = list(describe_predictions(load_run(zoo), [file]))
    assert printed == [{**line, "file": "-"} for line in expected]
    stdin(monkeypatch, b"")
    assert main(["predict", str(zoo), "-"]) == 2
    assert "first line of the standard input" in capsys.readouterr().err
    assert main(["predict", str(zoo), "-", "-"]) == 2


def test_texts_come_by_the_standard_input_and_one_by_one(talk, tmp_path, capsys, monkeypatch):
    said = ["the ant, or só", " the bee", "", "=the ant"]
    stdin(monkeypatch, "\r\n".join(said).encode() + b"\nthe \xff \xc3\xa9\n")
    assert main(["predict", str(talk), "-", "--out", str(tmp_path / "a.csv"), "--quiet"]) == 0
    written = read(tmp_path / "a.csv")
    assert [line["query"] for line in written] == [*said[:2], "", "'=the ant", "the \ufffd é"]
    assert [line["answer"] for line in written] == ["ant", "bee", "", "ant", ""]
    reasons = ["", "", "column 'query' is empty", "", "bytes that are not UTF-8"]
    assert [line["error"] for line in written] == reasons
    capsys.readouterr()
    assert main(["predict", str(talk), "--text", "the ant", "--text", "a bee\nor two"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["file"], first["row"], first["columns"]) == (None, 0, {"query": "the ant"})
    assert (second["row"], second["columns"]["query"]) == (1, "a bee\nor two")
    assert (first["answer"], second["answer"]) == ("ant", "bee")
    file = table(tmp_path / "new.csv", [["the ant"]], ["query"])
    run = load_run(talk)
    same = [*describe_predictions(run, [file]), *describe_predictions(run, texts=["the ant"])]
    assert same[0] | {"file": None} == same[1] == first
    (broken,) = describe_predictions(run, texts=["\udcff"])
    assert broken["error"] == "bytes that are not UTF-8"


def test_a_text_in_place_of_a_file_is_told_of_the_option(talk, zoo, digits, tmp_path, capsys):
    (tmp_path / "a.csv").touch()
    for said in ("a bee", "a bee " * 999):
        assert main(["predict", str(talk), said, "--out", str(tmp_path / "a.csv")]) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert "--text" in message
        assert "on texts" in message
    for run in (zoo, digits):
        assert main(["predict", str(run), "--text", "a bee"]) == 2
        assert capsys.readouterr().err.startswith("dropmax predict: --text must be left out")
    assert main(["predict", str(zoo), "no such file"]) == 2
    assert "--text" not in capsys.readouterr().err


def test_a_folder_of_pictures_is_written_as_a_table(digits, tmp_path, capsys):
    folder = tmp_path / "some"
    folder.mkdir()
    for name in ("0000.png", "0001.png"):
        shutil.copy(digits.parent / "new" / name, folder)
    (folder / "0000a.png").write_text("no picture")
    out = tmp_path / "out.csv"
    assert main(["predict", str(digits), str(folder), "--out", str(out), "--top", "1"]) == 0
    printed = capsys.readouterr()
    assert "1 of 3 can't be predicted" in printed.err
    assert printed.out.splitlines()[-1] == f"The predictions are in {out}."
    first, broken, second = read(out)
    assert list(first) == ["file", "answer", "probability", "retained", "note", "error"]
    assert [first["file"], second["file"]] == [str(folder / f"000{n}.png") for n in range(2)]
    assert (broken["answer"], bool(broken["error"])) == ("", True)
    expected = describe_predictions(load_run(digits), [folder / "0000.png"], 1)
    assert next(expected)["answer"] == first["answer"]


def test_pictures_that_are_all_broken_are_said_to_be(digits, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    (line,) = describe_predictions(load_run(digits), [tmp_path / "a.png"], level=0.9)
    assert line.keys() == {"file", "error"}


def test_an_answer_is_left_out_below_the_threshold(digits, tmp_path):
    files = sorted((digits.parent / "new").iterdir())[:40]
    run = load_run(digits)
    whole = list(describe_predictions(run, files, 10))
    sure = sorted(line["probability"] for line in whole)[20]
    found = list(describe_predictions(run, files, 10, threshold=sure))
    assert [line["answer"] for line in found] == [
        line["answer"] if line["probability"] >= sure else None for line in whole
    ]
    assert 0 < sum(line["answer"] is None for line in found) <= 20
    assert [line["top"] for line in found] == [line["top"] for line in whole]
    for line in whole:
        assert len(line["top"]) == 10
        assert math.fsum(one["probability"] for one in line["top"]) == pytest.approx(1, abs=1e-4)
        assert all(one["retain_probability"] >= 0.5 for one in line["retained"])
    out = tmp_path / "out.csv"
    command = ["predict", str(digits), *map(str, files), "--out", str(out), "--quiet"]
    assert main([*command, "--threshold", str(sure), "--top", "99"]) == 0
    assert [line["answer"] or None for line in read(out)] == [line["answer"] for line in found]
    assert "top10_probability" in read(out)[0]


def test_a_run_keeps_what_sets_are_fitted_to(digits):
    run = load_run(digits)
    assert run.scaling is not None, "or the temperature is not tried"
    validation = draw(run.config, data_of(run)).validation
    log_probs = predict(run.classifier(), validation.inputs, scaling=run.scaling).log_probs
    kept = safetensors.torch.load_file(run.path / "conformal.safetensors")["scores"]
    assert (kept.dtype, kept.shape) == (torch.float32, (300,))
    assert torch.equal(kept, kept.sort().values)
    for level in (0.5, 0.8, 0.95):
        generator = torch.Generator().manual_seed(run.config.seed)
        fitted = fit_conformal(log_probs, validation.target, level=level, generator=generator)
        assert run.conformal(level).level == level
        assert run.conformal(level).threshold == pytest.approx(fitted.threshold, abs=1e-6)


@pytest.mark.parametrize("level", [0.6, 0.9])
def test_sets_hold_the_true_class_as_often_as_they_say(digits, level, monkeypatch):
    """Within four deviations: of a binomial count, and of a level fitted on 300 rows."""
    files = sorted((digits.parent / "new").iterdir())
    target = load_data("digits").test.target.tolist()
    run = load_run(digits)
    found = list(describe_predictions(run, files, level=level))
    names = [run.class_names[k] for k in target]
    held = [name in line["set"] for line, name in zip(found, names, strict=True)]
    variance = level * (1.0 - level) * (1.0 / len(files) + 1.0 / 300)
    assert abs(sum(held) / len(held) - level) < 4.0 * math.sqrt(variance)
    sizes = {len(line["set"]) for line in found}
    assert max(sizes) > 1, "or the sets are answers"
    for line in found:
        likeliest = [one["class"] for one in line["top"]]
        assert line["set"][:3] == likeliest[: len(line["set"])], "the likeliest first"
    monkeypatch.setattr("dropmax.training.instances.AT_ONCE", 7)
    again = describe_predictions(run, files[:50], level=level)
    assert [line["set"] for line in again] == [line["set"] for line in found[:50]]


def test_the_draws_of_sets_are_not_those_of_their_fit(digits):
    files = sorted((digits.parent / "new").iterdir())[:200]
    run = load_run(digits)
    test = load_data("digits").test.inputs[:200]
    log_probs = predict(run.classifier(), test, scaling=run.scaling).log_probs
    conformal = run.conformal(0.7)
    generator = torch.Generator().manual_seed(run.config.seed + 1)
    expected = conformal.sets(log_probs, generator=generator)
    others = conformal.sets(log_probs, generator=generator.manual_seed(run.config.seed))
    assert not torch.equal(expected, others), "or the test says nothing"
    lines_of = describe_predictions(run, files, level=0.7)
    for line, members in zip(lines_of, expected, strict=True):
        assert set(line["set"]) == {run.class_names[k] for k in members.nonzero().flatten()}


def test_sets_stand_in_a_table_with_semicolons_between(digits, tmp_path):
    files = [str(file) for file in sorted((digits.parent / "new").iterdir())[:30]]
    out = tmp_path / "out.csv"
    command = ["predict", str(digits), *files, "--sets", "0.99", "--out", str(out), "--quiet"]
    assert main(command) == 0
    expected = describe_predictions(load_run(digits), files, level=0.99)
    found = [line["set"] for line in read(out)]
    assert found == ["; ".join(line["set"]) for line in expected]
    assert any("; " in cell for cell in found)


def test_a_run_that_has_nothing_to_fit_sets_to_says_why(digits, tmp_path, capsys):
    image = str(digits.parent / "new" / "0000.png")
    small = {"train_per_class": 8, "epochs": 2, "seed": 1}
    train(RunConfig("digits", "softmax", split="half", **small), tmp_path / "a", progress=False)
    refit = RunConfig("digits", "softmax", validation_per_class=5, refit=True, **small)
    train(refit, tmp_path / "b", progress=False)
    shutil.copytree(digits, tmp_path / "c")
    (tmp_path / "c" / "conformal.safetensors").unlink()
    assert not (tmp_path / "a" / "conformal.safetensors").exists()
    assert not (tmp_path / "b" / "conformal.safetensors").exists()
    reasons = {"a": "no validation rows; train again", "b": "--refit; ask", "c": "written before"}
    capsys.readouterr()
    for name, reason in reasons.items():
        assert main(["predict", str(tmp_path / name), image, "--sets", "0.9"]) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert message.startswith("dropmax predict: run must keep scores of validation rows")
        assert reason in message
        assert main(["predict", str(tmp_path / name), image]) == 0, "all else goes on"
        capsys.readouterr()
    assert main(["predict", str(tmp_path / "b" / "selection"), image, "--sets", "0.9"]) == 0
    assert json.loads(capsys.readouterr().out)["set"]
    (tmp_path / "c" / "conformal.safetensors").write_bytes(b"half")
    with raises(ValueError, "Run.conformal: path"):
        next(describe_predictions(load_run(tmp_path / "c"), [image], level=0.9))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"level": 1.0}, "level"),
        ({"level": 0.9, "method": "exact"}, "method"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"top": 0}, "top"),
        ({"texts": ["a"]}, "texts"),
    ],
)
def test_wrong_arguments_are_named(digits, given, argument):
    file = digits.parent / "new" / "0000.png"
    with raises(ValueError, f"describe_predictions: {argument}"):
        next(describe_predictions(load_run(digits), [file], **given))


def test_mistakes_leave_nothing_and_what_was_there(zoo, tmp_path, capsys):
    file = table(tmp_path / "new.csv", [["0", "1"]], ["x", "y"])
    lacking = table(tmp_path / "lacking.csv", [["0"]], ["x"])
    (tmp_path / "old.csv").write_text("kept")
    (tmp_path / "folder.csv").mkdir()
    run, old = str(zoo), str(tmp_path / "old.csv")
    wrong = {
        "--out must end in": [file, "--out", str(tmp_path / "out.xlsx")],
        "--out must be a file": [file, "--out", str(tmp_path / "folder.csv")],
        "--out must be another": [file, "--out", file],
        "--out must be in a folder": [file, "--out", str(tmp_path / "nowhere" / "out.csv")],
        "table must hold the column 'y'": [file, lacking, "--out", old],
        "files must be CSV": [file, str(tmp_path / "none.csv"), "--out", old],
        "--sets must be a number": [file, "--out", old, "--sets", "90"],
        "--method must be 'plugin'": [file, "--out", old, "--sets", "0.9", "--method", "exact"],
        "files must be named": ["--out", old],
    }
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for says, command in wrong.items():
        assert main(["predict", run, *command]) == 2
        printed = capsys.readouterr()
        (message,) = printed.err.splitlines()
        assert says in message
        assert printed.out.strip() == ""
        after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert after == before


@pytest.mark.parametrize("name", ["old.csv", "new.jsonl"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError(28, "full")])
def test_what_ends_half_way_leaves_nothing_half(zoo, tmp_path, name, error, monkeypatch, capsys):
    file = table(tmp_path / "rows.csv", [["0", "1"]] * 9, ["x", "y"])
    (tmp_path / "old.csv").write_text("kept")
    monkeypatch.setattr("dropmax.training.instances.AT_ONCE", 2)
    asked = []

    def breaks(*given, **options):
        asked.append(given)
        if len(asked) == 3:
            raise error
        return predict(*given, **options)

    monkeypatch.setattr(of_training, "predict", breaks)
    code = main(["predict", str(zoo), file, "--out", str(tmp_path / name), "--quiet"])
    assert code == {KeyboardInterrupt: 130, RuntimeError: 1}.get(error, 2)
    assert len(asked) == 3
    assert "disk full" in capsys.readouterr().err or not isinstance(error, OSError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.csv", "rows.csv"]
    assert (tmp_path / "old.csv").read_text() == "kept"


def test_a_bar_is_shown_with_a_file_unless_it_is_quiet(zoo, tmp_path, capsys):
    file = table(tmp_path / "rows.csv", [["0", "1"]] * 9, ["x", "y"])
    out = str(tmp_path / "out.csv")
    for options, shown in (([], True), (["--quiet"], False)):
        assert main(["predict", str(zoo), file, "--out", out, *options]) == 0
        assert ("9/9 rows" in capsys.readouterr().out) == shown
