"""CSV files: the fast reader gives what the row-by-row reader gives, or leaves the file to it."""

import csv
import gzip
import io

import pandas
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from raised import raises

from dropmax.data import delimited

SEPARATORS = st.sampled_from(delimited.SEPARATORS)
CELLS = st.text(alphabet="ab1,;\t| \"'\n.é\u00a0\u2028\x1f-", max_size=6)


def both(text, separator):
    """What the two readers make of a text: header, columns of texts, and what is broken."""
    count = len(next(delimited._records(list(io.StringIO(text, newline="")), separator), ()))
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
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)
    fast, slow = both(stream.getvalue(), separator)
    assert fast == slow
    header, columns, broken = slow
    stripped = [[cell.strip() for cell in row] for row in rows]
    assert (header, broken) == (stripped[0], {})
    assert columns == [
        [row[place] or None for row in stripped[1:]] for place in range(len(rows[0]))
    ]


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
    rows, broken = delimited.read("source", tmp_path / name)
    assert (rows[:], broken) == ({"x": ["a, b", "c"], "é": ["1.50", "007"]}, {})


def test_a_packed_file_that_is_cut_off_is_named(tmp_path):
    file = tmp_path / "a.csv.gz"
    file.write_bytes(gzip.compress(b"x,label\n" + b"1,a\n" * 999)[:-20])
    with raises(ValueError, "dropmax: source"):
        delimited.read("source", file)


def test_columns_without_a_name_are_called_as_pandas_calls_them(tmp_path):
    for header in (",x,", ",x,Unnamed: 0"):
        (tmp_path / "a.csv").write_text(f"{header}\n1,2,3\n", encoding="utf-8")
        rows, _ = delimited.read("source", tmp_path / "a.csv")
        names = list(pandas.read_csv(tmp_path / "a.csv").columns)
        assert len(set(rows.features)) == 3
        if header == ",x,":
            assert list(rows.features) == names
