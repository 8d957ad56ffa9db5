"""Columns of a table: which are left out, what they hold, labels, formats, and runs on them."""

import json

import numpy as np
import pandas
import pytest
import safetensors.torch
import torch
from raised import raises

from dropmax.cli import main
from dropmax.data import DataWarning, LabeledData, Record, load_data, tables
from dropmax.data import texts as text
from dropmax.integrations.sklearn.rows import record_of
from dropmax.training import RunConfig, data_of, describe_predictions, load_run, train

COUNT = 120


def frame_of(count=COUNT, seed=0):
    """A category, a number with gaps, a boolean, a date and a label that follows from them."""
    random = np.random.default_rng(seed)
    frame = pandas.DataFrame(
        {
            "color": random.choice(["red", "blue", "green"], count),
            "weight": random.normal(size=count).round(3),
            "new": random.random(count) > 0.5,
            "sold": pandas.Timestamp("2024-01-01")
            + pandas.to_timedelta(random.integers(0, 700, count), unit="D"),
        }
    )
    frame["label"] = np.where((frame["color"] == "red") | frame["new"], "yes", "no")
    frame.loc[random.random(count) < 0.1, ["weight", "color"]] = None
    return frame


WRITERS = {
    "a.csv": lambda frame, file: frame.to_csv(file, index=False),
    "a.csv.gz": lambda frame, file: frame.to_csv(file, index=False),
    "A.TSV": lambda frame, file: frame.to_csv(file, index=False, sep="\t"),
    "a.tsv.gz": lambda frame, file: frame.to_csv(file, index=False, sep="\t"),
    "semicolons.csv": lambda frame, file: frame.to_csv(file, index=False, sep=";"),
    "quoted.csv": lambda frame, file: frame.to_csv(file, index=False, quoting=1),
    "a.parquet": lambda frame, file: frame.to_parquet(file, index=False),
    "levels.parquet": lambda frame, file: frame.astype({"color": "category"}).to_parquet(file),
}


@pytest.mark.parametrize("name", WRITERS)
def test_one_table_is_one_data_set_in_every_format(name, tmp_path):
    frame = frame_of()
    WRITERS["a.csv"](frame, tmp_path / "first.csv")
    WRITERS[name](frame, tmp_path / name)
    first, data = (load_data(str(tmp_path / file)) for file in ("first.csv", name))
    assert data.record == first.record
    assert data.record.kinds == dict(
        zip(frame.columns[:4], ["category", "number", "boolean", "date"], strict=True)
    )
    assert data.digest == first.digest
    assert torch.equal(data.train.inputs, first.train.inputs)
    assert len(data.train) + len(data.test) == COUNT, "no row is left out"


