"""Names are shown to the PIN alone, at the cart alone, for five minutes, and wrong PINs cost time."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import urlencode

import pytest
from screen_store import BUNDLE, Filled, make_config

from edge.agent.cases import Cases
from edge.agent.config import ScreenConfig
from edge.agent.identity import Identity
from edge.agent.lock import Lock, read_pin, write_pin
from edge.agent.screen import ScreenServer
from edge.agent.vault import Vault
from edge.errors import BadInputError
from edge.imaging.patient import Patient
from edge.web.catalogue import load_texts

PIN = "246810"
TEXTS = load_texts("en")


def patient(name: str = "DOE^JANE^M=山田^花子", id_: str = "MRN-77") -> Patient:
    alphabetic, _, ideographic = name.partition("=")
    return Patient(alphabetic, ideographic, "", id_, "ACC-9", "1.2.3", "20260101", "chest")


@pytest.mark.parametrize("pin", ["", "12345", "1234567890123", "12a456", "１２３４５６"])
def test_a_pin_is_of_six_to_twelve_digits(tmp_path, pin):
    with pytest.raises(BadInputError):
        write_pin(tmp_path / "pin", pin)


def test_a_kept_pin_is_known_again_and_is_not_in_its_file(tmp_path):
    write_pin(tmp_path / "pin", PIN)
    assert read_pin(tmp_path / "pin")(PIN) and not read_pin(tmp_path / "pin")("246811")
    assert PIN not in (tmp_path / "pin").read_text() and (tmp_path / "pin").stat().st_mode & 0o777 == 0o600
    for damaged in (b"", b"{}", b"[1]", b'{"scrypt": {"n": 3, "r": 8, "p": 1, "salt": "", "hash": ""}}'):
        (tmp_path / "pin").write_bytes(damaged)
        with pytest.raises(BadInputError, match="agent pin"):
            read_pin(tmp_path / "pin")


def test_wrong_pins_cost_time_and_a_right_one_within_it_is_not_looked_at():
    now = 0.0
    asked: list[str] = []

    def check(pin: str) -> bool:
        asked.append(pin)
        return pin == PIN

    lock = Lock(check, lambda: now)
    assert [lock.open("111111") for _ in range(4)] == [None] * 4
    assert lock.wait_s() == 30
    assert lock.open(PIN) is None and len(asked) == 4
    now = 31
    assert lock.open("111111") is None and lock.wait_s() == 60
    for _ in range(12):
        now += lock.wait_s()
        lock.open("111111")
    assert lock.wait_s() == 3600
    now += 3600
    assert lock.open(PIN) and not lock.wait_s()


def test_the_lock_closes_by_itself_and_by_hand():
    now = 0.0
    lock = Lock(lambda pin: True, lambda: now)
    first, second = lock.open(PIN), lock.open(PIN)
    assert first and second and lock.opened(first.token) == first != lock.opened(second.token)
    lock.close(second.token)
    assert lock.opened(second.token) is None and lock.opened("") is None and lock.opened(None) is None
    now = 299
    assert lock.opened(first.token)
    now = 300
    assert lock.opened(first.token) is None


class Served:
    def __init__(self, folder: Path, pin: bool = True) -> None:
        self.filled = Filled(folder)
        self.cases = Cases(self.filled.database, Vault(b"k" * 32), Identity(b"i" * 32))
        if pin:
            write_pin(folder / "pin", PIN)
        screen = ScreenConfig(port=0, pin_file=folder / "pin" if pin else None)
        self.server = ScreenServer(
            self.filled.store, make_config(folder), screen, [BUNDLE], lambda: True, self.cases
        )
        self.server.start()
        self.port = int(self.server.url.rsplit(":", 1)[1].strip("/"))
        self.origin = self.server.url.strip("/")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return

    def ask(self, path: str, method: str = "GET", **more: str) -> HTTPResponse:
        body = more.pop("body", None)
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, headers)
        return connection.getresponse()

    def unlock(self, pin: str = PIN, **more: str) -> HTTPResponse:
        body = urlencode({"pin": pin, "finding": more.pop("finding", "")})
        return self.ask("/unlock", "POST", body=body, **{"Origin": self.origin, **more})

    def cookie(self) -> str:
        return self.unlock().headers["Set-Cookie"].split(";")[0]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.server.stop()
    one.filled.database.close()


def put(served: Served, *patients: Patient) -> str:
    finding = served.filled.put("positive", "effusion")
    for one in patients:
        served.cases.keep(finding.study, one).result()
    return finding.id


def test_a_finding_says_whose_it_is_only_after_the_pin(served):
    id_ = put(served, patient())
    locked = served.ask("/").read().decode()
    assert f'href="/unlock?finding={id_}"' in locked
    answer = served.unlock(finding=id_)
    assert (answer.status, answer.headers["Location"]) == (303, f"/?finding={id_}")
    cookie = answer.headers["Set-Cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Max-Age=300", "Path=/"))
    shown = served.ask("/", Cookie=cookie.split(";")[0]).read().decode()
    for what in ("DOE, JANE M · 山田 花子", "MRN-77", "ACC-9"):
        assert what in shown and what not in locked
    for path in ("/api/findings", "/?finding=" + id_, "/unlock"):
        assert "DOE" not in served.ask(path).read().decode()
    assert "DOE" not in served.ask("/", Cookie="scanwright=guess").read().decode()
    served.ask("/lock", "POST", body="", Origin=served.origin, Cookie=cookie.split(";")[0])
    assert "DOE" not in served.ask("/", Cookie=cookie.split(";")[0]).read().decode()


def test_a_study_that_names_two_patients_warns_and_shows_both(served):
    put(served, patient(), patient("ROE^RICHARD", "MRN-78"))
    shown = served.ask("/", Cookie=served.cookie()).read().decode()
    assert TEXTS["patient.conflict"] in shown and "DOE, JANE" in shown and "ROE, RICHARD" in shown


def test_nobody_is_named_where_the_image_names_nobody_or_the_key_is_lost(served):
    id_ = put(served)
    cookie = served.cookie()
    assert TEXTS["patient.unknown"] in served.ask("/", Cookie=cookie).read().decode()
    study = served.filled.store.get(id_).finding["study"]
    Cases(served.filled.database, Vault(b"x" * 32), Identity(b"i" * 32)).keep(study, patient()).result()
    assert TEXTS["patient.lost"] in served.ask("/", Cookie=cookie).read().decode()


def test_a_name_is_text_and_never_markup(served):
    put(served, patient("<script>alert(1)</script>"))
    assert "<script>alert" not in served.ask("/", Cookie=served.cookie()).read().decode()


def test_what_does_not_come_from_this_page_at_this_cart_is_refused(served):
    put(served, patient())
    assert served.unlock(Origin="http://evil.example").status == 403
    assert served.ask("/unlock", "POST", body=f"pin={PIN}").status == 403
    assert served.unlock(Host="evil.example", Origin="http://evil.example").status == 404
    assert served.unlock("1" * 2000).status == 403
    cookie = served.cookie()
    assert "DOE" not in served.ask("/", Cookie=cookie, Host=f"cart.example:{served.port}").read().decode()
    assert served.ask("/lock", "POST", body="", Cookie=cookie).status == 403


def test_wrong_pins_are_said_and_then_have_to_wait(served):
    put(served, patient())
    answers = [served.unlock("111111") for _ in range(4)]
    assert [answer.status for answer in answers] == [403, 403, 403, 429]
    assert TEXTS["pin.wrong"] in answers[0].read().decode()
    late = served.unlock()
    assert late.status == 429 and "Set-Cookie" not in late.headers


def test_without_a_pin_there_is_no_way_to_a_name(tmp_path):
    served = Served(tmp_path, pin=False)
    put(served, patient())
    assert served.unlock().status == 404 and served.ask("/unlock").status == 404
    page = served.ask("/").read().decode()
    assert "DOE" not in page and "unlock" not in page
    served.server.stop()
    served.filled.database.close()
