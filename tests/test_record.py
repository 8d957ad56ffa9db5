"""The record of a table: equal to the usual pipeline of scikit-learn, and kept as JSON."""

import json
import math
from datetime import date, datetime

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raised import raises
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from dropmax.data import Record, record

NUMBERS = st.none() | st.integers(-40, 40).map(lambda n: n / 4)
LEVELS = st.none() | st.sampled_from(("red", "blue", "green", "gray", "é", "a b"))
BOOLEANS = st.booleans()
LAST = "\uffff"
"""What a gap among levels is called for scikit-learn: a level of its own, sorted last."""


def objects(cells):
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column


@st.composite
def tables(draw, columns):
    """Rows to train on and rows to answer, with values that the former may lack."""
    kinds = {name: (NUMBERS, LEVELS, BOOLEANS)["xcb".index(name[0])] for name in columns}
    counts = draw(st.integers(1, 120)), draw(st.integers(1, 9))
    return [
        {name: draw(st.lists(kind, min_size=n, max_size=n)) for name, kind in kinds.items()}
        for n in counts
    ]


def cells_of(table, form):
    """The same cells as numbers, or as the texts of a CSV file."""
    if form == "texts":
        return {n: objects([None if c is None else str(c) for c in t]) for n, t in table.items()}
    typed = {"x": np.float64, "b": np.bool_}
    return {
        name: np.array(column, dtype=typed[name[0]]) if name[0] in typed else objects(column)
        for name, column in table.items()
    }


@pytest.mark.parametrize("most", [3, record.MOST])
@pytest.mark.parametrize("form", ["typed", "texts"])
@given(pair=tables(("x1", "c1", "b1", "x2", "c2")))
def test_it_is_what_scikit_learns_pipeline_makes(form, most, pair):
    known, new = pair
    kinds = {"x": "number", "c": "category", "b": "boolean"}
    names = list(known)

    def numbers():
        return make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
            StandardScaler(),
        )

    parts = [
        (name, numbers(), [name])
        if name[0] != "c"
        else (
            name,
            OneHotEncoder(
                min_frequency=record.rare(len(known["c1"])),
                max_categories=most,
                handle_unknown="infrequent_if_exist",
                sparse_output=False,
            ),
            [name],
        )
        for name in names
    ]
    frames = [
        pandas.DataFrame(
            {
                n: [LAST if c is None else c for c in t] if n[0] == "c" else np.array(t, float)
                for n, t in one.items()
            }
        )
        for one in (known, new)
    ]
    pipeline = ColumnTransformer(parts).fit(frames[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "MOST", most)
        fitted = Record.fit(cells_of(known, form), {name: kinds[name[0]] for name in names})
    for table, frame in zip((known, new), frames, strict=True):
        expected = pipeline.transform(frame)
        found = fitted.encode(cells_of(table, form))
        assert found.values.shape == expected.shape == (len(frame), fitted.width)
        np.testing.assert_allclose(found.values, expected, rtol=1e-9, atol=1e-9)
        again = Record.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
        assert again == fitted
        assert np.array_equal(again.encode(cells_of(table, form)).values, found.values)


CELLS = {
    "numbers": (["1", "-2.5", " 3e2 ", "+4", ".5", "6."], "number", [1, -2.5, 300, 4, 0.5, 6]),
    "gaps": (["1", "NA", "?", "nan", "", None], "number", [1, *[math.nan] * 5]),
    "an infinite one": ([1.0, math.inf, 3.0, *[4.0] * 17], "number", None),
    "true and false": (["True", "FALSE", "true", None], "boolean", [1, 0, 1, math.nan]),
    "booleans of Python": ([True, False, None], "boolean", [1, 0, math.nan]),
    "true, false, unknown": (
        ["true", "false", "unknown"],
        "category",
        ["true", "false", "unknown"],
    ),
    "codes": (["A1", "007", "7"], "category", ["A1", "007", "7"]),
    "no numbers of Python": (["1_000", "0x10", "٣"], "category", ["1_000", "0x10", "٣"]),
    "a country": (["NA", "DE", "FR", ""], "category", ["NA", "DE", "FR", None]),
    "dates": (["1970-01-02", "1970/01/03 12:00", None], "date", [86400, 216000, math.nan]),
    "dates of Python": ([date(1970, 1, 2), datetime(1970, 1, 3)], "date", [86400, 172800]),
    "no dates": (["1970-13-02", "31.01.1970"], "category", ["1970-13-02", "31.01.1970"]),
    "nothing": ([None, "", "n/a"], "number", [math.nan] * 3),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_column_is_of_the_kind_of_nearly_all_its_cells(name):
    cells, kind, values = CELLS[name]
    assert record.kind_of("x", objects(cells)) == kind
    found = record.read(kind, objects(cells))
    if values is not None:
        assert not found.odd
        wanted = values if kind == "category" else pytest.approx(values, nan_ok=True)
        assert found.values.tolist() == wanted


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("number", ["many", "inf", "2,5", "1e99", True]),
        ("boolean", ["yes", "2", 0.5, "nan!"]),
        ("date", ["31.01.2024", "2024-02-30", "5"]),
    ],
)
def test_what_is_none_of_the_kind_is_a_gap_that_is_told(kind, cells):
    found = record.read(kind, objects(cells))
    assert np.isnan(found.values).all()
    assert found.odd == dict(enumerate(cells))
    assert all(repr(str(cell)) in record.oddity(kind, cell) for cell in cells)


