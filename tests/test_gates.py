"""What trained gates say of test images: the lines against slow oracles, and their figures."""

import itertools
import math
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from raised import raises
from scipy.stats import spearmanr
from tolerances import assert_close

from dropmax.compare import Comparison, compare, read_lines, run_folder
from dropmax.data import load_data
from dropmax.predictive import mask_posterior
from dropmax.report import draw_gate, draw_posterior
from dropmax.report.gate import gate_figure
from dropmax.report.instances import judge
from dropmax.report.png import from_png, to_png
from dropmax.training import RunConfig, load_run
from studies import GATES, draw_gates, write_gates
from studies.ranks import ranks

pytestmark = pytest.mark.xdist_group("gates")  # one test process trains the runs, once

HEAD = "dropmax:preset=paper"
SEEDS = (3, 1)
BASE = RunConfig("digits", "softmax", train_per_class=20, epochs=20, batch_size=50)
FAILURE = 1e-6
"""How often a sampled number may be off by chance."""


def trained(folder, images, base, heads):
    torch.set_num_threads(1)
    compare(Comparison(base, heads, SEEDS), folder, data=images, progress=False, threads=1)
    return folder, images, write_gates(folder, images, HEAD, seeds=SEEDS)


@pytest.fixture(scope="module")
def gray(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("gray"), load_data("digits"), BASE, ("softmax", HEAD))


@pytest.fixture(scope="module")
def colored(tmp_path_factory):
    digits = load_data("digits")
    tint = torch.tensor([4, 2, 1])[:, None, None]
    train, test = (
        replace(split, inputs=split.inputs // 4 * tint.to(torch.uint8))
        for split in (digits.train, digits.test)
    )
    images = replace(digits, train=train, test=test)
    heads = ("softmax", HEAD, "attention")
    return trained(tmp_path_factory.mktemp("colored"), images, replace(BASE, epochs=1), heads)


def the(lines, kind):
    return next(line for line in lines if line["kind"] == kind)


def run_of(folder, head, seed):
    return load_run(run_folder(folder, replace(BASE, head=head, seed=seed)))


def judged_of(part, seed):
    folder, images, _ = part
    return judge(run_of(folder, HEAD, seed), images, run_of(folder, "softmax", seed))


def test_the_file_holds_the_lines_with_settings_seed_and_versions(gray):
    folder, _, lines = gray
    assert read_lines(folder / GATES) == lines
    kinds = ["instances", "spread", "correlation", "predictive", "ranks", "ranks"]
    assert [line["kind"] for line in lines] == kinds
    assert [line["seed"] for line in lines] == [3, 3, 3, 3, 3, 1]
    for line in lines:
        config = RunConfig.from_dict(line["config"])
        assert (config.head, config.seed, line["baseline"]) == (HEAD, line["seed"], "softmax")
        assert line["versions"]["torch"] == torch.__version__
    assert sorted(file.name for file in folder.iterdir()) == [GATES, "results.jsonl", "runs"]


def test_instances_are_easy_or_wrong_and_show_their_images(gray, colored):
    for part in (gray, colored):
        _, images, lines = part
        line, judged = the(lines, "instances"), judged_of(part, SEEDS[0])
        target = images.test.target
        at_target = judged.baseline_log_probs.gather(-1, target[:, None]).squeeze(-1)
        assert [row["target"] for row in line["easy"]] == list(range(10))
        for row in line["easy"]:
            assert at_target[row["index"]] == at_target[target == row["target"]].max()
        wrong = at_target[judged.baseline_log_probs.argmax(-1) != target]
        shown = [float(at_target[row["index"]]) for row in line["difficult"]]
        assert shown == wrong.sort().values[:10].tolist()
        for row in line["easy"] + line["difficult"]:
            assert torch.equal(from_png(row["png"]), images.test.inputs[row["index"]])
            assert row["baseline"] == int(judged.baseline_log_probs[row["index"]].argmax())
            assert row["q"][row["target"]] == row["exact"][row["target"]] == 1.0


def test_probabilities_of_instances_are_those_of_the_run(gray):
    judged, line = judged_of(gray, SEEDS[0]), the(gray[2], "instances")
    for row in line["easy"] + line["difficult"]:
        n, target = row["index"], row["target"]
        logits, retain_logits, correction_logits = (branch[n] for branch in judged.scores)
        rivals = torch.arange(10) != target
        exact = mask_posterior(logits, retain_logits, torch.tensor(target), target_kept=True)
        for name, expected, which in (
            ("rho", retain_logits.sigmoid(), slice(None)),
            ("q", (retain_logits + correction_logits).sigmoid(), rivals),
            ("exact", exact.sigmoid(), rivals),
            ("plugin", judged.log_probs[n].double().exp(), slice(None)),
        ):
            found = torch.tensor(row[name], dtype=torch.float64)
            assert_close(found[which], expected[which], "line")


def test_the_spread_is_that_of_all_masks(gray):
    judged, line = judged_of(gray, SEEDS[0]), the(gray[2], "spread")
    masks = torch.tensor(list(itertools.product([False, True], repeat=10)))
    # at the stated failure rate over all classes, images and quantiles
    num_masks, num_checks = line["num_masks"], 2 * 10 * 6
    log_inverse_rate = math.log(2 * num_checks / FAILURE)
    largest_step = math.sqrt(log_inverse_rate / (2 * num_masks))  # Dvoretzky, Kiefer, Wolfowitz
    assert line["easy"]["index"] in [row["index"] for row in the(gray[2], "instances")["easy"]]
    assert line["difficult"]["index"] == the(gray[2], "instances")["difficult"][0]["index"]
    for image in (line["easy"], line["difficult"]):
        logits, rho = judged.scores.logits[image["index"]], judged.retain_logits.sigmoid()
        rho = rho[image["index"]]
        weight = torch.where(masks, rho, 1.0 - rho).prod(-1, keepdim=True)
        kept = masks | ~masks.any(-1, keepdim=True)
        probs = logits.masked_fill(~kept, -torch.inf).softmax(-1)
        mean = (weight * probs).sum(0)
        variance = (weight * (probs - mean).square()).sum(0)
        assert_close(torch.tensor(image["exact"], dtype=torch.float64), mean, "line")
        # Bernstein's inequality
        most = (2 * variance * log_inverse_rate / num_masks).sqrt()
        most = most + 2 * log_inverse_rate / (3 * num_masks)
        assert ((torch.tensor(image["mean"]) - mean).abs() < most).all()
        quantiles = torch.tensor([image["quantiles"][q] for q in ("5", "25", "50", "75", "95")])
        assert (quantiles.diff(dim=0) >= 0.0).all()
        for level, quantile in zip((0.05, 0.25, 0.5, 0.75, 0.95), quantiles, strict=True):
            below = (weight * (probs < quantile - 1e-6)).sum(0)
            up_to = (weight * (probs <= quantile + 1e-6)).sum(0)
            assert (below < level + largest_step).all()
            assert (up_to > level - largest_step).all()


def test_correlations_are_symmetric_and_those_of_two_columns(gray):
    matrix = torch.tensor(the(gray[2], "correlation")["matrix"])
    rho = judged_of(gray, SEEDS[0]).retain_logits.sigmoid()
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix.diag(), torch.ones(10))
    expected = torch.corrcoef(rho[:, [2, 7]].T)[0, 1]
    assert matrix[2, 7] == torch.tensor(round(float(expected), 3))


