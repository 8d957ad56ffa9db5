"""The report: one HTML file and its spreadsheets, of any classifier."""

import csv
import html.parser
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from hostile import HOSTILE, MARK
from raised import raises

from dropmax import Scores, report
from dropmax.cli import main
from dropmax.data import load_data
from dropmax.metrics import error_interval
from dropmax.report.page import readable
from dropmax.report.runs import mcnemar
from dropmax.training import RunConfig, data_for, load_run, train
from dropmax.training.classifier import predict

VOID = {"meta", "br", "img", "input", "link", "hr", "wbr"}


class Parsed(html.parser.HTMLParser):
    """The elements of a page; those that are not closed in their order are an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute of {tag} stands twice"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def text(self):
        return " ".join(" ".join(self.words).split())

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def made(count=60, classes=4, *, seed=0, sharpness=3.0):
    """Log-probabilities of which many are right, and labels."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    logits += sharpness * torch.rand(count, 1, generator=generator) * torch.eye(classes)[target]
    return logits.log_softmax(-1), target


untyped = pytest.mark.skipif(
    "UNTYPED" not in os.environ, reason="the tests' hook finds wrong types first: test-untyped"
)


def written(tmp_path, log_probs, target, **options):
    names = options.pop("class_names", [f"class {k}" for k in range(log_probs.shape[1])])
    made = report.write(tmp_path / "report.html", log_probs, target, class_names=names, **options)
    return Parsed(made.file.read_text(encoding="utf-8"))


def lines(file):
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("classes", [2, 4, 77])
@pytest.mark.parametrize("seen", ["pictures", "texts", "nothing"])
def test_a_page_stands_by_itself(seen, classes, tmp_path):
    log_probs, target = made(300, classes)
    inputs = {
        "pictures": torch.randint(256, (300, 3, 5, 9), dtype=torch.uint8),
        "texts": [f"text {n}" for n in range(300)],
        "nothing": None,
    }[seen]
    page = written(tmp_path, log_probs, target, inputs=inputs)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), tag
            if name in ("src", "href", "action", "data"):
                assert value.startswith(("#", "data:")), value
            if name == "href":
                assert value[1:] in ids
    style = (tmp_path / "report.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert all(url.startswith("data:") for url in re.findall(r"url\(([^)]*)", style))
    assert "@import" not in style
    thumbnails = [a for a in page.of("span") if a.get("class", "").startswith("thumb")]
    assert bool(thumbnails) == (seen == "pictures")


def test_its_numbers_are_those_of_the_rows(tmp_path):
    log_probs, target = made()
    page = written(tmp_path, log_probs, target)
    answers = log_probs.argmax(1).tolist()
    counts = Counter(
        tuple(sorted(pair))
        for pair in zip(target.tolist(), answers, strict=True)
        if len({*pair}) > 1
    )
    wrong = sum(counts.values())
    low, high = error_interval(100 * wrong / 60, 60)
    interval = f"({low:.1f} to {high:.1f}, a 95 % interval"
    assert f"{wrong} errors, {100 * wrong / 60:.1f} % {interval}" in page.text()
    pairs = [a["id"] for a in page.of("details") if a.get("class") == "pair"]
    assert len(pairs) == len(counts)
    found = [tuple(sorted(map(int, name.split("-")[1:]))) for name in pairs]
    assert [counts[pair] for pair in found] == sorted(counts.values(), reverse=True)
    rows = lines(tmp_path / "predictions.csv")
    assert [row["answer"] for row in rows] == [f"class {k}" for k in answers]
    assert [row["label"] for row in rows] == [f"class {k}" for k in target.tolist()]
    for row, probs in zip(rows, log_probs.exp().tolist(), strict=True):
        assert float(row["probability"]) == pytest.approx(max(probs), abs=1e-6)
        assert float(row["top2_probability"]) == pytest.approx(sorted(probs)[-2], abs=1e-6)
    suspects = lines(tmp_path / "suspects.csv")
    assert len(suspects) == wrong
    of_label = [float(row["probability of the given"]) for row in suspects]
    assert of_label == sorted(of_label)
    confused = lines(tmp_path / "confusions.csv")
    assert sum(int(row["rows"]) for row in confused) == wrong
    classes = lines(tmp_path / "classes.csv")
    assert [int(row["rows"]) for row in classes] == target.bincount(minlength=4).tolist()
    for k, row in enumerate(classes):
        right = sum(a == t == k for a, t in zip(answers, target.tolist(), strict=True))
        assert float(row["recall %"]) == pytest.approx(100 * right / int(row["rows"]), abs=0.01)
        assert float(row["precision %"]) == pytest.approx(100 * right / answers.count(k), abs=0.01)


def test_a_gate_is_told_apart_from_probabilities(tmp_path):
    log_probs, target = made(classes=3)
    retain_logits = torch.tensor([[2.0, -1.0, 1.0]]).repeat(60, 1)
    scores = Scores(torch.zeros(60, 3), retain_logits)
    page = written(tmp_path, log_probs, target, scores=scores)
    assert "The gate retains 2" in page.text()
    assert {row["retained"] for row in lines(tmp_path / "predictions.csv")} == {"class 0; class 2"}
    page = written(tmp_path, log_probs, target)
    assert "retains" not in page.text()
    assert "retained" not in lines(tmp_path / "predictions.csv")[0]


@pytest.mark.parametrize(
    ("inputs", "noun"),
    [
        (None, "rows"),
        (["good", "bad", "good again"], "texts"),
        (torch.zeros(3, 1, 4, 4, dtype=torch.uint8), "images"),
    ],
)
def test_what_is_judged_is_called_what_it_is(tmp_path, inputs, noun):
    log_probs = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]).log()
    target = torch.tensor([0, 1, 1])
    page = tmp_path / "report.html"
    report.write(page, log_probs, target, class_names=["a", "b"], inputs=inputs)
    said = page.read_text()
    assert re.search(rf"right on 3\s+{noun}:", said)
    assert f"{noun.capitalize()} that are answered" in said


