"""labels.csv."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import BadInputError
from trainer.data.table import parse_table

WORD = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"], exclude_characters=";|\ufeff"),
    min_size=1,
    max_size=9,
)


@given(
    st.lists(
        st.tuples(
            WORD,
            st.lists(WORD, max_size=3, unique=True),
            WORD,
            st.sampled_from(["train", "VAL", "test", "validation"]),
        ),
        min_size=1,
        max_size=8,
        unique_by=(lambda row: row[0], lambda row: row[2]),
    ),
    st.sampled_from([";", "|", " ; "]),
    st.sampled_from(["", "\ufeff"]),
)
def test_what_a_spreadsheet_writes_is_read_back(
    rows: list[tuple[str, list[str], str, str]], separator: str, mark: str
) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["path", "labels", "patient", "split", "remark"])
    for path, labels, patient, split in rows:
        writer.writerow([path, separator.join(labels), patient, split, "a, b"])
    parsed = parse_table(mark + out.getvalue(), "labels.csv")
    names = {"train": "train", "VAL": "val", "validation": "val", "test": "test"}
    assert [(r.path, list(r.labels), r.patient, r.split) for r in parsed] == [
        (path, labels, patient, names[split]) for path, labels, patient, split in rows
    ]


@given(
    st.text(max_size=200) | st.text('path,labels;|"\n\r\0 x', max_size=80).map(lambda t: "path,labels\n" + t)
)
def test_any_text_gives_rows_or_one_line_that_names_the_table(text: str) -> None:
    try:
        assert parse_table(text, "labels.csv")
    except BadInputError as error:
        assert str(error).startswith("labels.csv") and "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no images"),
        ("path,labels\n", "lists no images"),
        ("file,labels\na,b\n", "line 1: has no column 'path'"),
        ("path;labels\na;b\n", "line 1: has no column 'path'"),
        ("path,labels\na.png,x\n,y\n", "line 3: has no path"),
        ("path,labels\na.png,x,y\n", "line 2: has 3 cells for 2 columns; separate labels by ';'"),
        ("path,labels\na.png,x\n\na.png,y\n", "line 4: 'a.png' stands already on line 2"),
        (
            "path,labels,split\na.png,x,train\nb.png,x,dev\n",
            "line 3: unknown split 'dev'; use train, val or test",
        ),
        ("path,labels,split\na.png,x,train\nb.png,x,\n", "line 3: has no split though others have"),
        ("path,labels,age\na.png,x,063Y\n", "line 2: age must be years"),
        ("path,labels,age\na.png,x,nan\n", "line 2: age must be years"),
        ("path,labels,sex\na.png,x,female\n", "line 2: unknown sex"),
        ('path,labels\na.png,"x\n', "line 2"),
    ],
)
def test_a_bad_row_is_named_by_its_line(text: str, says: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_table(text, "labels.csv")
    assert says in str(caught.value)


def test_a_patient_in_two_splits_is_refused_without_naming_them() -> None:
    with pytest.raises(BadInputError) as caught:
        parse_table("path,labels,patient,split\na.png,x,Doe,train\nb.png,x,Doe,test\n", "labels.csv")
    assert "line 3" in str(caught.value) and "line 2" in str(caught.value) and "Doe" not in str(caught.value)


def test_what_is_known_of_a_patient_is_kept() -> None:
    (row,) = parse_table("Path,Labels,Site,Age,Sex\na.png,x,north,6.5,f\n", "labels.csv")
    assert (row.site, row.age_years, row.sex, row.split, row.line) == ("north", 6.5, "F", None, 2)