LEFT_OUT = {
    "Unnamed: 0": np.arange(COUNT),
    "Unnamed: 0.1": np.linspace(0.0, 1.0, COUNT),
    "shuffled": np.random.default_rng(0).permutation(COUNT),
    "from_one": np.arange(COUNT) + 1.0,
    "user_id": np.arange(COUNT) * 7 + 1000,
    "customerID": [f"C-{n * 13}" for n in range(COUNT)],
    "uuid": [f"{n:032x}" for n in range(COUNT)],
    "numbers with a gap": [None, *range(1, COUNT)],
    "id": [*range(100, 99 + COUNT), 100],
    "row": ["r7", *(f"r{n}" for n in range(1, COUNT))],
    "constant": ["same"] * COUNT,
    "one number": [3.5] * COUNT,
    "empty": [None] * COUNT,
    "comment": [f"{n} words of its own" for n in range(COUNT)],
    "day": [f"{n % 28 + 1}.{n % 12 + 1}.20{n % 90 + 10}" for n in range(COUNT)],
}
KEPT = {
    "valid": np.arange(COUNT) * 2,
    "order_id": np.arange(COUNT) // 4 + 7,
    "levels": [f"level {n % 20}" for n in range(COUNT)],
    "a gap or not": [None, "x"] * (COUNT // 2),
}


@pytest.mark.parametrize("name", LEFT_OUT)
@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_a_column_that_says_nothing_is_left_out_and_told(name, end, tmp_path):
    frame = frame_of().assign(**{name: LEFT_OUT[name]})
    WRITERS[f"a.{end}"](frame, file := tmp_path / f"a.{end}")
    with pytest.warns(DataWarning) as warned:
        data = load_data(str(file))
    assert len(warned) == 1
    assert repr(name) in str(warned[0].message)
    assert name not in data.columns
    if name != "empty":
        assert name in load_data(str(file), keep=[name]).columns
    assert load_data(str(file), drop=[name]).columns == data.columns


@pytest.mark.parametrize("name", KEPT)
def test_a_column_that_says_something_is_kept(name, tmp_path):
    WRITERS["a.csv"](frame_of().assign(**{name: KEPT[name]}), tmp_path / "a.csv")
    assert name in load_data(str(tmp_path / "a.csv")).columns


def test_a_column_to_keep_is_of_a_kind_that_can_be_learned_from(tmp_path):
    frame = frame_of().assign(took=pandas.to_timedelta(np.arange(COUNT), unit="s"))
    WRITERS["a.parquet"](frame, tmp_path / "a.parquet")
    with raises(ValueError, "load_data: keep"):
        load_data(str(tmp_path / "a.parquet"), keep=["took"])


def test_columns_to_drop_and_to_keep_are_columns(tmp_path):
    WRITERS["a.csv"](frame_of(), file := tmp_path / "a.csv")
    for wrong in ({"drop": ["colour"]}, {"keep": ["label"]}, {"drop": ["new"], "keep": ["new"]}):
        with raises(ValueError, f"load_data: {list(wrong)[-1]}"):
            load_data(str(file), **wrong)
    with raises(ValueError, "load_data: columns"):
        load_data(str(file), drop=["color", "weight", "new", "sold"])


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", ["drop", "keep"])
@pytest.mark.parametrize("wrong", ["new", (1,)])
def test_settings_name_columns(name, wrong):
    with raises(ValueError, f"RunConfig: {name}"):
        RunConfig("a.csv", "softmax", **{name: wrong})


def test_lists_are_left_out_and_told(tmp_path):
    frame = frame_of().assign(tags=[[1, 2]] * COUNT)
    WRITERS["a.parquet"](frame, tmp_path / "a.parquet")
    with pytest.warns(DataWarning, match="'tags' .*List"):
        assert "tags" not in load_data(str(tmp_path / "a.parquet")).columns


@pytest.mark.parametrize(
    "name", ["a.xlsx", "a.json", "a.jsonl", "a.feather", "a.zip", "a.txt", "a.dta", "a.unknown"]
)
def test_another_format_is_refused_with_the_way_to_convert_it(name, tmp_path):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with raises(ValueError, "load_data: source") as raised:
        load_data(str(tmp_path / name))
    assert ("pandas.read_" in str(raised.value)) == (name != "a.unknown")


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ([1, 1.0, "1", "1.0", "1.", " 1 ", "+1", True, "true", "TRUE", np.True_], "1"),
        ([0, -0.0, "0", "-0.0", False, "false", "False"], "0"),
        ([-1, "-1", -1.0], "-1"),
        (["007"], "007"),
        (["1.10"], "1.10"),
        (["01.0"], "01.0"),
        (["1e3"], "1e3"),
        (["12345678901234567890", 12345678901234567890], "12345678901234567890"),
        (["nan"], "nan"),
        ([None, float("nan"), "", "  "], None),
    ],
)
def test_the_name_of_a_class_is_one_however_its_label_is_stored(labels, name):
    assert {tables.name_of(label) for label in labels} == {name}


@pytest.mark.parametrize(("ends", "first"), [(("csv", "csv"), float), (("csv", "parquet"), bool)])
def test_labels_of_train_and_test_are_matched_by_value(ends, first, tmp_path):
    frame = frame_of()
    label = (frame["label"] == "yes").astype(int)
    for name, end, kind in (("train", ends[0], first), ("test", ends[1], int)):
        file = tmp_path / f"{name}.{end}"
        WRITERS[f"a.{end}"](frame.assign(label=label.astype(kind)), file)
    data = load_data(str(tmp_path))
    assert data.class_names == ("0", "1")
    assert data.train.target.tolist() == data.test.target.tolist() == label.tolist()


