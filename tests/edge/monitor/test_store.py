from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import MQTTMessage

from edge.errors import BadInputError, ScanwrightError
from edge.monitor.receiver import Receiver
from edge.monitor.store import Store, store_path
from edge.mqtt.broker import Broker
from edge.mqtt.payloads import Finding

FINDING = {
    "id": "0" * 31 + "1",
    "site": "clinic",
    "device": "cart-1",
    "stamp": {"at": "2026-01-01T00:00:00Z", "clock_trusted": True, "monotonic_s": 1.0, "boot_id": "b"},
    "case_code": "AAAA-0001",
    "study": "0" * 32,
    "source": "folder",
    "bundle": {
        "name": "tiny",
        "version": "1.0.0",
        "sha256": "0" * 64,
        "target": "raspberry-pi-5",
        "signed": False,
    },
    "decision": "negative",
}


def finding(number: int = 1, **changes: object) -> tuple[Finding, str]:
    text = json.dumps(FINDING | {"id": f"{number:032x}"} | changes)
    return Finding.model_validate_json(text), text


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "findings.db")
    yield opened
    opened.close()


def test_what_is_kept_is_synchronous_full_and_there_for_the_next(tmp_path):
    store = Store(tmp_path / "findings.db")
    assert store._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.keep([finding(1), finding(2)]) == 2
    name = store.name
    store.close()
    with closing(Store(tmp_path / "findings.db")) as again:
        assert again.count() == 2
        assert again.name == name


def test_an_id_is_kept_once_for_a_device_and_no_device_takes_anothers(store):
    first = finding(1)
    assert store.keep([first, finding(1, backfill=True)]) == 1
    assert store.keep([first]) == 0
    assert store.keep([finding(1, device="cart-2"), finding(1, site="other")]) == 2
    kept = store._database.execute("SELECT payload FROM finding ORDER BY seq LIMIT 1").fetchone()
    assert kept == (first[1],)


def test_a_second_receiver_is_refused(store, tmp_path):
    with pytest.raises(ScanwrightError, match="another monitor"):
        Store(tmp_path / "findings.db")


def test_what_cannot_be_a_store_is_refused_by_name(tmp_path):
    (tmp_path / "text.db").write_text("this is no database, but it is long enough to be one" * 100)
    with pytest.raises(ScanwrightError, match=r"text\.db"):
        Store(tmp_path / "text.db")
    with pytest.raises(BadInputError, match="missing"):
        Store(tmp_path / "missing" / "findings.db")
    with closing(sqlite3.connect(tmp_path / "new.db")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(ScanwrightError, match="newer monitor"):
        Store(tmp_path / "new.db")


@pytest.mark.parametrize("url", ["findings.db", "postgresql://host/findings", "sqlite:///"])
def test_other_stores_are_refused(url):
    with pytest.raises(BadInputError, match="sqlite:///PATH"):
        store_path(url)


def message(payload: bytes, topic: str = "scanwright/clinic/cart-1/up/finding") -> MQTTMessage:
    made = MQTTMessage(1, topic.encode())
    made.payload = payload
    return made


@pytest.fixture
def receiver(store):
    return Receiver(Broker("127.0.0.1", 1), store)


def test_a_finding_of_its_own_topic_is_taken(receiver):
    taken = receiver._parse(message(finding()[1].encode()))
    assert taken and taken[0].id == FINDING["id"]
    assert receiver.refused == 0


@pytest.mark.parametrize(
    ("payload", "topic"),
    [
        (finding()[1].encode(), "scanwright/clinic/cart-2/up/finding"),
        (finding()[1].encode(), "scanwright/other/cart-1/up/finding"),
        (b"", "scanwright/clinic/cart-1/up/finding"),
        (b"[" * 100_000, "scanwright/clinic/cart-1/up/finding"),
        (b'"\xff\xfe"', "scanwright/clinic/cart-1/up/finding"),
        (json.dumps(FINDING | {"id": "x"}).encode(), "scanwright/clinic/cart-1/up/finding"),
        (json.dumps(FINDING | {"patient": "x"}).encode(), "scanwright/clinic/cart-1/up/finding"),
    ],
)
def test_what_is_no_finding_of_its_topic_is_refused(receiver, payload, topic):
    assert receiver._parse(message(payload, topic)) is None
    assert receiver.refused == 1


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(sorted(FINDING)) | st.text(max_size=5),
        st.none() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.integers(), max_size=3),
    ).map(lambda changes: json.dumps(FINDING | changes).encode())
)
def test_no_payload_breaks_the_receiver(tmp_path_factory, payload):
    with closing(Store(tmp_path_factory.mktemp("store") / "findings.db")) as store:
        receiver = Receiver(Broker("127.0.0.1", 1), store)
        taken = receiver._parse(message(payload))
        assert (taken is None) == (receiver.refused == 1)
        if taken:
            assert store.keep([taken]) == 1