def test_probabilities_that_were_rounded_to_bfloat16_are_taken(tmp_path):
    torch.manual_seed(0)
    log_probs = (3.0 * torch.randn(200, 1_000)).bfloat16().log_softmax(-1)
    names = [str(k) for k in range(1_000)]
    report.write(tmp_path / "report.html", log_probs, log_probs.argmax(1), class_names=names)
    with raises(ValueError, "write: log_probs"):
        report.write(tmp_path / "b.html", log_probs + 0.1, log_probs.argmax(1), class_names=names)


def test_rows_are_tagged(tmp_path):
    probs = torch.tensor(
        [
            [0.95, 0.02, 0.01, 0.01, 0.01],  # wrong but sure, and the label is second
            [0.40, 0.30, 0.10, 0.10, 0.10],  # right but unsure
            [0.50, 0.30, 0.15, 0.04, 0.01],  # wrong, and the label is fourth
            [0.60, 0.10, 0.10, 0.10, 0.10],
            [0.60, 0.10, 0.10, 0.10, 0.10],
        ]
    )
    target = torch.tensor([1, 0, 3, 0, 1])
    inputs = ["a", "b", "c", "same", "same"]
    page = written(tmp_path, probs.log(), target, inputs=inputs)
    tags = [row["tags"] for row in lines(tmp_path / "predictions.csv")]
    top, equal = "label in the top 3", "equal rows, other labels"
    assert tags[0] == f"wrong but sure; {top}"
    assert tags[1] == "right but unsure"
    assert tags[2] == ""
    assert tags[3] == equal
    assert tags[4].endswith(equal)
    shown = [a["data-tags"] for a in page.of("article") if a.get("id") == "row-0"]
    assert shown == [f"wrong but sure|{top}"]