def test_a_record_is_fitted_to_training_rows_alone(tmp_path):
    frame = frame_of()
    WRITERS["a.csv"](frame, tmp_path / "train.csv")
    other = frame.assign(weight=frame["weight"] * 1000, color="pink")
    WRITERS["a.csv"](other, tmp_path / "test.csv")
    data = load_data(str(tmp_path))
    assert data.record == load_data(str(tmp_path / "train.csv"), test_fraction=0.0).record
    whole = load_data(str(tmp_path / "train.csv"))
    rows = frame.iloc[sorted(map(int, whole.train.ids))]
    (weight,) = (column for column in whole.record.columns if column.name == "weight")
    assert weight.medians == (rows["weight"].median(),)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("columns")
    frame = frame_of(400).assign(user_id=np.arange(400) + 9, seen=np.arange(400))
    WRITERS["a.csv"](frame, folder / "a.csv")
    command = ["train", "--data", str(folder / "a.csv"), "--protocol", "modern", "--epochs", "40"]
    command += ["--drop", "user_id", "--keep", "seen", "--quiet", "--out", str(folder / "run")]
    assert main(command) == 0
    return folder


@pytest.mark.xdist_group("columns")
def test_a_run_keeps_its_record_and_answers_every_row(trained, tmp_path):
    run = load_run(trained / "run")
    assert (run.config.drop, run.config.keep) == (("user_id",), ("seen",))
    assert RunConfig.from_dict(json.loads(json.dumps(run.config.to_dict()))) == run.config
    assert run.columns == ("color", "weight", "new", "sold", "seen") == run.record.names
    described = json.loads((trained / "run" / "run.json").read_text(encoding="utf-8"))
    assert Record.from_dict(described["record"]) == run.record
    assert data_of(run, trained).record == run.record
    new = frame_of(50, seed=3).drop(columns="label").assign(seen=5)
    WRITERS["a.csv"](new, tmp_path / "sound.csv")
    sound = list(describe_predictions(run, [tmp_path / "sound.csv"]))
    assert not any({"note", "error"} & set(line) for line in sound)
    truth = frame_of(50, seed=3)["label"]
    right = [line["top"][0]["class"] == k for line, k in zip(sound, truth, strict=True)]
    assert np.mean(np.array(right)[new["color"].notna()]) > 0.9
    odd = new.astype(object)
    odd.loc[0, "color"], odd.loc[1, "weight"] = "pink", "heavy"
    odd.loc[2, "sold"], odd.loc[3, "new"] = "yesterday", "perhaps"
    odd.loc[4, "seen"], odd.loc[5, "weight"] = None, "1e400"
    WRITERS["a.csv"](odd, tmp_path / "odd.csv")
    lines = list(describe_predictions(run, [tmp_path / "odd.csv"]))
    assert [n for n, line in enumerate(lines) if "note" in line] == [0, 1, 2, 3, 4, 5]
    assert all("top" in line for line in lines)
    said = ("answer", "top", "retained")
    for line, expected in zip(lines[6:], sound[6:], strict=True):
        assert [line[name] for name in said] == [expected[name] for name in said]


