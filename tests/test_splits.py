"""Drawn splits: which rows go where, whatever their order, and that equal rows stay together."""

from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropmax.cli import main
from dropmax.data import DataSet, LabeledData
from dropmax.data.splits import FEWEST, Splits, apart, contradicting, in_both

NUM_CLASSES = 3


def texts_of(rows, together=True):
    """Labeled texts of pairs (text, class)."""
    texts, target = zip(*rows, strict=True)
    inputs = torch.zeros(len(rows), 1)
    ids = tuple(map(str, range(len(rows))))
    return LabeledData(inputs, torch.tensor(target), ids, texts=texts, together=together)


pools = st.lists(
    st.tuples(st.sampled_from([f"{n}" for n in range(25)]), st.integers(0, NUM_CLASSES - 1)),
    min_size=1,
    max_size=80,
)
fractions = st.sampled_from((0.05, 0.15, 0.2, 0.5, 0.9))


@given(pools, fractions, st.integers(0, 3), st.booleans(), st.sampled_from((2, FEWEST)))
def test_a_fraction_of_each_class_is_taken_and_equal_rows_stay_together(
    rows, fraction, seed, together, fewest
):
    pool = texts_of(rows, together)
    left, taken = apart(pool, NUM_CLASSES, fraction, seed, fewest=fewest)
    assert sorted(left + taken) == list(range(len(rows)))
    groups = defaultdict(list)  # what can't be parted, by what it counts for
    for n, (text, _) in enumerate(rows):
        groups[text if together else n].append(n)
    by_class = defaultdict(list)
    for group in groups.values():
        by_class[min(rows[n][1] for n in group)].append(group)
    for group in groups.values():
        assert len({n in taken for n in group}) == 1
    for of_class in by_class.values():
        count = sum(map(len, of_class))
        found = sum(n in taken for group in of_class for n in group)
        if count < fewest or len(of_class) == 1:
            assert found == 0
            continue
        goal = min(max(1, round(fraction * count)), count - 1)
        assert 1 <= found < count
        assert found <= max(goal, min(map(len, of_class)))
        if max(map(len, of_class)) == 1:
            assert found == goal


@given(pools, fractions, st.randoms(use_true_random=False))
def test_a_draw_does_not_depend_on_the_order_of_the_rows(rows, fraction, random):
    shuffled = random.sample(rows, len(rows))
    drawn = []
    for one in (rows, shuffled):
        _, taken = apart(texts_of(one), NUM_CLASSES, fraction, seed=1)
        drawn.append(Counter(one[n] for n in taken))
    assert drawn[0] == drawn[1]


def test_texts_that_differ_in_case_width_or_spaces_are_equal():
    same = ["Card lost", "card  LOST", " card lost\n", "\uff23ard lost"]
    pool = texts_of([*((text, 0) for text in same), *((f"other {n}", 0) for n in range(16))])
    sides = set()
    for seed in range(20):
        _, taken = apart(pool, 1, 0.3, seed)
        assert len({n in taken for n in range(len(same))}) == 1
        sides.add(0 in taken)
    assert sides == {True, False}
    assert len(set(pool.keys)) == 20, "the digest tells them apart"


def test_equal_rows_on_two_sides_or_of_two_classes_are_counted_and_named():
    train = texts_of([("a", 0), ("b", 1), ("c", 0), ("c", 1)])
    test = texts_of([("A", 0), ("d", 1), ("B ", 0)])
    assert in_both(train, test) == 2
    none = train.rows([])
    named = ["train 1", "train 2", "train 3", "test 2"]
    assert contradicting(Splits(train, none, test)) == named
    data = DataSet("x", train, none, test, ("p", "q"))
    said = data.described(data.draw())
    assert "Rows for test that equal one for train: 2" in said
    assert set(said.rpartition(": ")[2].rstrip(".").split(", ")) == set(named)


@pytest.mark.parametrize("count", [FEWEST - 1, FEWEST])
def test_a_class_of_few_rows_gives_none_to_validation_and_that_is_said(count):
    rows = [(f"{k} {n}", k) for k, size in ((0, 20), (1, count)) for n in range(size)]
    whole = texts_of(rows)
    data = DataSet("x", whole, whole.rows([]), whole.rows([]), ("many", "few"))
    splits = data.draw(validation_fraction=0.15, seed=2)
    found = splits.validation.target.bincount(minlength=2).tolist()
    assert found == [3, int(count >= FEWEST)]
    assert ("few" in data.described(splits)) == (count < FEWEST)


@pytest.mark.parametrize("options", [[], ["--validation-fraction", "0.5"]])
def test_that_no_row_validates_is_said(options, tmp_path, capsys):
    rows = [f"{n},{n % 4},{'xy'[n % 2]}" for n in range(8)]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,label", *rows]))
    command = ["train", "--data", str(tmp_path / "a.csv"), "--keep", "a", "--epochs", "1"]
    assert main([*command, *options, "--out", str(tmp_path / "run")]) == 0
    assert "No row validates" in capsys.readouterr().err
    half = [*command, "--split", "half", "--out", str(tmp_path / "half")]
    assert main(half) == 0
    assert "No row validates" not in capsys.readouterr().err


def test_rows_that_validate_and_equal_others_are_counted():
    train, validation, test = (
        texts_of([(text, 0) for text in texts] + [(texts[0] + "!", 1)])
        for texts in ("abcd", "abxy", "bzxq")
    )
    data = DataSet("x", train, validation, test, ("p", "q"))
    said = data.described(data.draw())
    assert "validation that equal one for train: 3" in said
    assert "test that equal one for validation: 2" in said
