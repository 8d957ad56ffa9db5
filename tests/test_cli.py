"""The command: what it prints and writes, and that a mistake ends in one line and exit code 2."""

import json
import subprocess
import sys

import onnxruntime
import pytest
import torch
from blocks import ROOT, examples_of
from PIL import Image
from tolerances import TOLERANCES, assert_close

import dropmax
from dropmax.cli import main
from dropmax.compare import RESULTS, read_lines, run_folder
from dropmax.data import load_data
from dropmax.heads import registry
from dropmax.metrics import evaluate
from dropmax.training import RunConfig, load_run
from dropmax.training.classifier import predict

SMALL = ["--data", "digits", "--train-per-class", "5", "--epochs", "2", "--quiet"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run and an image of its size."""
    folder = tmp_path_factory.mktemp("trained")
    assert main(["train", *SMALL, "--out", str(folder / "run")]) == 0
    digits = load_data("digits")
    Image.fromarray(digits.test.inputs[0, 0].numpy()).save(folder / "digit.png")
    return folder


def test_train_and_evaluate_print_the_same_metrics(trained, capsys):
    metrics = load_run(trained / "run").metrics["test"]
    assert main(["evaluate", str(trained / "run")]) == 0
    printed = capsys.readouterr().out.split("\n")
    assert printed[0].split() == ["error", f"{metrics['error']:.3f}", "%"]
    assert printed[1].split() == ["nll", f"{metrics['nll']:.3f}", "nats"]


def test_the_exact_predictive_is_another_one(trained, capsys):
    run, image = str(trained / "run"), str(trained / "digit.png")
    printed = []
    for method in ("plugin", "exact"):
        assert main(["predict", run, image, "--method", method]) == 0
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0]["retained"] == printed[1]["retained"]
    assert printed[0]["top"][0]["probability"] != printed[1]["top"][0]["probability"]
    loaded = load_run(trained / "run")
    digits = load_data("digits").test
    log_probs = predict(loaded.classifier(), digits.inputs, method="exact").log_probs
    assert main(["evaluate", run, "--method", "exact"]) == 0
    nll = f"{evaluate(log_probs, digits.target).nll:.3f}"
    assert capsys.readouterr().out.split("\n")[1].split() == ["nll", nll, "nats"]


def test_compare_reports_the_exact_predictive_where_a_head_has_one(tmp_path, capsys):
    heads = ["--heads", "softmax,dropmax", "--seeds", "1"]
    for method in ("plugin", "exact"):
        out = ["--out", str(tmp_path / method), "--method", method]
        assert main(["compare", *SMALL, *heads, *out]) == 0
    capsys.readouterr()
    plugin, exact = (
        {line["config"]["head"]: line["test"] for line in read_lines(tmp_path / name / RESULTS)}
        for name in ("plugin", "exact")
    )
    assert plugin["softmax"] == exact["softmax"]
    assert plugin["dropmax"]["nll"] != exact["dropmax"]["nll"]
    run = str(run_folder(tmp_path / "exact", RunConfig("digits", "dropmax")))
    assert main(["evaluate", run]) == 0
    printed = capsys.readouterr().out.split("\n")[1].split()
    assert printed == ["nll", f"{exact['dropmax']['nll']:.3f}", "nats"]


def test_predict_prints_a_json_line_an_image(trained, capsys):
    image = str(trained / "digit.png")
    assert main(["predict", str(trained / "run"), image, image, "--top", "2"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second
    assert first["file"] == image
    assert len(first["top"]) == 2
    assert first["top"][0]["probability"] >= first["top"][1]["probability"]
    assert {one["class"] for one in first["top"]} <= set("0123456789")
    assert all(one["retain_probability"] >= 0.5 for one in first["retained"])


def test_a_head_without_gate_retains_nothing_to_name(tmp_path, trained, capsys):
    out = str(tmp_path / "run")
    assert main(["train", *SMALL, "--head", "softmax", "--out", out]) == 0
    capsys.readouterr()
    assert main(["predict", out, str(trained / "digit.png")]) == 0
    assert json.loads(capsys.readouterr().out)["retained"] is None
    file = tmp_path / "model.onnx"
    assert main(["export", out, str(file), "--method", "exact"]) == 2
    assert "method must be one of plugin" in capsys.readouterr().err
    assert not file.exists()


def test_files_that_cannot_be_predicted_have_a_line_that_says_why(trained, tmp_path, capsys):
    run, image = str(trained / "run"), str(trained / "digit.png")
    large, text = tmp_path / "large.png", tmp_path / "file.txt"
    Image.new("L", (9, 9)).save(large)
    text.write_text("no picture")
    for files, code, broken in (([image, large, text], 0, 2), ([text, large], 2, 2)):
        assert main(["predict", run, *map(str, files)]) == code
        printed = capsys.readouterr()
        lines = [json.loads(line) for line in printed.out.splitlines()]
        assert [line["file"] for line in lines] == list(map(str, files))
        assert sum("error" in line for line in lines) == broken
        assert f"{broken} of {len(files)}" in printed.err


def test_export_writes_a_file_and_prints_how_close_it_is(trained, tmp_path, capsys):
    file = tmp_path / "model.onnx"
    assert main(["export", str(trained / "run"), str(file), "--output", "probs"]) == 0
    first, second, size = capsys.readouterr().out.splitlines()
    for line, batch in ((first, 1), (second, 64)):
        before, _, after = line.partition(" within ")
        assert before == f"batch {batch:2}: probabilities"
        difference, _, rest = after.partition(" ")
        assert 0.0 < float(difference) <= TOLERANCES[torch.float32, "onnx"][1]
        assert rest == "of torch's on 8 rows"
    assert size == f"{file}: {file.stat().st_size / 1e6:.2f} MB"
    images = load_data("digits").test.inputs[:7]
    session = onnxruntime.InferenceSession(file)
    (probs,) = session.run(["probs"], {"input": images.numpy()})
    run = load_run(trained / "run")
    expected = predict(run.classifier(), images, scaling=run.scaling).log_probs.exp()
    assert_close(torch.from_numpy(probs), expected, "onnx")
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    assert names == list("0123456789")


def test_export_without_onnxruntime_names_the_extra(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(trained / "run"), str(tmp_path / "model.onnx")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'dropmax[onnx]'" in line
    assert list(tmp_path.iterdir()) == []


def test_compare_writes_lines_table_and_figures(tmp_path, capsys):
    heads = "softmax,softmax:label_smoothing=0.1,dropmax:kl_weight=0.5,aux_weight=2.0"
    command = ["compare", *SMALL, "--heads", heads, "--seeds", "2", "--out", str(tmp_path)]
    assert main(command) == 0
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(lines) == 6
    table = (tmp_path / "table.md").read_text()
    name, _, error, *_ = (cell.strip(" `") for cell in table.splitlines()[-1].split("|")[1:])
    (printed,) = (row for row in capsys.readouterr().out.splitlines() if row.startswith(f" {name}"))
    assert error in printed
    assert "`dropmax:kl_weight=0.5,aux_weight=2.0`" in table
    for figure in ("error", "reliability", "learning_curves", "gate"):
        with Image.open(tmp_path / f"{figure}.png") as image:
            assert min(image.size) > 200
        assert "<svg" in (tmp_path / f"{figure}.svg").read_text()[:1000]
    assert main(command) == 0
    assert (tmp_path / "results.jsonl").read_text().splitlines() == lines


TRAIN = ["train", *SMALL, "--out", "OUT"]
COMPARE = ["compare", *SMALL, "--out", "OUT"]
EXPORT = ["export", "RUN", "OUT"]
WRONG = {
    "no command": ["trian"],
    "no option": [*TRAIN, "--hed", "softmax"],
    "no data": ["train", "--out", "OUT"],
    "no out": ["train", "--data", "digits"],
    "no number": [*TRAIN, "--seed", "one"],
    "unknown head": [*TRAIN, "--head", "drop-max"],
    "unknown option of a head": [*TRAIN, "--head", "softmax:smoothing=0.1"],
    "option of no form": [*TRAIN, "--head", "softmax:0.1"],
    "value out of range": [*TRAIN, "--head", "dropmax:temperature=-1.0"],
    "unknown backbone": [*TRAIN, "--backbone", "vgg"],
    "images too small": [*TRAIN, "--backbone", "lenet"],
    "unknown predictive": [*TRAIN, "--method", "monte_carlo"],
    "unknown protocol": [*TRAIN, "--protocol", "oficial"],
    "zero epochs": [*TRAIN, "--epochs", "0"],
    "zero batch": [*TRAIN, "--batch-size", "0"],
    "negative seed": [*TRAIN, "--seed", "-1"],
    "too many a class": [*TRAIN, "--train-per-class", "9999"],
    "no such folder": ["train", "--data", "./nowhere", "--out", "OUT"],
    "no such data set": ["train", "--data", "nowhere", "--out", "OUT"],
    "no such column": [*TRAIN, "--label-column", "lable"],
    "column of no images": [*TRAIN, "--image-column", "label"],
    "out is a file": ["train", *SMALL, "--out", "FILE"],
    "out is something else": ["train", *SMALL, "--out", "OCCUPIED"],
    "no accelerator": [*TRAIN, "--accelerator", "abacus"],
    "no such device here": [*TRAIN, "--accelerator", "tpu"],
    "no precision": [*TRAIN, "--precision", "7"],
    "no heads": [*COMPARE, "--heads", ""],
    "head twice": [*COMPARE, "--heads", "softmax,softmax"],
    "one head unknown": [*COMPARE, "--heads", "softmax,nosuch"],
    "no seeds": [*COMPARE, "--seeds", "0"],
    "no jobs": [*COMPARE, "--jobs", "0"],
    "no threads": [*COMPARE, "--threads", "-1"],
    "compare into something else": ["compare", *SMALL, "--out", "OCCUPIED"],
    "no run": ["evaluate", "OUT"],
    "no image": ["predict", "RUN", "OUT"],
    "no such predictive": ["evaluate", "RUN", "--method", "exactly"],
    "predictive that samples": ["predict", "RUN", "IMAGE", "--method", "monte_carlo"],
    "no top": ["predict", "RUN", "IMAGE", "--top", "0"],
    "export of no run": ["export", "OUT", "OUT"],
    "export to nowhere": ["export", "RUN"],
    "export into a folder": ["export", "RUN", "OCCUPIED"],
    "export into a folder that is not there": ["export", "RUN", "NOWHERE"],
    "export of a predictive that samples": [*EXPORT, "--method", "monte_carlo"],
    "export of no such output": [*EXPORT, "--output", "logits"],
    "export of nodes that nothing reads": [*EXPORT, "--num-nodes", "64"],
    "export of zero nodes": [*EXPORT, "--method", "exact", "--num-nodes", "0"],
    "export of too few nodes": [*EXPORT, "--method", "exact", "--num-nodes", "8"],
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.usefixtures("untyped")
def test_a_mistake_is_one_line_and_exit_code_2_and_leaves_nothing(case, trained, tmp_path, capsys):
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.tex").write_text("...")
    places = {
        "OUT": tmp_path / "out",
        "NOWHERE": tmp_path / "nowhere" / "model.onnx",
        "FILE": tmp_path / "file.txt",
        "OCCUPIED": tmp_path / "occupied",
        "RUN": trained / "run",
        "IMAGE": trained / "digit.png",
    }
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main([str(places.get(part, part)) for part in WRONG[case]]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert len(printed.err) > 20
    assert "Traceback" not in printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_of_another_experiment_is_kept(trained, capsys):
    before = (trained / "run" / "metrics.json").read_text()
    assert main(["train", *SMALL, "--seed", "5", "--out", str(trained / "run")]) == 2
    assert "another experiment (seed)" in capsys.readouterr().err
    assert (trained / "run" / "metrics.json").read_text() == before


def test_a_run_that_breaks_down_names_the_term_and_exits_with_1(tmp_path, capsys, monkeypatch):
    from dropmax.heads import SoftmaxHead

    keep = SoftmaxHead.raw_loss

    def broken(self, scores, target, **options):
        raw = keep(self, scores, target, **options)
        return raw.of_terms(raw.nll * float("nan"), *raw[2:])

    monkeypatch.setattr(SoftmaxHead, "raw_loss", broken)
    out = str(tmp_path / "run")
    assert main(["train", *SMALL, "--head", "softmax", "--out", out]) == 1
    assert capsys.readouterr().err.startswith("dropmax train: nll must stay finite")


def test_a_mistake_of_ours_is_shown_whole_and_is_not_the_users(trained, capsys, monkeypatch):
    def broken(_):
        raise ValueError("not meant for users")

    monkeypatch.setattr("dropmax.training.load_run", broken)
    assert main(["evaluate", str(trained / "run")]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "ValueError: not meant for users" in printed
    assert "report" in printed.splitlines()[-1]


def test_debug_shows_where_a_mistake_was_met(capsys):
    for command in (["--debug", "evaluate", "nowhere"], ["evaluate", "nowhere", "--debug"]):
        assert main(command) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("Traceback")
        assert "load_run: path must be the directory of a run, got 'nowhere'" in printed


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dropmax {dropmax.__version__}\n"


def test_a_reader_that_has_seen_enough_is_no_mistake(trained):
    """As in `dropmax predict RUN FILE... | head -1`."""
    code = (
        "import os, sys; from dropmax.cli import main; "
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1); "
        "sys.exit(main(['predict', sys.argv[1], sys.argv[2]]))"
    )
    run, image = str(trained / "run"), str(trained / "digit.png")
    found = subprocess.run([sys.executable, "-c", code, run, image], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (1, "")


@pytest.mark.slow
def test_heads_of_ones_own_are_compared_by_workers_and_evaluated(tmp_path, capsys, monkeypatch):
    (code, _), *_ = examples_of(ROOT / "docs" / "how-to" / "your-head.md")
    monkeypatch.syspath_prepend(tmp_path)
    file, out = tmp_path / "focal_of_the_page.py", tmp_path / "out"
    file.write_text(code)
    given = [
        "--import",
        str(file),
        "--quiet",
        "--out",
        str(out),
        "--heads",
        "softmax,focal:gamma=1",
    ]
    size = ["--data", "digits", "--train-per-class", "5", "--epochs", "1", "--seeds", "1"]
    assert main(["compare", *given, *size, "--jobs", "2"]) == 0
    assert "focal:gamma=1" in capsys.readouterr().out
    run = str(out / "runs" / "focal_gamma=1-seed0")
    registry._heads.pop("focal")
    assert main(["evaluate", run]) == 2
    assert "register_head" in capsys.readouterr().err
    sys.modules.pop(file.stem)
    assert main(["evaluate", run, "--import", str(file)]) == 0


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("nowhere.py", None, "be a file"),
        ("heads.txt", "", "be a Python file"),
        ("torch.py", "", "have a name that no other module has"),
        ("broken_heads.py", "x =", "SyntaxError"),
    ],
)
def test_what_cannot_be_imported(name, text, says, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    if text is not None:
        (tmp_path / name).write_text(text)
    assert main(["evaluate", "run", "--import", str(tmp_path / name)]) == 2
    assert says in capsys.readouterr().err
