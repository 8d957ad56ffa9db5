"""Studies: many comparisons in a file, run where they lack, and the pages made of their lines."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from raised import raises

import dropmax
from dropmax._files import make_folder
from dropmax.compare import append_line, read_lines
from dropmax.data import load_data
from studies import load_study, progress_of, run_study, update_pages, with_blocks
from studies.__main__ import main

RESULTS = Path(__file__).parents[1] / "studies" / "results"
COMMITTED = sorted(Path(__file__).parents[1].glob("studies/*.yaml"))
TEXT = """
title: Which head is best on digits?
names:
  zeros: sparsemax
parts:
  few: &part
    data: digits
    train_per_class: 5
    epochs: 1
    minutes: 0.5
    gates: dropmax:preset=paper
    tested_on: [background]
    report:
      - {heads: [softmax, dropmax:preset=paper], seeds: 2}
      - {heads: [zeros], seeds: [3]}
  classes:
    <<: *part
    gates:
    tested_on: []
    num_classes: 4
    dropout: 0.5
    report: [{heads: [softmax], seeds: 1}]
"""


def write(folder, text=TEXT):
    (folder / "digits.yaml").write_text(text)
    return folder / "digits.yaml"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A project whose study has been run."""
    root = tmp_path_factory.mktemp("project")
    studies = root / "studies"
    studies.mkdir()
    study = load_study(write(studies))
    run_study(study, studies / "results", threads=1, progress=False)
    return root, study


def test_a_part_is_a_line_a_run_with_its_own_seeds(ran):
    root, study = ran
    lines = read_lines(root / "studies/results/digits/few/results.jsonl")
    assert [(line["config"]["head"], line["config"]["seed"]) for line in lines] == [
        ("softmax", 0),
        ("dropmax:preset=paper", 0),
        ("softmax", 1),
        ("dropmax:preset=paper", 1),
        ("sparsemax", 3),
    ]
    assert [config.seed for config in study.parts[0].configs] == [0, 0, 1, 1, 3]
    for line in lines:
        assert line["epochs"] == 1
    assert lines[1]["options"]["aux_prior"] == "label"
    assert lines[1]["options"]["temperature"] == 0.1


def test_a_part_may_have_other_settings(ran):
    root, _ = ran
    (line,) = read_lines(root / "studies/results/digits/classes/results.jsonl")
    assert line["config"]["num_classes"] == 4
    run = root / "studies/results/digits/classes/runs/softmax-seed0"
    assert len(json.loads((run / "run.json").read_text())["class_names"]) == 4


def test_a_study_goes_on_where_lines_are_missing(ran, tmp_path):
    root, study = ran
    results = tmp_path / "results"
    few = results / "digits" / "few"
    few.mkdir(parents=True)
    source = root / "studies/results/digits/few/results.jsonl"
    kept = source.read_bytes().splitlines(keepends=True)[:4]
    (few / "results.jsonl").write_bytes(b"".join(kept))
    assert progress_of(study, results) == (4, 6, pytest.approx(1.0 / 60.0))
    run_study(study, results, threads=1, progress=False)
    assert (few / "results.jsonl").read_bytes().splitlines(keepends=True)[:4] == kept
    assert progress_of(study, results) == (6, 6, 0.0)


def test_trained_runs_are_looked_at_again(ran):
    """The gates, and the same runs on changed test images."""
    results = ran[0] / "studies/results/digits"
    assert [line["kind"] for line in read_lines(results / "few/gates.jsonl")].count("ranks") == 2
    clean = read_lines(results / "few/results.jsonl")
    changed = read_lines(results / "few-on-background/results.jsonl")
    assert [line["config"] for line in changed] == [line["config"] for line in clean]
    for one, other in zip(changed, clean, strict=True):
        assert one["tested_on"] == "background"
        assert one["test"] != other["test"]
        assert one["train"] == other["train"]
    assert not (results / "classes-on-background").exists()


def test_changed_lines_that_are_missing_are_made(ran):
    root, study = ran
    results = root / "studies/results"
    file = results / "digits/few-on-background/results.jsonl"
    whole = read_lines(file)
    file.write_text("".join(json.dumps(line) + "\n" for line in whole[:-1]))
    run_study(study, results, threads=1, progress=False)
    assert read_lines(file)[:-1] == whole[:-1]
    assert read_lines(file)[-1]["test"] == whole[-1]["test"]