def test_hostile_names_do_nothing(tmp_path):
    count = len(HOSTILE)
    log_probs, target = made(3 * count, count)
    texts = [HOSTILE[n % count] for n in range(3 * count)]
    page = written(
        tmp_path,
        log_probs,
        target,
        class_names=HOSTILE,
        inputs=texts,
        ids=texts,
        title=HOSTILE[0],
    )
    assert len(page.of("script")) == 2
    assert {tag for tag, _ in page.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section"),
        *("h1", "h2", "h3", "p", "b", "dl", "dt", "dd", "ul", "li", "a", "bdi", "code", "span"),
        *("details", "summary", "article", "div", "table", "thead", "tbody", "tr", "th", "td"),
        *("figure", "figcaption", "img", "label", "input", "button", "script"),
    }
    assert all(a["src"].startswith("data:image/svg+xml") for a in page.of("img"))
    assert not any(MARK in value for a in page.of("script") for value in a.values())
    assert HOSTILE[1] in page.text()
    for name in ("predictions", "confusions", "classes", "suspects"):
        with (tmp_path / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            for line in csv.reader(stream):
                assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for cell in line)


def test_a_page_of_a_run_is_of_its_validation_and_test_rows(tmp_path):
    data = load_data("digits")
    config = RunConfig("digits", "dropmax", train_per_class=5, validation_per_class=5, epochs=2)
    run = train(config, tmp_path, data=data, progress=False)
    file, _ = report.write_report(run, data)
    assert file == tmp_path / "report.html"
    splits = Counter(row["split"] for row in lines(tmp_path / "predictions.csv"))
    assert splits == {"validation": 50, "test": len(data.test)}
    said = Parsed(file.read_text(encoding="utf-8")).text()
    error = run.metrics["test"]["error"]
    assert f"{100 - error:.1f} % right on {len(data.test)} test images" in said


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"class_names": ["a"]}, "class_names"),
        ({"inputs": ["a"]}, "inputs"),
        ({"inputs": torch.zeros(60, 3)}, "inputs"),
        ({"ids": ["a"]}, "ids"),
        ({"log_probs": 5.0 * torch.randn(60, 4)}, "log_probs"),
        ({"inputs": torch.zeros(60, 4, 5, 5, dtype=torch.uint8)}, "inputs"),
        ({"log_probs": torch.zeros(0, 4), "target": torch.zeros(0).long()}, "log_probs"),
        ({"log_probs": torch.full((60, 4), torch.nan)}, "log_probs"),
        ({"log_probs": torch.zeros(60, 1), "class_names": "a"}, "log_probs"),
        ({"target": torch.full((60,), 4)}, "target"),
        ({"inputs": torch.zeros(60, 3, 0, 8, dtype=torch.uint8)}, "inputs"),
        (
            {"scores": Scores(torch.zeros(60, 4), torch.full((60, 4), torch.nan))},
            "scores.retain_logits",
        ),
        *(
            pytest.param({argument: value}, argument, marks=untyped)
            for argument, value in (
                ("log_probs", np.zeros((60, 4))),
                ("class_names", None),
                ("inputs", np.zeros((60, 3, 8, 8), np.uint8)),
                ("inputs", [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 60),
                ("ids", torch.arange(60)),
                ("ids", map(str, range(60))),
                ("scores", torch.zeros(60, 4)),
            )
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(change, argument, tmp_path):
    log_probs, target = made()
    given = {"log_probs": log_probs, "target": target, "class_names": list("abcd"), **change}
    with raises((ValueError, TypeError), f"write: {argument}"):
        report.write(tmp_path / "report.html", given.pop("log_probs"), given.pop("target"), **given)
    assert not list(tmp_path.iterdir())


def test_a_comparison_shows_what_one_head_alone_is_right_on(tmp_path, capsys):
    small = ["--data", "digits", "--train-per-class", "5", "--epochs", "5", "--quiet"]
    command = ["compare", *small, "--heads", "softmax,dropmax", "--seeds", "2"]
    assert main([*command, "--out", str(tmp_path), "--no-report"]) == 0
    assert not (tmp_path / "report.html").exists()
    assert main(["report", str(tmp_path)]) == 0
    assert f"{tmp_path / 'report.html'}" in capsys.readouterr().out
    page = Parsed((tmp_path / "report.html").read_text(encoding="utf-8"))
    data = load_data("digits")
    right = {}
    for head in ("dropmax", "softmax"):
        run = load_run(tmp_path / "runs" / f"{head}-seed0")
        answers = predict(run.classifier(), data.test.inputs).log_probs.argmax(1)
        right[head] = answers == data.test.target
    here = int((right["dropmax"] & ~right["softmax"]).sum())
    there = int((right["softmax"] & ~right["dropmax"]).sum())
    said = page.text()
    assert f"DropMax alone is right on {here} images, and softmax alone on {there}" in said
    assert "DropMax makes" in said
    assert "not settled by 2 seeds" in said


def test_mcnemar_is_the_binomial_tail_summed_by_hand():
    for first, second in ((0, 0), (3, 3), (1, 9), (12, 30)):
        count = first + second
        tail = sum(math.comb(count, k) for k in range(min(first, second) + 1)) / 2**count
        assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))


