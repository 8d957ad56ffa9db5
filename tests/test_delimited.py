"""CSV files: the fast reader gives what the row-by-row reader gives, or leaves the file to it."""

import csv
import gzip
import io

import pandas
import pyarrow
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from raised import raises

from dropmax.data import delimited

SEPARATORS = st.sampled_from(delimited.SEPARATORS)
CELLS = st.text(alphabet="ab1,;\t| \"'\n.é\u00a0\u2028\x1f-", max_size=6)


def both(text, separator):
    """What the two readers make of a text: header, columns of texts, and what is broken."""
    header = next(delimited._records(list(io.StringIO(text, newline="")), separator), [])
    count = len(header) if isinstance(header, list) else 0
    readers = (
        delimited._sound(text, separator, count),
        delimited._row_by_row(text, separator),
    )
    return [r and (r[0], [column.to_pylist() for column in r[1]], r[2]) for r in readers]


@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=8
        )
    ),
    separator=SEPARATORS,
    quoting=st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
    end=st.sampled_from(("\n", "\r\n", "\n\n", "\r")),
)
def test_a_sound_file_is_read_at_once_and_the_same(rows, separator, quoting, end):
    if end == "\r":  # of line ends the writer quotes only its own
        rows = [[cell.replace("\n", end) for cell in row] for row in rows]
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)
    fast, slow = both(stream.getvalue(), separator)
    assert fast == slow
    header, columns, broken = slow
    assert (header, broken) == (rows[0], {})
    assert columns == [[row[place] for row in rows[1:]] for place in range(len(rows[0]))]
    for column in columns:
        for has_marks in (False, True):
            fields = pyarrow.array(column, pyarrow.string())
            trimmed = delimited._trimmed(fields, has_marks=has_marks).to_pylist()
            assert trimmed == [cell.strip() or None for cell in column]


@given(text=st.text(alphabet='ab,;" \n\r\té\ufffd', min_size=1, max_size=40), separator=SEPARATORS)
@example('a,b\n"c"d,e\n', ",")
@example('a,b\n"c",e"\n"f,g\n', ",")
@example('a,b\n"c\nd,e\n', ",")
@example('a\n""\n\n"b"\n', ",")
def test_of_any_other_file_no_row_is_read_otherwise(text, separator):
    if not text.strip():
        return
    text = text[delimited.BLANK.match(text).end() :] if delimited.BLANK.match(text) else text
    fast, slow = both(text, separator)
    if fast is not None:
        assert fast == slow


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz"])
def test_a_packed_file_is_the_file(name, tmp_path):
    separator = "\t" if ".tsv" in name else ","
    frame = pandas.DataFrame({"x": ["a, b", "c"], "é": ["1.50", "007"]})
    frame.to_csv(tmp_path / name, sep=separator, index=False)
    assert name.endswith(".gz") == (tmp_path / name).read_bytes().startswith(delimited.GZIP)
    rows, broken, _ = delimited.read("source", tmp_path / name)
    assert (rows[:], broken) == ({"x": ["a, b", "c"], "é": ["1.50", "007"]}, {})


def test_a_packed_file_that_is_cut_off_is_named(tmp_path):
    file = tmp_path / "a.csv.gz"
    file.write_bytes(gzip.compress(b"x,label\n" + b"1,a\n" * 999)[:-20])
    with raises(ValueError, "dropmax: source"):
        delimited.read("source", file)


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "SEP=; \n"])
def test_a_first_line_may_state_the_separator(first, tmp_path):
    (tmp_path / "a.csv").write_text(first + "x,y;label\n1,5;ant\n2;bee\n", encoding="utf-8")
    rows, broken, _ = delimited.read("source", tmp_path / "a.csv")
    assert (rows[:], broken) == ({"x,y": ["1,5", "2"], "label": ["ant", "bee"]}, {})


@pytest.mark.parametrize(
    ("header", "number"),
    [("5.1,3.5,setosa", "5.1"), ("1,0,3", "1"), ("0,1,2", None), ("2019,2020,x", None)],
)
def test_a_first_line_that_may_be_a_row_is_said(header, number, tmp_path, recwarn):
    (tmp_path / "a.csv").write_text(f"{header}\n4.9,3.0,7\n", encoding="utf-8")
    rows, *_ = delimited.read("source", tmp_path / "a.csv")
    assert list(rows.features) == header.split(",")
    assert [f"such as {number!r};" in str(one.message) for one in recwarn] == [True] * bool(number)


def test_columns_without_a_name_are_called_as_pandas_calls_them(tmp_path):
    for header in (",x,", ",x,Unnamed: 0"):
        (tmp_path / "a.csv").write_text(f"{header}\n1,2,3\n", encoding="utf-8")
        rows, *_ = delimited.read("source", tmp_path / "a.csv")
        names = list(pandas.read_csv(tmp_path / "a.csv").columns)
        assert len(set(rows.features)) == 3
        if header == ",x,":
            assert list(rows.features) == names
