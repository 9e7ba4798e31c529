"""The phone and a real mosquitto, over websockets: nothing found is lost, whatever dies in between."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from own_certificate import OwnCertificate
from phone_app import Phone, Server

from edge.bundle.archive import open_bundle
from edge.mqtt.payloads import Birth, Finding, Health
from edge.phone.app import write_app
from edge.web.catalogue import load_texts
from tests.integration.conftest import Mosquitto, Subscriber, free_port, wait_for
from trainer.demo.build import SHIPPED

pytestmark = pytest.mark.integration
TEXTS = load_texts("en")
ROOT = "scanwright/ward-3/phone-07"
PASSWORD = "for-this-test-only"


@pytest.fixture
def ward(
    chromium: Any, mosquitto: Callable[..., Mosquitto], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Ward]:
    ward = Ward(chromium, mosquitto(), tmp_path, getattr(request, "param", "ws"))
    yield ward
    ward.phone.close()
    ward.server.stop()


class Ward:
    """A phone that is set up for a broker, which asks for a password at its websockets, ``ws`` or ``wss``."""

    def __init__(self, chromium: Any, broker: Mosquitto, folder: Path, scheme: str) -> None:
        tool = shutil.which("mosquitto_passwd")
        if tool is None:
            pytest.skip("mosquitto_passwd is not installed: apt-get install mosquitto")
        passwords = folder / "passwords"
        subprocess.run([tool, "-c", "-b", passwords, "phone-07", PASSWORD], check=True, capture_output=True)
        passwords.chmod(0o600)
        self.broker, self.address = broker, f"{scheme}://localhost:{(port := free_port())}/mqtt"
        certificate = OwnCertificate(folder)
        secured = f"certfile {certificate.path}\nkeyfile {certificate.path}" if scheme == "wss" else ""
        # This mosquitto binds websockets everywhere: so none without the password.
        broker.configure(
            f"""per_listener_settings true
listener {broker.port} 127.0.0.1
allow_anonymous true
listener {port}
protocol websockets
{secured}
allow_anonymous false
password_file {passwords}"""
        )
        self.server = Server(write_app(open_bundle(SHIPPED), folder))
        self.phone = Phone(chromium, folder / "profile", certificate.trust)
        self.pictures = folder
        self.given = 0

    def visit(self) -> None:
        self.phone.visit(self.server.url)

    def set_up(self, password: str = PASSWORD, receipts: bool = False) -> None:
        self.phone.page.click("#open-settings")
        for name, value in {
            "site": "ward-3",
            "device": "phone-07",
            "broker": self.address,
            "username": "phone-07",
            "password": password,
        }.items():
            self.phone.page.fill(f"#settings input[name={name}]", value)
        if receipts:
            self.phone.page.check("#settings input[name=receipts]")
        self.phone.page.click("#save")

    def give(self, count: int) -> None:
        for _ in range(count):
            path = self.pictures / f"{self.given}.png"
            random = np.random.default_rng(self.given)
            cv2.imwrite(str(path), random.integers(0, 256, (64, 64), np.uint8))
            self.given += 1
            self.phone.give(path)

    def link(self, key: str, **values: int) -> None:
        text = TEXTS[key].format(**values)
        self.phone.page.wait_for_function(
            "text => document.getElementById('link').textContent === text", arg=text
        )

    def ids(self) -> set[str]:
        return {result["id"] for result in self.phone.kept("results")}


@pytest.mark.parametrize("ward", ["ws", "wss"], indirect=True)
def test_it_speaks_as_a_cart_does(ward: Ward, subscriber: Callable[[int], Subscriber]) -> None:
    ward.broker.start()
    watcher = subscriber(ward.broker.port)
    ward.visit()
    ward.set_up()
    ward.link("link.online")
    ward.give(1)
    ward.link("link.online")
    (payload,) = wait_for(lambda: watcher.topics("/up/finding"))
    found = Finding.model_validate_json(payload)
    assert (found.site, found.device, found.backfill) == ("ward-3", "phone-07", False)
    birth = Birth.model_validate_json(watcher.topics("/up/birth")[0])
    assert (birth.target, birth.bundles[0].sha256) == ("raspberry-pi-5", open_bundle(SHIPPED).sha256)
    Health.model_validate_json(wait_for(lambda: watcher.topics("/up/health"))[0])
    assert watcher.topics("/up/availability") == [b"online"]
    assert {topic.rsplit("/up/")[0] for topic, _ in watcher.messages} == {ROOT}
    ward.phone.kill()
    assert wait_for(lambda: watcher.topics("/up/availability")[1:]) == [b"offline"]


def test_findings_survive_a_dead_broker_and_a_killed_browser_and_arrive_once_each(
    ward: Ward, subscriber: Callable[[int], Subscriber]
) -> None:
    ward.broker.start()
    ward.visit()
    ward.phone.kept_offline()
    ward.set_up()
    ward.link("link.online")
    ward.broker.kill()
    ward.give(3)
    ward.link("link.offline", n=3)
    assert TEXTS["phone.broker_unreachable"] in ward.phone.texts("#top .why")
    ids = ward.ids()
    ward.phone.kill()
    ward.server.stop()
    ward.broker.start()
    watcher = subscriber(ward.broker.port)
    ward.phone.open()
    ward.visit()
    ward.link("link.online")
    findings = wait_for(lambda: watcher.findings() if len(watcher.findings()) >= 3 else [])
    assert sorted(finding["id"] for finding in findings) == sorted(ids)
    assert all(finding["backfill"] for finding in findings)
    assert ward.phone.kept("outbox") == []
    ward.server.start()


def test_a_phone_whose_broker_was_never_there_is_given_another(
    ward: Ward, subscriber: Callable[[int], Subscriber]
) -> None:
    right, ward.address = ward.address, f"ws://localhost:{free_port()}/mqtt"
    ward.visit()
    ward.set_up()
    ward.give(1)
    ward.phone.page.wait_for_selector("#top .why")
    ward.broker.start()
    watcher = subscriber(ward.broker.port)
    ward.address = right
    ward.set_up()
    ward.link("link.online")
    assert {finding["id"] for finding in wait_for(watcher.findings)} == ward.ids()


def test_without_a_receiver_a_finding_stays_until_there_is_one(
    ward: Ward, subscriber: Callable[[int], Subscriber]
) -> None:
    ward.broker.start()
    ward.visit()
    ward.set_up()
    ward.link("link.online")
    ward.give(1)
    ward.link("link.sending", n=1)
    watcher = subscriber(ward.broker.port)
    ward.link("link.online")
    assert {finding["id"] for finding in watcher.findings()} == ward.ids()


def test_with_receipts_only_an_ack_lets_a_finding_go(
    ward: Ward, subscriber: Callable[[int], Subscriber]
) -> None:
    ward.broker.start()
    watcher = subscriber(ward.broker.port)
    ward.visit()
    ward.set_up(receipts=True)
    ward.link("link.online")
    ward.give(2)
    wait_for(lambda: len(watcher.findings()) == 2)
    ward.link("link.sending", n=2)
    watcher.publish(f"{ROOT}/down/ack", json.dumps({"ids": sorted(ward.ids())}))
    ward.link("link.online")
    assert ward.phone.kept("outbox") == []


def test_a_wrong_password_is_said_and_findings_wait(ward: Ward) -> None:
    ward.broker.start()
    ward.visit()
    ward.set_up(password="another")
    ward.give(1)
    ward.link("link.offline", n=1)
    ward.phone.page.wait_for_function(
        "text => document.querySelector('#top .why')?.textContent === text", arg=TEXTS["phone.broker_refused"]
    )