def test_arrays_of_numbers_tell_what_is_not_finite():
    found = record.read("number", np.array([1.0, math.inf, math.nan, 1e39]))
    assert found.odd == {1: math.inf, 3: 1e39}
    assert found.values[0] == 1.0
    assert record.read("boolean", np.array([1.0, 0.0, 2.0, math.nan])).odd == {2: 2.0}


def test_one_odd_cell_of_ten_makes_no_category_and_two_do():
    assert record.kind_of("x", objects([*map(str, range(9)), "many"])) == "number"
    assert record.kind_of("x", objects([*map(str, range(8)), "many", "few"])) == "category"


@pytest.mark.parametrize(
    "cells", [["1,5", "2,25"], ["1", "2", "3,5"], ["1,100", "2,000,000.5", "3"], ["1.234,5", "2"]]
)
def test_numbers_with_commas_are_refused(cells):
    with raises(ValueError, "Record.fit: column 'x'"):
        Record.fit({"x": objects(cells)})


def test_a_date_is_days_since_the_first_year_month_and_weekday():
    days = ["2024-02-29", "2023-12-31 06:00", "2024-03-04", "2021-07-01", "1969-07-20"]
    cells = objects(days)
    fitted = Record.fit({"day": cells})
    parsed = pandas.to_datetime(pandas.Series(days), format="ISO8601")
    first = parsed.min().normalize()
    expected = np.stack(
        [
            (parsed - first) / pandas.Timedelta(days=1),
            parsed.dt.year,
            parsed.dt.month,
            [day.weekday() for day in parsed],
        ],
        axis=1,
    ).astype(float)
    scaled = StandardScaler().fit(expected)
    np.testing.assert_allclose(fitted.encode({"day": cells}).values, scaled.transform(expected))
    moments = parsed.to_numpy()
    assert np.array_equal(
        fitted.encode({"day": moments}).values, fitted.encode({"day": cells}).values
    )
    new = fitted.encode({"day": objects([None, "2024-02-29"])})
    np.testing.assert_allclose(
        new.values, scaled.transform(np.stack([np.median(expected, axis=0), expected[0]]))
    )
    assert list(new.notes) == [0]


def test_notes_say_what_no_training_row_had():
    known = {
        "x": objects(["1", "2", None]),
        "y": objects(["1", "2", "3"]),
        "c": objects(["red", "red", "blue"]),
    }
    fitted = Record.fit(known)
    assert fitted.encode(known).notes == {}
    new = {
        "x": objects([None, "5", "many"]),
        "y": objects([None, "1e9", "4"]),
        "c": objects(["red", "pink", None]),
    }
    said = fitted.encode(new).notes
    assert {n: len(notes) for n, notes in said.items()} == {0: 1, 1: 1, 2: 2}
    assert "'y'" in said[0][0]
    assert "'pink'" in said[1][0]
    assert "'many'" in said[2][0]


def test_a_missing_column_is_an_error():
    fitted = Record.fit({"x": objects(["1", "2"]), "y": objects(["1", "2"])})
    with raises(ValueError, "Record.encode: table"):
        fitted.encode({"x": objects(["1"])})


def test_plain_columns_are_as_they_are():
    plain = Record.plain({"x": 2.5, "y": 0.0})
    assert plain.encode({"y": objects(["7"]), "x": objects([None])}).values.tolist() == [[2.5, 7.0]]
    assert Record.from_dict(plain.to_dict()) == plain


NUMBER = {
    "kind": "number",
    "name": "x",
    "medians": [0.0],
    "gaps": False,
    "means": [0.0],
    "scales": [1.0],
    "origin": 0.0,
}
CATEGORY = {"kind": "category", "name": "c", "levels": ["a", None], "pooled": []}
GARBAGE = {
    "no mapping": None,
    "a list": [NUMBER],
    "nothing": {},
    "more": {"columns": [NUMBER], "code": "x"},
    "no columns": {"columns": 3},
    "a text": {"columns": ["x"]},
    "another kind": {"columns": [NUMBER | {"kind": "pickle"}]},
    "no name": {"columns": [NUMBER | {"name": 3}]},
    "a name twice": {"columns": [NUMBER, NUMBER]},
    "a field more": {"columns": [NUMBER | {"f": 1}]},
    "a field less": {"columns": [{k: v for k, v in NUMBER.items() if k != "gaps"}]},
    "no finite mean": {"columns": [NUMBER | {"means": [math.inf]}]},
    "a mean as text": {"columns": [NUMBER | {"means": ["0"]}]},
    "a scale of 0": {"columns": [NUMBER | {"scales": [0.0]}]},
    "a mean too many": {"columns": [NUMBER | {"means": [0.0, 1.0]}]},
    "gaps that are no boolean": {"columns": [NUMBER | {"gaps": 1}]},
    "a level twice": {"columns": [CATEGORY | {"pooled": ["a"]}]},
    "no levels": {"columns": [CATEGORY | {"levels": []}]},
    "a level that is no text": {"columns": [CATEGORY | {"levels": [1]}]},
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_no_record_is_refused(name):
    assert Record.from_dict({"columns": [NUMBER, CATEGORY]}).width == 3
    with raises(ValueError, "Record.from_dict: record"):
        Record.from_dict(GARBAGE[name])