def test_ranks_are_those_of_a_slow_oracle(gray):
    _, images, lines = gray
    target = images.test.target.tolist()
    judged = {seed: judged_of(gray, seed) for seed in SEEDS}
    for seed, other in (SEEDS, SEEDS[::-1]):
        line = next(line for line in lines if line["kind"] == "ranks" and line["seed"] == seed)
        confusions = [[0] * 10 for _ in range(10)]
        for t, answer in zip(
            target, judged[other].baseline_log_probs.argmax(-1).tolist(), strict=True
        ):
            confusions[t][answer] += 1
        orders = {
            "retain": judged[seed].retain_logits.sigmoid(),
            "baseline": judged[seed].baseline_log_probs.double().exp(),
            "plugin": judged[seed].log_probs.double().exp(),
        }
        found = {"all": [], "wrong": []}
        unranked = {"all": 0, "wrong": 0}
        for n, t in enumerate(target):
            groups = ["all"] + ["wrong"] * (int(orders["baseline"][n].argmax()) != t)
            rivals = [k for k in range(10) if k != t]
            confused = [confusions[t][k] for k in rivals]
            if not any(confused):
                unranked = {g: count + (g in groups) for g, count in unranked.items()}
                continue
            pairs = {
                name: spearmanr(values[n, rivals].numpy(), confused).statistic
                for name, values in orders.items()
            }
            for group in groups:
                found[group].append(pairs)
        for group, pairs in found.items():
            assert pairs
            assert line[group]["instances"] == len(pairs)
            assert line[group]["unranked"] == unranked[group]
            for name in orders:
                mean = sum(pair[name] for pair in pairs) / len(pairs)
                assert_close(torch.tensor(line[group][name], dtype=torch.float64), mean, "value")


def test_instances_whose_class_is_confused_with_none_are_left_out_and_counted(gray):
    first, second = (judged_of(gray, seed) for seed in SEEDS)
    right = torch.nn.functional.one_hot(first.target, 10).float().log_softmax(-1)
    zeros = first.target == 0
    second = replace(
        second, baseline_log_probs=torch.where(zeros[:, None], right, second.baseline_log_probs)
    )
    found = ranks({0: replace(first, baseline_log_probs=right), 1: second})
    # the second's confusions judge the first, whose own there are none judge the second
    assert found[0]["all"]["unranked"] >= int(zeros.sum())
    assert found[0]["wrong"] == {
        "retain": None, "baseline": None, "plugin": None, "instances": 0, "unranked": 0
    }  # fmt: skip
    assert found[1]["all"]["unranked"] == len(zeros)
    assert found[1]["all"]["retain"] is None