def seeds_of(head, errors):
    return [
        {
            "config": {"head": head, "seed": seed},
            "test": {"error": error, "nll": 1.0, "ece": 1.0, "brier": 1.0},
            "seconds": 1.0,
            "jobs": 1,
        }
        for seed, error in enumerate(errors)
    ]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([5.0, 6.1, 7.0], "4.0 points fewer"),
        ([13.0, 14.0, 15.1], "4.0 points more"),
        ([5.0, 20.0, 5.0], "not settled"),
    ],
)
def test_a_difference_is_settled_where_its_interval_leaves_out_zero(errors, expected):
    (sentence,) = report.verdict(
        [*seeds_of("softmax", [9.0, 10.0, 11.0]), *seeds_of("dropmax", errors)]
    )
    assert expected in sentence
    assert ("not settled" in sentence) == (expected == "not settled")


@pytest.mark.parametrize("error", [10.0, 9.98, 10.03])
def test_a_tie_is_called_one(error):
    (sentence,) = report.verdict([*seeds_of("softmax", [10.0]), *seeds_of("dropmax", [error])])
    assert "as many errors as softmax" in sentence
    assert "0.0" not in sentence


def test_without_softmax_there_is_no_verdict():
    heads = [*seeds_of("attention", [9.0, 10.0]), *seeds_of("dropmax", [1.0, 2.0])]
    (sentence,) = report.verdict(heads)
    assert "makes" not in sentence
    assert report.verdict(seeds_of("dropmax", [1.0])) == []