def test_no_run_is_made_twice(ran, tmp_path, capsys):
    """A part borrows the lines of the runs that another has made."""
    root, _ = ran
    other = load_study(write(tmp_path, TEXT.replace("few:", "many:")))
    results = tmp_path / "results"
    shutil.copytree(root / "studies/results/digits", results / "first")
    (part,) = (part for part in other.parts if part.name == "many")
    run_study(replace(other, parts=(replace(part, gates=None, tested_on=()),)), results)
    lines = read_lines(results / "digits/many/results.jsonl")
    assert sorted(map(json.dumps, lines)) == sorted(
        map(json.dumps, read_lines(results / "first/few/results.jsonl"))
    )
    assert not (results / "digits/many/runs").exists()
    capsys.readouterr()


def test_a_line_of_an_earlier_default_is_not_borrowed_but_made_anew(tmp_path):
    text = TEXT.replace("[softmax, dropmax:preset=paper]", "[dropmax]")
    study = load_study(write(tmp_path, text))
    few = replace(study.parts[0], configs=study.parts[0].configs[:1], gates=None, tested_on=())
    study = replace(study, parts=(few,))
    run_study(study, tmp_path / "results", threads=1, progress=False)
    folder = tmp_path / "results" / "digits"
    (line,) = read_lines(folder / "few" / "results.jsonl")
    stale = {**line, "seconds": 99.0, "options": {**line["options"], "kl_weight": 4.0}}
    (folder / "few" / "results.jsonl").write_text(json.dumps(stale) + "\n")
    (folder / "few").rename(folder / "other")
    run_study(study, tmp_path / "results", threads=1, progress=False)
    (made,) = read_lines(folder / "few" / "results.jsonl")
    assert made["options"] == line["options"]
    assert made["test"] == line["test"]


CHOICE = "choice: [{heads: [softmax], seeds: [100]}]\n    report:\n"
WRONG = {
    "no yaml": ("title: [", ValueError, "load_study: file"),
    "no parts": ("title: x", ValueError, "load_study: digits.yaml"),
    "another name": (
        "title: x\nparts: {a: {}}\nmore: 1",
        ValueError,
        "load_study: a name in digits.yaml",
    ),
    "names in a list": (
        "title: x\nnames: [softmax]\nparts: {a: {}}",
        TypeError,
        "load_study: names",
    ),
    "no minutes": ("title: x\nparts: {a: {data: digits}}", ValueError, "load_study: part a"),
    "no runs": (
        "title: x\nparts: {a: {data: digits, minutes: 1}}",
        ValueError,
        "load_study: part a",
    ),
    "a report of seeds for a choice": (
        TEXT.replace("seeds: [3]", "seeds: [100]"),
        ValueError,
        "load_study: seeds in report of few",
    ),
    "a choice by seeds of the report": (
        TEXT.replace("report: [{heads: [softmax]", "choice: [{heads: [softmax]"),
        ValueError,
        "load_study: seeds in choice of classes",
    ),
    "a choice that nothing decides": (
        TEXT.replace("report: [{heads: [softmax], seeds: 1}]", CHOICE + "    split: half\n"),
        ValueError,
        "load_study: part classes",
    ),
    "a setting": (
        TEXT.replace("epochs: 1", "epoch: 1"),
        ValueError,
        "RunConfig.from_dict: a setting",
    ),
    "a change": (
        TEXT.replace("[background]", "[rain]"),
        ValueError,
        "load_study: tested_on of few",
    ),
    "a run twice": (
        TEXT.replace("[zeros], seeds: [3]", "[softmax], seeds: [1]"),
        ValueError,
        "load_study: runs of few",
    ),
    "a way of judging": (
        TEXT.replace("minutes: 0.5", "calibrated: {passess: 3}\n    minutes: 0.5"),
        ValueError,
        "load_study: calibrated of few",
    ),
    "folds of an ensemble": (
        TEXT.replace("minutes: 0.5", "calibrated: {folds: 3, members: 2}\n    minutes: 0.5"),
        ValueError,
        "Judging: folds",
    ),
}