def test_colored_images_have_their_most_and_least_retained_classes(colored):
    images = the(colored[2], "retained")["images"]
    judged = judged_of(colored, SEEDS[0])
    assert [image["target"] for image in images] == [0, 1, 3, 5, 6, 8]
    for image in images:
        rho = judged.retain_logits[image["index"]].sigmoid().sort(descending=True)
        shown = image["most"] + image["least"][::-1]
        assert [entry["class"] for entry in shown] == [str(k) for k in rho.indices.tolist()]
        found = torch.tensor([entry["rho"] for entry in shown], dtype=torch.float64)
        assert_close(found, rho.values, "line")
        assert int(judged.target[image["index"]]) == image["target"]
        assert torch.equal(from_png(image["png"]), judged.data.test.inputs[image["index"]])


def test_figures_are_drawn_from_lines_alone(gray, colored, tmp_path):
    for name, (folder, _, _) in (("gray", gray), ("colored", colored)):
        shutil.copy(folder / GATES, tmp_path / GATES)
        files = draw_gates(read_lines(tmp_path / GATES), tmp_path / name)
        stems = ["correlation", "gate", "posterior"] + ["retained"] * (name == "colored")
        assert sorted({file.stem for file in files}) == [*stems, "spread"]
        for file in files:
            if file.suffix == ".svg":
                assert ElementTree.parse(file).getroot().tag.endswith("svg")
            else:
                with Image.open(file) as image:
                    assert len(image.convert("RGB").getcolors(2**24)) > 50
        assert len(files) == len(list((tmp_path / name).iterdir()))


def test_figures_of_runs_are_those_of_their_lines(gray, tmp_path):
    folder, images, lines = gray
    draw_gates(lines, tmp_path / "lines")
    run, baseline = (run_of(folder, head, SEEDS[0]) for head in (HEAD, "softmax"))
    draw_gate(run, images, tmp_path / "runs", baseline=baseline)
    draw_posterior(run, images, tmp_path / "runs", baseline=baseline)
    for name in ("gate.png", "posterior.png"):
        assert (tmp_path / "runs" / name).read_bytes() == (tmp_path / "lines" / name).read_bytes()


def test_pictures_keep_their_proportions_and_both_maps_their_scale():
    wide = torch.arange(3 * 4 * 6, dtype=torch.uint8).reshape(3, 4, 6)
    row = {"target": 1, "png": to_png(wide), "rho": [0.2, 0.7, 0.4]}
    easy, difficult = {**row, "baseline": 1}, {**row, "baseline": 2}
    figure = gate_figure(
        {"class_names": ["cat", "frog", "ship"], "easy": 3 * [easy], "difficult": 2 * [difficult]}
    )
    figure.draw_without_rendering()
    texts = ("frog", "frog\n\u00d7 ship")
    cells = []
    for ax, rows in zip(figure.axes, (3, 2), strict=True):
        extent = ax.images[0].get_window_extent()
        cells.append((extent.width / 3, extent.height / rows))
    assert cells[0] == pytest.approx(cells[1], rel=0.01)
    for ax, names in zip(figure.axes, texts, strict=True):
        strip = ax.child_axes[0]
        assert {label.get_text() for label in strip.get_yticklabels()} == {names}
        for picture in strip.images:
            extent = picture.get_window_extent()
            assert extent.width / extent.height == pytest.approx(6 / 4, rel=0.01)
            assert 0.9 * cells[0][1] < extent.height <= cells[0][1]


def test_what_is_missing_is_named_and_nothing_is_written(colored, tmp_path):
    folder, images, lines = colored
    digits = load_data("digits")
    for seeds, head, data, argument in (
        ((3,), HEAD, images, "seeds"),
        ((3, 3), HEAD, images, "seeds"),
        ((3, 2), HEAD, images, "folder"),
        ((3, 1), "dropmax", images, "folder"),
        ((3, 1), "softmax", images, "run"),
        ((3, 1), "attention", images, "head"),
        ((3, 1), HEAD, digits, "data"),
    ):
        with raises(ValueError, f"write_gates: {argument}"):
            write_gates(folder, data, head, seeds=seeds)
    assert read_lines(folder / GATES) == lines
    shutil.copy(folder / "results.jsonl", tmp_path)
    with raises(FileNotFoundError, "load_run: path"):
        write_gates(tmp_path, images, HEAD, seeds=SEEDS)
    assert [file.name for file in tmp_path.iterdir()] == ["results.jsonl"]
    with raises(ValueError, "draw_gates: lines"):
        draw_gates([line for line in lines if line["kind"] != "spread"], tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