def test_train_writes_a_report_unless_it_is_told_not_to(tmp_path, capsys):
    small = ["--data", "digits", "--train-per-class", "5", "--epochs", "1", "--quiet"]
    assert main(["train", *small, "--out", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "report.html").is_file()
    assert main(["train", *small, "--out", str(tmp_path / "b"), "--no-report"]) == 0
    assert not (tmp_path / "b" / "report.html").exists()
    capsys.readouterr()
    file = tmp_path / "other" / "page.html"
    assert main(["report", str(tmp_path / "b"), "--out", str(file)]) == 0
    assert file.read_bytes() == (tmp_path / "a" / "report.html").read_bytes()
    assert main(["report", str(tmp_path)]) == 2


def test_suspects_are_looked_for_among_all_rows_by_folds(tmp_path, capsys):
    small = ["--data", "digits", "--protocol", "modern", "--epochs", "1", "--quiet"]
    assert main(["train", *small, "--out", str(tmp_path), "--no-report"]) == 0
    command = ["report", str(tmp_path), "--suspects", "cross-validate", "--quiet"]
    assert main(command) == 0
    suspects = lines(tmp_path / "suspects.csv")
    assert {row["split"] for row in suspects} == {"train", "validation", "test"}
    page = Parsed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "judged by cross-validation" in page.text()
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    capsys.readouterr()
    assert main(["report", str(tmp_path), "--suspects", "everywhere"]) == 2
    assert "--suspects must be one of" in capsys.readouterr().err
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report.csv")]) == 2
    assert "--out must be" in capsys.readouterr().err


def test_a_threshold_answers_the_rows_that_are_as_sure(tmp_path):
    probs = torch.tensor([[1.0, 0.0]] * 90 + [[0.6, 0.4]] * 10)
    target = torch.tensor([0] * 81 + [1] * 9 + [0] * 10)
    written(tmp_path, probs.log(), target)
    curve = json.loads(page_script(tmp_path / "report.html"))
    for share, threshold, accuracy in curve:
        sure = probs.max(1).values >= threshold
        assert share == pytest.approx(100.0 * sure.double().mean())
        right = probs.argmax(1) == target
        assert accuracy == pytest.approx(100.0 * right[sure].double().mean())
    assert {round(share) for share, *_ in curve} == {90, 100}


def page_script(file):
    text = file.read_text(encoding="utf-8")
    return text.partition('id="curve">')[2].partition("</script>")[0]


def test_what_is_confused_among_the_other_classes_is_not_called_right(tmp_path):
    log_probs, target = made(600, 60, sharpness=0.0)
    written(tmp_path, log_probs, target)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    matrix = text.partition('class="plain matrix"')[2].partition("</table>")[0]
    assert "(other)" in matrix
    diagonal = [int(n) for n in re.findall(r'class="diagonal">(\d+)<', matrix)]
    assert len(diagonal) == 20
    assert sum(diagonal) <= int((log_probs.argmax(1) == target).sum())


def test_files_of_others_are_left_as_they_are(tmp_path):
    log_probs, target = made()
    mine = tmp_path / "predictions.csv"
    mine.write_text("mine,and,nobody's\n")
    with raises(ValueError, "write: path"):
        written(tmp_path, log_probs, target)
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.csv"]
    assert mine.read_text().startswith("mine")
    (tmp_path / "two").mkdir()
    report.write(tmp_path / "two" / "first.html", log_probs, target, class_names="abcd")
    kept = {file: file.read_bytes() for file in (tmp_path / "two").iterdir()}
    with raises(ValueError, "write: path"):  # its spreadsheets would take the place of the first's
        report.write(tmp_path / "two" / "second.html", log_probs, target, class_names="abcd")
    assert {file: file.read_bytes() for file in (tmp_path / "two").iterdir()} == kept
    report.write(tmp_path / "two" / "first.html", log_probs, target, class_names="abcd")
    (tmp_path / "other" / "folder.html").mkdir(parents=True)
    for file in ("other/data.csv", "other/folder.html", "other"):
        with raises(ValueError, "write: path"):
            report.write(tmp_path / file, log_probs, target, class_names="abcd")
    assert [file.name for file in (tmp_path / "other").iterdir()] == ["folder.html"]


def test_rows_that_a_refitted_run_was_trained_on_do_not_judge_it(tmp_path):
    data = load_data("digits")
    config = RunConfig("digits", "softmax", train_per_class=5, epochs=1, refit=True)
    run = train(config, tmp_path, data=data, progress=False)
    report.write_report(run, data)
    assert {row["split"] for row in lines(tmp_path / "predictions.csv")} == {"test"}


def test_a_run_without_held_out_rows_is_judged_by_folds(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("x,label\n" + "".join(f"{n / 7},{'ab'[n % 2]}\n" for n in range(60)))
    none = ["--validation-fraction", "0", "--test-fraction", "0"]
    small = ["--data", str(file), "--epochs", "1", "--quiet"]
    run = str(tmp_path / "run")
    assert main(["train", *small, *none, "--out", run]) == 0
    assert not (tmp_path / "run" / "report.html").exists()
    by_folds = ["--suspects", "cross-validate", "--data-root", str(tmp_path), "--quiet"]
    assert main(["report", run, *by_folds]) == 0
    said = Parsed((tmp_path / "run" / "report.html").read_text(encoding="utf-8")).text()
    headline = said[: said.index("Guessing")]
    assert "60" in headline
    assert "train" not in headline.replace("trained", "")
    assert "cross-validation" in said[: said.index("Confusions")]


def test_a_report_that_cannot_be_written_does_not_fail_what_was_trained(tmp_path, capsys):
    out = tmp_path / "run"
    small = ["--data", "digits", "--train-per-class", "5", "--epochs", "1", "--quiet"]
    assert main(["train", *small, "--out", str(out), "--no-report"]) == 0
    (out / "predictions.csv").write_text("mine\n")
    capsys.readouterr()
    assert main(["train", *small, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "There is no report" in printed.err
    assert "predictions.csv" in printed.err
    assert "dropmax predict" in printed.out
    assert (out / "predictions.csv").read_text() == "mine\n"


def test_confusions_are_of_the_test_rows(tmp_path):
    data = load_data("digits")
    config = RunConfig("digits", "softmax", train_per_class=2, validation_per_class=20, epochs=1)
    run = train(config, tmp_path, data=data, progress=False)
    written = report.write_report(run, data)
    wrong = sum(pair.total for pair in written.confused)
    assert wrong == round(run.metrics["test"]["error"] * len(data.test) / 100)
    rows = lines(tmp_path / "classes.csv")
    assert sum(int(row["rows"]) for row in rows) == len(data.test)


def test_a_comparison_of_one_head_has_the_report_of_its_run(tmp_path):
    small = ["--data", "digits", "--train-per-class", "5", "--epochs", "1", "--quiet"]
    command = ["compare", *small, "--heads", "dropmax", "--seeds", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    assert "dropmax on digits" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_texts_of_many_languages_are_shown_as_they_are():
    joined, wide, kept = "\u0645\u06cc\u200c\u062e", "\u5168\u3000\u89d2", "vingt\u00a0euros"
    for text in (joined, wide, kept, "\U0001f469\u200d\U0001f52c"):
        assert readable(text, 20) == text
    assert readable("abc", 2) == "ab…"
    assert readable("a\x00b\ud800\u202e", 20) == "a\ufffdb\ufffd\ufffd"


@pytest.mark.parametrize("seen", ["pictures", "texts"])
def test_a_page_is_small_whatever_it_holds(seen, tmp_path):
    count, classes = 1_200, 1_000
    log_probs, target = made(count, classes, sharpness=0.0)
    inputs = torch.randint(256, (count, 3, 48, 48), dtype=torch.uint8)
    if seen == "texts":
        inputs = ["\U0001f600" * 1_000] * count
    report.write(
        tmp_path / "report.html",
        log_probs,
        target,
        class_names=["\u03b4" * 150 + str(k) for k in range(classes)],
        inputs=inputs,
        ids=["\u03b4" * 200 + str(n) for n in range(count)],
        scores=Scores(log_probs, torch.ones(count, classes)),
    )
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def test_the_matrix_leads_to_the_pairs(tmp_path):
    page = written(tmp_path, *made())
    links = {a["href"] for a in page.of("a") if a["href"].startswith("#pair")}
    pairs = {f"#{a['id']}" for a in page.of("details") if a.get("class") == "pair"}
    assert links == pairs


def test_cells_of_a_table_are_told_as_a_person_reads_them(tmp_path):
    rows = []
    for n in range(60):
        is_open, color = "true" if n % 3 else "false", "" if n == 4 else "red"
        rows.append(f"2024-04-{1 + n % 28:02d},{is_open},{n / 2},{color},{'ab'[n % 2]}")
    file = tmp_path / "table.csv"
    file.write_text("day,open,size,color,label\n" + "\n".join(rows) + "\n")
    config = RunConfig(str(file), "softmax", label_column="label", epochs=1)
    data = data_for(config)
    run = train(config, tmp_path / "run", data=data, progress=False)
    report.write_report(run, data)
    found = lines(tmp_path / "run" / "predictions.csv")
    assert found
    for row in found:
        day, is_open, size, color, label = rows[int(row["id"])].split(",")
        assert (row["day"], row["open"], row["color"]) == (day, is_open, color)
        assert float(row["size"]) == float(size)
        assert row["label"] == label


@pytest.mark.slow
def test_of_two_processes_one_speaks_and_writes_the_report(tmp_path):
    """Two on the CPU, as the command starts them."""
    small = ["--data", "digits", "--train-per-class", "5", "--epochs", "1", "--quiet"]
    two = ["--accelerator", "cpu", "--devices", "2", "--out", str(tmp_path / "run")]
    code = "from dropmax.cli import run; run()"
    script = tmp_path / "command.py"
    script.write_text(code)  # which lightning starts again for the second process
    command = [sys.executable, str(script), "train", *small, *two]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told.count("The run is in") == 1
    assert told.count("Report:") == 1
    assert (tmp_path / "run" / "report.html").is_file()
