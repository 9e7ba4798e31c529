"""Requests for storage commitment: what is one, and what is answered when."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from edge.agent.commitment import outcome
from edge.agent.spool import Custody
from edge.sources import commitment
from edge.sources.commitment import FOLDER, InvalidRequestError, keep, references_of

_CLASS = "1.2.840.10008.5.1.4.1.1.6.1"


def request(transaction: str, *instances: str) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = transaction
    items = []
    for instance in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = _CLASS, instance
        items.append(item)
    asked.ReferencedSOPSequence = items
    return asked


def test_a_request_is_kept_whole(tmp_path: Path) -> None:
    keep(tmp_path, "US1", request("1.2.3", "1.2.4", "1.2.5"))
    (path,) = (tmp_path / FOLDER).iterdir()
    kept = json.loads(path.read_text())
    assert (kept["caller"], kept["transaction"]) == ("US1", "1.2.3")
    assert kept["references"] == [[_CLASS, "1.2.4"], [_CLASS, "1.2.5"]]
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "asked",
    [Dataset(), request("1.2.3"), request("", "1.2.4"), request("1.2.3", ""), request("../x", "1.2.4")],
)
def test_what_is_no_request_is_refused(asked: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError):
        keep(tmp_path, "US1", asked)
    assert not (tmp_path / FOLDER).exists()


def test_more_than_can_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitment, "MOST", 2)
    assert references_of(request("1.2.3", "1.2.4", "1.2.5"))
    with pytest.raises(InvalidRequestError):
        references_of(request("1.2.3", "1.2.4", "1.2.5", "1.2.6"))


@given(transaction=st.text(max_size=70), instance=st.text(max_size=70))
def test_only_uids_come_through(transaction: str, instance: str) -> None:
    asked, item = Dataset(), Dataset()
    asked.add_new(0x00081195, "LO", transaction)
    item.add_new(0x00081150, "LO", _CLASS)
    item.add_new(0x00081155, "LO", instance)
    asked.ReferencedSOPSequence = [item]
    try:
        found, references = references_of(asked)
    except InvalidRequestError:
        return
    assert all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in (found, *references[0]))


def said(*custodies: Custody, age_s: float = 0) -> dict[str, int | None] | None:
    where = {f"1.2.{number}": custody for number, custody in enumerate(custodies)}
    return outcome([(_CLASS, instance) for instance in where], where.__getitem__, age_s)


def test_success_is_said_only_of_what_the_archive_has() -> None:
    assert said("archived", "archived") == {"1.2.0": None, "1.2.1": None}
    assert said("archived", "waiting") is None
    assert said("archived", "waiting", age_s=1e6) is None


def test_what_the_archive_refuses_or_nobody_sent_fails() -> None:
    assert said("archived", "refused") == {"1.2.0": None, "1.2.1": 0x0110}
    assert said("unknown") is None, "it may still be on its way in"
    assert said("unknown", "archived", age_s=601) == {"1.2.0": 0x0112, "1.2.1": None}
