"""Reads ``labels.csv``: one row for each image, with its labels and what else is known of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.errors import BadInputError
from trainer.data.files import Unreadable
from trainer.data.folders import SPLITS, expand
from trainer.data.patients import patient_of
from trainer.data.sample import Sample

__all__ = ["TABLE", "Row", "parse_table", "read_table"]

TABLE = "labels.csv"
_COLUMNS = ("path", "labels", "patient", "site", "age", "sex", "split")


@dataclass(frozen=True)
class Row:
    """One row; ``line`` is its line in the file, counted from 1."""

    line: int
    path: str
    labels: tuple[str, ...]
    split: str | None = None
    patient: str | None = None
    site: str | None = None
    age_years: float | None = None
    sex: str | None = None


def parse_table(text: str, origin: str) -> list[Row]:
    """Rows of a comma-separated table whose first line names the columns.

    ``path`` and ``labels`` (several separated by ``;`` or ``|``) must be there; ``patient``, ``site``,
    ``age`` (years), ``sex`` (M, F, O) and ``split`` (train, val or validation, test) may be; other columns
    are ignored. Rows without a path and labels are passed over only where the whole line is blank.

    Raises:
        BadInputError: naming ``origin`` and the line: a column that is missing, a row that is too long,
            without path, with an unknown split, age or sex, a path listed twice, a split on some rows only,
            a patient in two splits.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: list[Row] = []
    columns: list[str] | None = None
    try:
        for cells in reader:
            where = f"{origin} line {reader.line_num}"
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if columns is None:
                columns = _columns(cells, where)
            elif len(cells) > len(columns):
                raise BadInputError(
                    f"{where}: has {len(cells)} cells for {len(columns)} columns; "
                    "separate labels by ';', not ','"
                )
            else:
                rows.append(_row(dict(zip(columns, cells, strict=False)), reader.line_num, where))
    except csv.Error as error:
        raise BadInputError(f"{origin} line {reader.line_num}: {error}") from error
    if not rows:
        raise BadInputError(f"{origin}: lists no images")
    _check_together(rows, origin)
    return rows


def read_table(
    data: Path, labels: tuple[str, ...] | None, unreadable: list[Unreadable]
) -> tuple[list[Sample], tuple[str, ...], Literal["single-label", "multi-label"]]:
    """Samples of ``data/labels.csv``, the labels (those given, or those found, sorted) and the task.

    The task is multi-label if any row has several labels, or none.

    Raises:
        BadInputError: see :func:`parse_table`; besides, a file that is missing or a label that is none of
            ``labels``, naming the line.
    """
    table = data / TABLE
    try:
        text = table.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"{table}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{table}: is not UTF-8 text") from error
    rows = parse_table(text, str(table))
    multi = any(len(row.labels) != 1 for row in rows)
    known = labels or tuple(sorted({label for row in rows for label in row.labels}))
    samples: list[Sample] = []
    for row in rows:
        if unknown := [label for label in row.labels if label not in known]:
            raise BadInputError(
                f"{table} line {row.line}: '{unknown[0]}' is none of the labels {', '.join(known)}"
            )
        samples += _samples(data, row, unreadable)
    return samples, known, "multi-label" if multi else "single-label"


def _columns(cells: list[str], where: str) -> list[str]:
    columns = [cell.lower() for cell in cells]
    missing = [name for name in ("path", "labels") if name not in columns]
    twice = [name for name in _COLUMNS if columns.count(name) > 1]
    if missing:
        raise BadInputError(
            f"{where}: has no column '{missing[0]}'; the first line names the columns, separated by commas: "
            "path,labels and, if known, patient,site,age,sex,split"
        )
    if twice:
        raise BadInputError(f"{where}: has the column '{twice[0]}' twice")
    return columns


def _row(cells: dict[str, str], line: int, where: str) -> Row:
    if not cells.get("path"):
        raise BadInputError(f"{where}: has no path")
    labels = tuple(
        dict.fromkeys(
            part.strip() for part in cells.get("labels", "").replace("|", ";").split(";") if part.strip()
        )
    )
    split = cells.get("split") or None
    if split is not None and split.lower() not in SPLITS:
        raise BadInputError(f"{where}: unknown split '{split}'; use train, val or test")
    sex = cells.get("sex", "").upper() or None
    if sex not in (None, "M", "F", "O"):
        raise BadInputError(f"{where}: unknown sex; use M, F or O, or leave it empty")
    return Row(
        line=line,
        path=cells["path"],
        labels=labels,
        split=SPLITS[split.lower()] if split else None,
        patient=cells.get("patient") or None,
        site=cells.get("site") or None,
        age_years=_age(cells.get("age", ""), where),
        sex=sex,
    )


def _age(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        age = float(text)
    except ValueError:
        age = -1.0
    if not 0 <= age <= 150:
        raise BadInputError(f"{where}: age must be years from 0 to 150, or empty")
    return age


def _check_together(rows: list[Row], origin: str) -> None:
    lines: dict[str, int] = {}
    split_of: dict[str, Row] = {}
    for row in rows:
        if row.path in lines:
            raise BadInputError(
                f"{origin} line {row.line}: '{row.path}' stands already on line {lines[row.path]}; "
                "give several labels in one row, separated by ';'"
            )
        lines[row.path] = row.line
        if (row.split is None) != (rows[0].split is None):
            bare = row if row.split is None else rows[0]
            raise BadInputError(
                f"{origin} line {bare.line}: has no split though others have; give all or none"
            )
        if row.patient is not None:
            other = split_of.setdefault(row.patient, row)
            if other.split != row.split:
                raise BadInputError(
                    f"{origin} line {row.line}: the same patient is in '{row.split}' here and in "
                    f"'{other.split}' on line {other.line}; keep each patient in one split"
                )


def _samples(data: Path, row: Row, unreadable: list[Unreadable]) -> Iterator[Sample]:
    path = data / row.path
    try:
        there = path.is_file()
    except (OSError, ValueError):  # a name too long, or with a NUL
        there = False
    if not there:
        raise BadInputError(f"{data / TABLE} line {row.line}: there is no file {path}")
    sample = Sample(
        name=row.path,
        labels=row.labels,
        split=row.split,
        path=path,
        patient=row.patient or patient_of(Path(row.path)),
        site=row.site,
        age_years=row.age_years,
        sex=row.sex,
    )
    return expand(sample, unreadable)
