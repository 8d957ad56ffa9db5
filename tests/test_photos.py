"""Photos as people have them, of any size, kind and turn: from a folder to predictions."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from raised import raises

from dropmax.cli import main
from dropmax.data import (
    BrokenRows,
    DataWarning,
    Record,
    ResizedPictures,
    images,
    load_data,
    pictures,
)
from dropmax.data.pictures import Pictures
from dropmax.data.pixels import centered, pixels
from dropmax.errors import DropmaxError
from dropmax.training import RunConfig, data_of, describe_predictions, load_run, train
from dropmax.training.classifier import BATCH, predict
from dropmax.training.pixels import Pixels

CLASSES = ("cat", "dog")
ORIENTATION = 0x0112


def photo(n, size, gray=False):
    """A smooth picture that differs for every n."""
    grid = np.random.default_rng(n).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)
    return image.convert("L") if gray else image


def album(folder, sizes, *, end="jpg", gray=False, tagged=True):
    """A folder of photos, half of them of each class, turned by tags in turn."""
    for n, size in enumerate(sizes):
        exif = Image.Exif()
        if tagged:
            exif[ORIENTATION] = 1 + n % 8
        place = folder / CLASSES[n % 2]
        place.mkdir(parents=True, exist_ok=True)
        photo(n, size, gray).save(place / f"{n}.{end}", exif=exif)
    return str(folder)


SIZES = [(90, 60), (60, 90), (64, 64), (40, 200), (33, 20), (70, 70)] * 4


def test_photos_of_several_sizes_get_one_and_it_is_said(tmp_path):
    with pytest.warns(ResizedPictures, match="load_data: .*64"):
        data = load_data(album(tmp_path, SIZES))
    assert (data.shape, data.size) == ((3, 64, 64), 64)
    assert len(data.train) + len(data.test) == len(SIZES)
    small = load_data(str(tmp_path), size=16)
    assert (small.shape, small.size) == ((3, 16, 16), 16)
    for split in (small.train, small.test):
        for file, found in zip(split.ids, split.inputs, strict=True):
            assert torch.equal(found, centered(pixels(file, 16), 16))


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([(64, 64)] * 8, (64, 64)),
        ([(9, 5)] * 8, (5, 9)),
        ([(64, 20)] * 8, (20, 64)),
        ([(65, 65)] * 8, None),
        ([(64, 65)] * 8, None),
        ([(8, 8)] * 7 + [(9, 8)], None),
    ],
)
def test_small_pictures_of_one_size_stay_as_they_are(tmp_path, sizes, shape):
    path = album(tmp_path, sizes, end="png", tagged=False)
    if shape:
        data = load_data(path)
        assert (data.shape, data.size) == ((3, *shape), None)
        assert isinstance(data.train.inputs, torch.Tensor)
        for file, found in zip(data.train.ids, data.train.inputs, strict=True):
            assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(Image.open(file)))
    else:
        with pytest.warns(ResizedPictures):
            assert load_data(path).shape == (3, 64, 64)


def test_what_cannot_be_read_does_not_decide_the_size(tmp_path):
    path = album(tmp_path, [(8, 8)] * 8, end="png", tagged=False)
    large = tmp_path / "cat" / "half.png"
    Image.effect_noise((300, 300), 90).save(large)
    large.write_bytes(large.read_bytes()[:9000])
    with pytest.warns(BrokenRows):
        assert load_data(path).shape == (3, 8, 8)


def test_splits_of_two_sizes_get_one(tmp_path):
    album(tmp_path / "train", [(8, 8)] * 8, end="png")
    album(tmp_path / "test", [(9, 9)] * 4, end="png")
    with pytest.warns(ResizedPictures):
        data = load_data(str(tmp_path))
    assert (len(data.train), len(data.test), data.shape) == (8, 4, (3, 64, 64))


def test_all_gray_is_one_channel_and_one_colored_photo_makes_three(tmp_path):
    gray = load_data(album(tmp_path / "a", SIZES, gray=True), size=12)
    assert gray.shape == (1, 12, 12)
    path = album(tmp_path / "b", SIZES, gray=True)
    photo(99, (50, 30)).save(tmp_path / "b" / "cat" / "color.png")
    assert load_data(path, size=12).shape == (3, 12, 12)


def broken_files(folder):
    """Files that raise each in another way, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = Image.effect_noise((64, 64), 90)
    for name in ("half.png", "half.jpg", "half.webp", "half.gif", "half.bmp"):
        noise.save(folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    (folder / "page.png").write_text("<html>404</html>", encoding="utf-8")
    (folder / "empty.jpg").touch()
    Image.new("1", (20_000, 9_100)).save(folder / "bomb.png")
    Image.fromarray(np.zeros((9, 9), np.float32)).save(folder / "float.tiff")
    Image.fromarray(np.zeros((9, 9), np.int32)).save(folder / "deep.tiff")
    noise.save(folder / "chunk.png")
    content = bytearray((folder / "chunk.png").read_bytes())
    content[40:44] = bytes(4)
    (folder / "chunk.png").write_bytes(bytes(content))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on photos of many sizes, some of them broken, and where it was trained."""
    folder = tmp_path_factory.mktemp("photos")
    album(folder / "photos", SIZES)
    config = RunConfig(str(folder / "photos"), "dropmax", epochs=1, size=20, protocol="modern")
    return train(config, folder / "run", progress=False), folder


def test_broken_pictures_are_named_by_their_files_and_the_others_stay(tmp_path):
    path = album(tmp_path, SIZES)
    broken = [file for file in broken_files(tmp_path / "cat") if not file.stem.isdigit()]
    with pytest.warns(BrokenRows) as caught:
        data = load_data(path, size=8)
    assert len(data.train) + len(data.test) == len(SIZES)
    (message,) = [str(one.message) for one in caught if one.category is BrokenRows]
    assert f"{len(broken)} of {len(SIZES) + len(broken)} rows" in message
    assert str(broken[0]) in message
    assert "row " not in message.partition("rows")[2]
    named = [note.partition(": ")[0] for note in data.train.notes]
    assert sorted(named) == sorted(map(str, broken))


def test_predict_answers_for_every_file_and_names_the_broken_ones(trained, tmp_path, capsys):
    run, folder = trained
    broken = broken_files(tmp_path)
    sound = [*run_files(folder), str(tmp_path.parent)]
    every = [str(file) for pair in zip(broken, sound, strict=False) for file in pair]
    assert main(["predict", str(run.path), *every]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["file"] for line in lines] == every
    failed = {line["file"] for line in lines if "error" in line}
    assert failed == set(map(str, broken[: len(every) // 2])) | (
        {str(tmp_path.parent)} & set(every)
    )
    assert f"{len(failed)} of {len(every)}" in printed.err


def run_files(folder):
    return sorted(map(str, (folder / "photos").rglob("*.jpg")))


def test_a_folder_to_predict_stands_for_its_pictures(trained, tmp_path):
    run, folder = trained
    names = run_files(folder)[:3]
    for n, name in enumerate(names):
        (tmp_path / "new" / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / "deep" / f"{n}.jpg").write_bytes(Path(name).read_bytes())
    (tmp_path / "new" / "notes.txt").write_text("no picture")
    with pytest.warns(DataWarning, match=r"are no images: 1 \(notes.txt\)"):
        found = list(describe_predictions(run, [tmp_path / "new"]))
    expected = list(describe_predictions(run, names))
    assert [line["top"] for line in found] == [line["top"] for line in expected]
    assert [Path(line["file"]).name for line in found] == ["0.jpg", "1.jpg", "2.jpg"]
    (tmp_path / "none").mkdir()
    with raises(ValueError, "describe_predictions: files"):
        list(describe_predictions(run, [tmp_path / "none"]))


@pytest.mark.usefixtures("untyped")
def test_predict_says_at_once_that_a_file_is_not_there(trained):
    run, folder = trained
    with raises(FileNotFoundError, "describe_predictions: files"):
        next(describe_predictions(run, [run_files(folder)[0], folder / "none.jpg"]))


def test_a_file_that_was_trained_on_is_predicted_from_the_same_pixels(trained, monkeypatch):
    run, folder = trained
    assert (run.size, run.shape) == (20, (3, 20, 20))
    data = data_of(run, folder)
    seen = []
    keep = Pixels.forward
    monkeypatch.setattr(Pixels, "forward", lambda self, x: seen.append(x) or keep(self, x))
    for split in (data.train, data.test):
        seen.clear()
        described = list(describe_predictions(run, split.ids))
        assert torch.equal(torch.cat(seen), split.inputs[:])
        log_probs = predict(run.classifier(), split.inputs).log_probs
        first = [data.class_names.index(line["top"][0]["class"]) for line in described]
        assert first == log_probs.argmax(-1).tolist()


def test_a_run_on_pictures_as_they_are_refuses_others_one_by_one(tmp_path):
    path = album(tmp_path / "photos", [(8, 8)] * 12, end="png", tagged=False)
    run = train(RunConfig(path, "softmax", epochs=1), tmp_path / "run", progress=False)
    assert run.size is None
    photo(0, (9, 8)).save(tmp_path / "other.png")
    files = [tmp_path / "other.png", *sorted((tmp_path / "photos" / "cat").iterdir())]
    first, *others = describe_predictions(run, files)
    assert "9 x 8" in first["error"]
    assert not any("error" in line for line in others)


def test_many_files_are_read_a_part_at_a_time(trained, monkeypatch):
    run, folder = trained
    files = run_files(folder)
    monkeypatch.setattr("dropmax.training.instances.AT_ONCE", 5)
    read = []
    keep = pixels
    monkeypatch.setattr(
        "dropmax.training.instances.pixels", lambda *a: read.append(a[0]) or keep(*a)
    )
    lines = describe_predictions(run, files)
    next(lines)
    assert len(read) == 5
    assert len(list(lines)) == len(files) - 1


class Live:
    """Counts the pixels of pictures that are alive at once."""

    def __init__(self, monkeypatch):
        self.now = self.most = self.decoded = 0
        keep = images.pixels

        def counted(*arguments):
            import weakref

            found = keep(*arguments)
            if isinstance(found, torch.Tensor):
                self.decoded += 1
                self.now += 1
                self.most = max(self.most, self.now)
                weakref.finalize(found, self.gone)
            return found

        monkeypatch.setattr(images, "pixels", counted)

    def gone(self):
        self.now -= 1


@pytest.mark.parametrize("protocol", ["paper", "modern"])
def test_pictures_too_many_to_hold_train_the_same_run(tmp_path, monkeypatch, protocol):
    path = album(tmp_path / "photos", SIZES * 8)
    config = RunConfig(path, "dropmax", epochs=2, size=16, protocol=protocol, batch_size=10)
    held = train(config, tmp_path / "held", progress=False)
    for module, name in ((images, "AT_ONCE"), (pictures, "AT_ONCE")):
        monkeypatch.setattr(module, name, 6)
    monkeypatch.setattr("dropmax.training.pixels.FITTED", 10)
    monkeypatch.setattr(images, "HELD", 16 * 16 * 3 * 20)
    live = Live(monkeypatch)
    data = load_data(path, size=16)
    assert isinstance(data.train.inputs, Pictures)
    assert live.decoded == 2 * len(SIZES) * 8, "once to see whether it can be, once for the hash"
    lazy = train(config, tmp_path / "lazy", data=data, progress=False)
    assert live.most <= BATCH + images.THREADS
    for name, value in held.classifier().state_dict().items():
        assert torch.equal(lazy.classifier().state_dict()[name], value), name
    assert held.metrics["test"] == lazy.metrics["test"]


def test_a_run_on_photos_that_was_interrupted_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    path = album(tmp_path / "photos", SIZES)
    config = RunConfig(path, "dropmax", epochs=3, size=16, protocol="modern", batch_size=8)
    whole = train(config, tmp_path / "whole", progress=False)
    from dropmax.training.module import RunModule

    keep, epochs = RunModule.on_train_epoch_end, []

    def stops(self):
        keep(self)
        epochs.append(self.current_epoch)
        if len(epochs) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunModule, "on_train_epoch_end", stops)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(config, tmp_path / "part", progress=False)
    monkeypatch.setattr(RunModule, "on_train_epoch_end", keep)
    resumed = train(config, tmp_path / "part", progress=False)
    for name, value in whole.classifier().state_dict().items():
        assert torch.equal(resumed.classifier().state_dict()[name], value), name


def test_augmented_training_sees_both_ends_of_a_long_photo(tmp_path, monkeypatch):
    ramp = np.tile(np.arange(0, 240, 2, dtype=np.uint8), (24, 1))
    for n in range(12):
        place = tmp_path / "photos" / CLASSES[n % 2]
        place.mkdir(parents=True, exist_ok=True)
        tint = np.stack([ramp, ramp, np.full_like(ramp, n)], -1)
        Image.fromarray(tint).save(place / f"{n}.png")
    seen = []
    keep = Pixels.forward
    monkeypatch.setattr(
        Pixels,
        "forward",
        lambda self, x: (seen.append(x) if self.training else None) or keep(self, x),
    )
    for protocol in ("modern", "paper"):
        seen.clear()
        config = RunConfig(
            str(tmp_path / "photos"), "softmax", epochs=8, size=24, protocol=protocol
        )
        train(config, tmp_path / protocol, progress=False)
        middle = torch.cat(seen)[:, 0, 12, 12].float()
        if protocol == "modern":
            assert middle.min() < 70
            assert middle.max() > 170
        else:
            assert middle.max() - middle.min() == 0


@pytest.mark.usefixtures("untyped")
def test_a_photo_that_is_gone_when_it_is_read_again_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "HELD", 10)
    data = load_data(album(tmp_path, SIZES), size=8)
    file = data.train.ids[3]
    (tmp_path / file).unlink()
    with pytest.raises(DropmaxError, match=file):
        data.train.inputs[:]


def test_an_exported_file_states_how_an_image_becomes_its_input(trained, tmp_path, capsys):
    run, folder = trained
    assert main(["export", str(run.path), str(tmp_path / "model.onnx")]) == 0
    capsys.readouterr()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    recipe = json.loads(session.get_modelmeta().custom_metadata_map["recipe"])
    assert (recipe["kind"], recipe["size"], recipe["crop"]) == ("images", 20, "center")
    assert [recipe[name] for name in ("channels", "height", "width")] == [3, 20, 20]
    train_inputs = (
        data_of(run, folder).draw(validation_fraction=0.15).train.inputs[:].double() / 255
    )
    mean = train_inputs.mean((0, 2, 3))
    assert np.allclose(recipe["inside"]["mean"], mean)
    assert np.allclose(recipe["inside"]["deviation"], train_inputs.std((0, 2, 3)))
    # By the recipe alone: Pillow in place of our own function.
    file = next(name for name in run_files(folder) if name.endswith("/0.jpg"))
    image = Image.open(file).convert("RGB")
    short = min(image.size)
    width, height = (recipe["size"] * side // short for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = ((side - recipe["size"]) // 2 for side in image.size)
    image = image.crop((left, top, left + recipe["size"], top + recipe["size"]))
    array = np.asarray(image).transpose(2, 0, 1)[None]
    (log_probs,) = session.run(["log_probs"], {"input": array})
    (line,) = describe_predictions(run, [file], top=2)
    for one in line["top"]:
        found = math.exp(log_probs[0, run.class_names.index(one["class"])])
        assert abs(found - one["probability"]) < 0.02, "a JPEG is read at a fraction of its size"


def test_a_recipe_of_a_table_has_its_record_and_one_of_pictures_as_they_are_no_crop(tmp_path):
    lines = ["x,y,label", *(f"{n % 7},{n * n % 5},{'ab'[n % 2]}" for n in range(40))]
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    options = {"epochs": 1, "protocol": "modern"}
    table = RunConfig(str(tmp_path / "table.csv"), "softmax", **options)
    run = train(table, tmp_path / "a", progress=False)
    recipe = json.loads(json.dumps(run.recipe(run.classifier())))
    assert recipe["kind"] == "table"
    assert Record.from_dict(recipe["record"]) == run.record
    assert run.record.names == ("x", "y")
    assert len(recipe["inside"]["mean"]) == len(recipe["inside"]["deviation"]) == 2
    run = train(RunConfig("digits", "softmax", **options), tmp_path / "b", progress=False)
    recipe = run.recipe(run.classifier())
    assert [recipe[name] for name in ("kind", "channels", "height", "width")] == ["images", 1, 8, 8]
    assert not {"size", "crop"} & set(recipe)


def test_the_size_is_a_setting_of_the_run_and_old_runs_have_none(trained, tmp_path, capsys):
    run, folder = trained
    assert load_run(run.path).config.size == 20
    assert "size" not in RunConfig("digits", "softmax").to_dict()
    options = ["--epochs", "1", "--head", "softmax", "--quiet"]
    path = str(folder / "photos")
    assert main(["train", "--data", path, *options, "--out", str(tmp_path / "a")]) == 0
    assert "--size" in capsys.readouterr().err
    assert (load_run(tmp_path / "a").size, load_run(tmp_path / "a").config.size) == (64, None)
    sized = [*options, "--size", "18"]
    assert main(["train", "--data", path, *sized, "--out", str(tmp_path / "b")]) == 0
    assert "--size" not in capsys.readouterr().err
    assert load_run(tmp_path / "b").shape == (3, 18, 18)
    assert main(["evaluate", str(tmp_path / "a"), "--data-root", str(folder)]) == 0
    assert "--size" not in capsys.readouterr().err


@given(
    sizes=st.lists(st.tuples(st.integers(1, 80), st.integers(1, 80)), min_size=4, max_size=8),
    size=st.integers(1, 30),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_sizes_every_picture_is_square_and_the_same_in_predict(
    tmp_path_factory, sizes, size
):
    folder = tmp_path_factory.mktemp("any")
    data = load_data(album(folder, sizes, end="png"), size=size)
    assert data.shape == (3, size, size)
    for split in (data.train, data.test):
        again = [centered(pixels(file, size, 3), size) for file in split.ids]
        assert torch.equal(split.inputs[:], torch.stack(again))


def test_compare_sends_photos_to_other_processes(tmp_path, capsys):
    path = album(tmp_path / "photos", SIZES)
    command = ["compare", "--data", path, "--heads", "softmax,dropmax", "--seeds", "1"]
    options = ["--epochs", "1", "--size", "16", "--jobs", "2", "--quiet"]
    assert main([*command, *options, "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()


def test_a_gray_album_can_be_corrupted_whether_it_is_held_or_not(tmp_path, monkeypatch):
    path = album(tmp_path, SIZES, gray=True)
    held = load_data(path, size=16).corrupted("background", seed=1)
    monkeypatch.setattr(images, "HELD", 10)
    lazy = load_data(path, size=16).corrupted("background", seed=1)
    assert torch.equal(held.train.inputs[:], lazy.train.inputs[:])
    assert replace(held.train).keys == replace(lazy.train).keys
