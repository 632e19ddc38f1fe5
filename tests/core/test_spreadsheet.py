"""Tables are read equally, however a spreadsheet saved them."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.core.spreadsheet import TableError, decode_text, parse_table, replace_decimal_commas

PLAIN = "name,score\na,0.5\nb,1\n"
ROWS = [(2, ("a", "0.5")), (3, ("b", "1"))]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_separators_encodings_and_line_ends_do_not_change_a_table(separator, encoding, ending):
    text = PLAIN.replace(",", separator).replace("\n", ending)
    assert parse_table(decode_text(text.encode(encoding)))[:2] == (("name", "score"), ROWS)


@pytest.mark.parametrize(
    "text",
    [
        "name,score,,\na,0.5,,\nb,1,,\n,,,\n,,,\n",
        '"name","score"\n"a","0.5"\n"b","1"',
        " name , score\na , 0.5\nb, 1\n",
        "name,score\na,0.5\nb,1,,\n\n  ,\n",
        ",name,score\n0,a,0.5\n1,b,1\n",
        'name, "score"\na, "0.5"\nb,1\n',
    ],
)
def test_empty_columns_and_rows_spaces_and_quotes_do_not_change_a_table(text):
    assert parse_table(text)[:2] == (("name", "score"), ROWS)


def test_excels_first_line_and_quoted_line_ends_are_counted_as_lines():
    assert parse_table("sep=;\nname;note\na;x\n").rows == [(3, ("a", "x"))]
    assert parse_table('name,note\na,"x\ny"\nb,"1,5"\n').rows == [(3, ("a", "x\ny")), (4, ("b", "1,5"))]
    assert parse_table("name,note\na\n").rows == [(2, ("a", ""))]
    assert parse_table("")[:2] == parse_table("\n,\n")[:2] == ((), [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2,3\n", "line 2 must have 2 entries like the header, found 3"),
        ("a;b;a\n", "column 'a' must occur once"),
        ('a,b\n"1,2\n', "must be comma-separated text"),
    ],
)
def test_text_that_is_not_a_table_is_refused_with_its_line(text, words):
    with pytest.raises(TableError, match=words):
        parse_table(text)


@pytest.mark.parametrize(
    ("cells", "separator", "points"),
    [
        (["0,5999", "1", "-,25"], ";", ["0.5999", "1", "-.25"]),
        (["1,234", "5,678"], "\t", ["1.234", "5.678"]),
        (["0,599", "0,601", ""], ",", ["0.599", "0.601", ""]),
        (["1,5e-3", "nan"], ";", ["1.5e-3", "nan"]),
        (["1,234", "12,345,678"], ",", None),
        (["1,234", "5,678"], ",", None),
        (["0,5", "0.6"], ";", None),
        (["img1,5", "0,6"], ";", None),
        (["0.5", "1"], ",", None),
    ],
)
def test_a_comma_is_decimal_if_all_fractions_of_a_column_have_one(cells, separator, points):
    assert replace_decimal_commas(cells, separator) == (points or cells)


@given(
    st.lists(st.lists(st.text(alphabet='ab ,;\t|"\n1é', max_size=5), min_size=3, max_size=3), max_size=6),
    st.sampled_from(",;\t"),
)
def test_tables_of_the_csv_writer_are_read(rows, separator):
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([("p", "q", "r"), *rows])
    expected = [tuple(cell.strip() for cell in row) for row in rows]
    assert [cells for _, cells in parse_table(text.getvalue()).rows] == [row for row in expected if any(row)]