def test_what_chooses_and_what_is_reported_have_seeds_of_their_own(tmp_path):
    text = TEXT.replace("report: [{heads: [softmax], seeds: 1}]", CHOICE + "    split: fraction\n")
    few, classes = load_study(write(tmp_path, text)).parts
    assert [config.seed for config in classes.configs] == [100]
    assert classes.configs[0].validation_fraction_of(load_data("digits")) > 0.0
    assert max(config.seed for config in few.configs) < 100


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_committed_lines_are_of_runs_that_their_study_names_for_one_use(file):
    """Read by its own words, not by the loader: no seed of a choice is reported."""
    described = yaml.safe_load(file.read_text())
    for name, part in described["parts"].items():
        named = {"choice": set(), "report": set()}
        for use, seeds in named.items():
            for group in part.get(use) or ():
                given = group["seeds"]
                seeds.update(range(given) if isinstance(given, int) else given)
        assert all(seed >= 100 for seed in named["choice"])
        assert all(seed < 100 for seed in named["report"])
        lines = read_lines(file.parent / "results" / file.stem / name / "results.jsonl")
        for line in lines:
            assert line["config"]["seed"] in named["choice"] | named["report"]
            assert line["config"]["seed"] < 100 or "validation" in line


CLASSES = {"hwu64": 64, "banking77": 77, "cifar100-small": 100, "photos-20": 20}
"""Of the data of committed lines; the others have ten or two."""


def test_lines_of_dropmax_without_options_are_of_the_default_that_it_has_now():
    files = [file for file in RESULTS.glob("**/results.jsonl") if "runs" not in file.parts]
    lines = [line for file in files for line in read_lines(file)]
    plain = [line for line in lines if line["config"]["head"] == "dropmax"]
    assert plain
    for line in plain:
        config = line["config"]
        classes = config.get("num_classes") or CLASSES.get(config["data"], 10)
        now = dropmax.make_head("dropmax", 4, classes).options()
        then = line["options"]
        assert then.keys() >= {"kl_weight", "entropy_weight", "aux_prior", "plugin_share"}
        for option in then.keys() & now.keys():  # older lines lack some, and have others
            assert then[option] == now[option], (config["data"], config["seed"], option)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_studies(name, tmp_path):
    text, kind, where = WRONG[name]
    with raises(kind, where):
        load_study(write(tmp_path, text))


def test_the_command_lists_and_runs_studies(ran, capsys, monkeypatch):
    root, _ = ran
    monkeypatch.chdir(root)
    assert main([]) == 0
    assert "6 of   6 runs, whole: Which head is best on digits?" in capsys.readouterr().out
    assert main(["digits", "--quiet"]) == 0
    assert main(["digit"]) == 2
    assert "did you mean 'digits'?" in capsys.readouterr().err


def test_the_command_without_studies(tmp_path, capsys):
    assert main(["--folder", str(tmp_path)]) == 2
    assert "--folder must hold the studies" in capsys.readouterr().err


PAGE = """# Digits

<!-- compare: digits/few --><!-- end -->

The error is <!-- value: digits/few mean error softmax -->?<!-- end --> %, its ratio
<!-- value: digits/few ratio error dropmax:preset=paper softmax -->?<!-- end -->, the difference
<!-- value: digits/few difference nll dropmax:preset=paper softmax -->?<!-- end -->, at most
<!-- value: digits/few high nll dropmax:preset=paper softmax -->?<!-- end -->; it took
<!-- cost: digits -->?<!-- end -->.

<!-- cross: digits error --><!-- end -->

<!-- brief: digits/few softmax sparsemax train --><!-- end -->

<!-- names: digits --><!-- end -->

<!-- ranks: digits/few --><!-- end -->

Of training: <!-- value: digits/few mean error softmax train -->?<!-- end -->.

![Reliability](figures/digits/few/reliability.png)
![Gate](figures/digits/few/gate.png)
"""


