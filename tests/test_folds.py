"""Cross-validation: every row is judged by a classifier that was trained without it."""

from dataclasses import replace

import torch
from raised import raises

from dropmax.data import LabeledData, load_data
from dropmax.data.splits import folds
from dropmax.training import RunConfig, held_out, train
from dropmax.training import folds as room

NONE = LabeledData(torch.empty(0, 2), torch.empty(0, dtype=torch.int64), ())


def texts(words, target):
    count = len(words)
    return LabeledData(
        torch.zeros(count, 2),
        torch.tensor(target),
        tuple(map(str, range(count))),
        texts=tuple(words),
    )


def test_folds_part_the_rows_and_each_has_about_as_many_of_a_class():
    words = [f"text {n}" for n in range(103)]
    target = [0] * 50 + [1] * 33 + [2] * 20
    found = folds(texts(words, target), 3, 5, seed=1)
    assert sorted(n for fold in found for n in fold) == list(range(103))
    for k, count in enumerate((50, 33, 20)):
        sizes = [sum(target[n] == k for n in fold) for fold in found]
        assert max(sizes) - min(sizes) <= 1
        assert sum(sizes) == count


def test_equal_texts_are_in_one_fold_and_a_class_of_one_row_in_none():
    words = ["same", "Same ", *(f"text {n}" for n in range(20)), "alone", "twin", "twin"]
    target = [0, 1, *[n % 2 for n in range(20)], 2, 3, 3]
    found = folds(texts(words, target), 4, 5, seed=0)
    (with_same,) = [fold for fold in found if 0 in fold]
    assert 1 in with_same
    judged = sorted(n for fold in found for n in fold)
    assert judged == list(range(22))


def test_every_row_is_judged_by_a_classifier_that_was_trained_without_it(tmp_path, monkeypatch):
    data = load_data("digits")
    data = replace(data, train=data.train.rows(range(0, 1_400, 14)), test=data.test.rows(range(50)))
    run = train(RunConfig("digits", "dropmax", epochs=1), tmp_path, data=data, progress=False)
    seen = []

    def watched(config, folder, *, data, **options):
        seen.append((set(data.train.keys), set(data.test.keys)))
        return train(config, folder, data=data, **options)

    monkeypatch.setattr(room, "train", watched)
    found = held_out(run, data, num_folds=3, progress=False)
    assert len(seen) == 3
    assert not any(trained & judged for trained, judged in seen)
    every = data.train.joined(data.test)
    assert sorted(found.data.keys) == sorted(every.keys)
    assert found.splits.count("test") == 50
    assert found.log_probs.shape == found.retain_probs.shape == (150, 10)
    again = held_out(run, data, num_folds=3, progress=False)
    assert torch.equal(again.log_probs, found.log_probs)
    seen.clear()
    held_out(run, data, num_folds=2, progress=False)
    assert len(seen) == 2
    for (trained, judged), folder in zip(seen, ("0-of-2", "1-of-2"), strict=True):
        assert not trained & judged
        assert (tmp_path / "folds" / folder / "metrics.json").is_file()
    label = dict(zip(every.keys, every.target.tolist(), strict=True))
    assert [label[key] for key in found.data.keys] == found.data.target.tolist()


def test_one_fold_is_none(tmp_path):
    data = load_data("digits")
    run = train(RunConfig("digits", "softmax", epochs=1), tmp_path, data=data, progress=False)
    with raises(ValueError, "held_out: num_folds"):
        held_out(run, data, num_folds=1)


def test_wrong_labels_are_found_among_training_rows(tmp_path):
    """Of 359 digits of which 10 have a wrong label, most are among the ten most suspect."""
    data = load_data("digits")
    part = data.train.rows(range(0, 1_436, 4))
    wrong = torch.arange(0, 359, 36)
    target = part.target.clone()
    target[wrong] = (target[wrong] + 1) % 10
    flipped = replace(data, train=replace(part, target=target), test=data.test.rows([]))
    run = train(RunConfig("digits", "dropmax", epochs=20), tmp_path, data=flipped, progress=False)
    found = held_out(run, flipped, progress=False)
    surprise = -found.log_probs.gather(1, found.data.target[:, None]).squeeze(1)
    suspects = [found.data.ids[n] for n in surprise.argsort(descending=True)[:10].tolist()]
    ids = {part.ids[n] for n in wrong.tolist()}
    assert len(ids & set(suspects)) >= 7