@pytest.mark.xdist_group("columns")
def test_a_record_that_is_damaged_is_named(trained, tmp_path):
    (tmp_path / "run").mkdir()
    for file in (trained / "run").iterdir():
        if file.is_file():
            (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "run" / "run.json"
    described = json.loads(config.read_text(encoding="utf-8"))
    described["record"]["columns"][0]["levels"] = [1]
    config.write_text(json.dumps(described), encoding="utf-8")
    with raises(ValueError, "load_run: path"):
        load_run(tmp_path / "run")


def test_a_run_from_before_there_were_records_predicts_as_it_did(tmp_path):
    """Its classifier standardizes the columns itself; here by hand, as it was then."""
    random = np.random.default_rng(0)
    values = random.normal(loc=(5.0, 5e4), scale=(1.0, 1e3), size=(60, 2)).round(4)
    frame = pandas.DataFrame(values, columns=["x", "y"])
    frame["label"] = np.where(frame["x"] > 5.0, "a", "b")
    WRITERS["a.csv"](frame, tmp_path / "a.csv")
    config = RunConfig(str(tmp_path / "a.csv"), "softmax", epochs=5, split="half")
    run = train(config, tmp_path / "run", progress=False)

    def probabilities(of):
        lines = describe_predictions(of, [tmp_path / "a.csv"])
        return [one["probability"] for line in lines for one in line["top"]]

    expected = probabilities(run)
    fitted = [(c.means[0], c.scales[0]) for c in run.record.columns]
    described = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    del described["record"]
    (run.path / "run.json").write_text(json.dumps(described), encoding="utf-8")
    weights = safetensors.torch.load_file(run.path / "model.safetensors")
    weights["pixels.mean"], weights["pixels.std"] = map(torch.tensor, zip(*fitted, strict=True))
    safetensors.torch.save_file(weights, run.path / "model.safetensors")
    before = load_run(run.path)
    means = map(float, weights["pixels.mean"])
    assert before.record == Record.plain(dict(zip("xy", means, strict=True)))
    assert probabilities(before) == pytest.approx(expected, abs=1e-4)
    test = data_of(before, tmp_path).test
    assert torch.equal(test.inputs, rows_of(frame, test))
    assert train(config, run.path, progress=False).record == before.record, "finished, it stays"


def rows_of(frame, part: LabeledData):
    return torch.tensor(frame.iloc[list(map(int, part.ids))][["x", "y"]].to_numpy(np.float32))


class Stub:
    def encode(self, texts, **_):
        return [[float(one.count(c)) for c in "abcde"] for one in texts]


def test_a_category_of_numbers_is_one_in_parquet_as_in_the_estimator(tmp_path):
    frame = frame_of()
    codes = frame.assign(code=np.arange(COUNT) % 3 + 1)
    codes.to_parquet(tmp_path / "numbers.parquet", index=False)
    codes.astype({"code": "category"}).to_parquet(tmp_path / "levels.parquet", index=False)
    found = [load_data(str(tmp_path / f"{name}.parquet")).record for name in ("numbers", "levels")]
    assert [record.kinds["code"] for record in found] == ["number", "category"]
    assert found[1].columns[-1].levels == ("1", "2", "3")
    of_estimator = record_of(codes.astype({"code": "category"}).drop(columns="label"))
    assert of_estimator.kinds == found[1].kinds


def test_texts_to_predict_may_stand_under_another_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DROPMAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(text, "_model", lambda _: Stub())
    lines = [f"{'ab' * n},{'one' if n % 2 else 'two'}" for n in range(1, 21)]
    (tmp_path / "a.csv").write_text("\n".join(["message,label", *lines]), encoding="utf-8")
    config = RunConfig(
        str(tmp_path / "a.csv"), "softmax", epochs=1, encoder="x", text_column="message"
    )
    run = train(config, tmp_path / "run", progress=False)

    def predicted(content):
        (tmp_path / "new.csv").write_text(content, encoding="utf-8")
        lines = describe_predictions(run, [tmp_path / "new.csv"])
        return [{name: line[name] for name in ("row", "answer", "top")} for line in lines]

    (known,) = predicted("message\nabab\n")
    for other in ("text\nabab\n", "label,text\none,abab\n", ",text\n0,abab\n"):
        with pytest.warns(DataWarning, match="'text' holds the texts"):
            assert predicted(other) == [known]
    assert predicted("other,message\ncc,abab\n") == [known]
    with pytest.warns(DataWarning, match="'text' holds the texts"):
        assert predicted("number,text\n7,abab\n") == [known]
    with raises(ValueError, "describe_predictions: files"):
        predicted("text,more\nabab,cc\n")