def test_pages_are_made_of_the_lines(ran, capsys):
    root, _ = ran
    (root / "README.md").write_text(PAGE)
    changed = update_pages(root)
    page = (root / "README.md").read_text()
    lines = read_lines(root / "studies/results/digits/few/results.jsonl")
    errors = {
        head: [line["test"]["error"] for line in lines if line["config"]["head"] == head]
        for head in ("softmax", "dropmax:preset=paper")
    }
    mean = sum(errors["softmax"]) / 2
    ratio = sum(errors["dropmax:preset=paper"]) / sum(errors["softmax"])
    assert f"softmax -->{mean:.2f}<!-- end --> %" in page
    assert f"softmax -->{ratio:.3f}<!-- end -->, the difference" in page
    assert "6 runs, 0.0 core-hours" in page
    assert "| head | few | classes |" in page
    trained = sum(one["train"]["error"] for one in lines if one["config"]["head"] == "softmax") / 2
    assert f"softmax train -->{trained:.2f}<!-- end -->." in page
    gates = read_lines(root / "studies/results/digits/few/gates.jsonl")
    ranked = [one["all"]["retain"] for one in gates if one["kind"] == "ranks"]
    assert f"| rho | {sum(ranked) / 2:.3f} ± " in page
    assert "| zeros | 1 |" in page
    (zeros,) = (one["train"] for one in lines if one["config"]["head"] == "sparsemax")
    assert f"| softmax | {trained:.2f} ± " in page
    assert f"| zeros | {zeros['error']:.2f} |  | {zeros['nll']:.3f} |" in page
    assert "| zeros | `sparsemax` |" in page
    figure = root / "figures/digits/few/reliability.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert changed == [root / "README.md", figure, figure.with_name("gate.png")]
    assert with_blocks(page, root / "studies") == page
    assert with_blocks(page.replace(f">{mean:.2f}<", ">1.23<"), root / "studies") == page
    assert main(["tables", "--folder", str(root / "studies")]) == 0
    assert "reliability.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("block", "kind", "where"),
    [
        ("compare: digits/none", ValueError, "with_blocks: digits/none"),
        ("value: digits/few median error softmax", ValueError, "with_blocks: a quantity"),
        ("value: digits/few mean error attention", ValueError, "with_blocks: a head of digits/few"),
        ("brief: digits/few attention", ValueError, "with_blocks: a head of digits/few"),
        ("value: digits/few ratio error sparsemax softmax", ValueError, "with_blocks: lines"),
    ],
)
def test_pages_that_ask_for_what_is_not_there(block, kind, where, ran):
    root, _ = ran
    with raises(kind, where):
        with_blocks(f"<!-- {block} --><!-- end -->", root / "studies")


def rated(head, seed, rate, *, validation, test):
    """A line of a network that was trained at a rate, with errors of 0 to 1."""
    config = {"head": head, "seed": seed, "tune": "all", "backbone_lr": rate}
    metrics = {
        split: {"error": 100 * error, "nll": error, "ece": error, "brier": error}
        for split, error in (("validation", validation), ("test", test))
    }
    return {"config": config, "seconds": 1.0, "jobs": 1, **metrics}


CHOSEN = [
    rated("softmax", 100, 1e-4, validation=0.2, test=0.9),
    rated("softmax", 100, 1e-3, validation=0.3, test=0.1),
    rated("dropmax", 100, 1e-4, validation=0.4, test=0.9),
    rated("dropmax", 100, 1e-3, validation=0.1, test=0.9),
    rated("softmax", 0, 1e-4, validation=0.9, test=0.25),
    rated("softmax", 1, 1e-4, validation=0.9, test=0.35),
    rated("softmax", 0, 1e-3, validation=0.1, test=0.0),
    rated("dropmax", 0, 1e-3, validation=0.9, test=0.20),
    rated("dropmax", 1, 1e-3, validation=0.9, test=0.28),
]


def write_rated(root, lines):
    for line in lines:
        rate = line["config"]["backbone_lr"]
        folder = root / "studies/results/rated" / f"digits-{rate:.0e}"
        append_line(make_folder(folder) / "results.jsonl", line)


def test_a_heads_rate_is_that_of_its_lowest_validation_nll(tmp_path):
    write_rated(tmp_path, CHOSEN)
    page = "<!-- chosen: rated digits softmax dropmax --><!-- end -->"
    made = with_blocks(page, tmp_path / "studies")
    assert "| softmax | 30.00 ± 7.07 | baseline |" in made
    assert "| DropMax | 24.00 ± 5.66 | -6.00 |" in made
    made = with_blocks("<!-- rates: rated digits --><!-- end -->", tmp_path / "studies")
    assert "| head | 1e-4 | 1e-3 |" in made
    assert "| softmax | **20.00 %, 0.200** | 30.00 %, 0.300 |" in made
    assert "| DropMax | 40.00 %, 0.400 | **10.00 %, 0.100** |" in made


def test_heads_at_their_rates_have_the_same_seeds(tmp_path):
    write_rated(tmp_path, CHOSEN[:-1])
    with raises(ValueError, "with_blocks: lines"):
        with_blocks("<!-- chosen: rated digits dropmax --><!-- end -->", tmp_path / "studies")
    with raises(ValueError, "with_blocks: folder"):
        with_blocks("<!-- rates: rated letters --><!-- end -->", tmp_path / "studies")
