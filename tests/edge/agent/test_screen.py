"""The screen's server: what each address answers, and with which headers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from screen_store import BUNDLE, Filled, make_config

from edge.agent.config import ScreenConfig
from edge.agent.screen import ScreenServer
from edge.bundle.reasons import Reason
from edge.errors import ScanwrightError
from edge.mqtt.payloads import Finding
from edge.web.catalogue import load_texts

HOST = "127.0.0.1"


class Served:
    """A screen on a free port over a store of its own."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.filled = Filled(folder)
        self.connected = False
        self.trouble: str | None = None
        self.server = ScreenServer(
            self.filled.store,
            make_config(folder, **changes),
            ScreenConfig(port=0),
            [BUNDLE],
            lambda: self.connected,
            trouble=lambda: self.trouble,
        )
        self.server.start()
        self.port = int(self.server.url.rsplit(":", 1)[1].strip("/"))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, self.port)) == 0:
                    return
            time.sleep(0.02)

    def open(self, path: str, method: str = "GET") -> HTTPResponse:
        connection = HTTPConnection(HOST, self.port, timeout=10)
        connection.request(method, path)
        return connection.getresponse()

    def text(self, path: str = "/") -> str:
        return self.open(path).read().decode()

    def close(self) -> None:
        self.server.stop()
        self.filled.database.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    screen = Served(tmp_path)
    yield screen
    screen.close()


@pytest.mark.parametrize("path", ["/", "/api/findings", "/static/style.css", "/image/none.png", "/nowhere"])
def test_every_answer_forbids_foreign_content_framing_sniffing_and_caching(served: Served, path: str) -> None:
    headers = served.open(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"


def test_the_page_shows_the_last_finding_without_any_script(served: Served) -> None:
    served.filled.put("negative", "normal")
    last = served.filled.put("positive", "consolidation", p=0.934)
    page = served.text()
    assert page.index(">consolidation</bdi>") > 0
    assert "93%" in page
    assert last.case_code in page
    assert f"/image/{last.id}.png" in page
    assert f"/overlay/{last.id}.png" in page
    assert "Suspected" in page
    assert "12 ms" in page
    assert "<style" not in page
    assert "style=" not in page
    assert "onclick" not in page


def test_no_certainty_is_claimed(served: Served) -> None:
    served.filled.put("positive", "effusion", p=0.9999)
    page = served.text()
    assert "&gt;99%" in page
    assert "100%" not in page


def test_the_page_says_what_it_is_not_and_that_the_model_is_unsigned(served: Served) -> None:
    page = served.text()
    assert "not a medical device" in page
    assert "Unsigned model" in page
    assert "Waiting for the first image" in page


@pytest.mark.parametrize("reason", list(Reason))
def test_no_result_is_said_with_its_reason_and_without_a_heat_map(served: Served, reason: Reason) -> None:
    last = served.filled.put("no_result", reasons=[reason])
    page = served.text()
    assert load_texts("en")[f"reason.{reason.value}"] in page
    assert "No result" in page
    assert f"/overlay/{last.id}" not in page
    assert 'class="meter"' not in page


def test_a_model_without_an_out_of_distribution_gate_is_named_as_such(served: Served) -> None:
    served.filled.put("negative", "normal", evidence={})
    assert load_texts("en")["model.no_gate"] in served.text()


@pytest.mark.parametrize(("trouble", "words"), [("disk", "No new images"), ("metered", "data allowance")])
def test_a_full_disk_and_a_spent_link_are_told(served: Served, trouble: str, words: str) -> None:
    assert words not in served.text()
    served.trouble = trouble
    assert words in served.text()


def test_the_site_policy_of_a_finding_is_named(served: Served) -> None:
    served.filled.put("positive", "effusion")
    assert "Site policy" not in served.text()
    served.filled.put("positive", "effusion", policy="night-2026")
    assert "Site policy" in served.text() and "night-2026" in served.text()


def test_a_label_is_text_and_never_markup(served: Served) -> None:
    served.filled.put("positive", "<script>alert(1)</script>")
    page = served.text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_an_earlier_finding_can_be_opened_and_is_marked_as_earlier(served: Served) -> None:
    first = served.filled.put("positive", "effusion")
    second = served.filled.put("negative", "normal")
    page = served.text(f"/?finding={first.id}")
    assert f'data-finding="{first.id}"' in page
    assert "You are looking at an earlier result." in page
    assert f'id="newer" href="/?finding={second.id}"' in page
    assert "earlier result" not in served.text()


@pytest.mark.parametrize("query", ["?finding=", "?finding=../x", "?finding=" + "0" * 32, "?finding=%00%ff"])
def test_an_unknown_finding_shows_the_latest(served: Served, query: str) -> None:
    last = served.filled.put("negative", "normal")
    assert f'data-finding="{last.id}"' in served.text("/" + query)


def test_the_frames_of_one_study_are_counted_on_one_card(served: Served) -> None:
    study = "c" * 32
    for frame in range(3):
        served.filled.put("no_result", study=study, frame=frame, reasons=["blurred"])
    hit = served.filled.put("positive", "mass", study=study, frame=3)
    served.filled.put("negative", "normal", study=study, frame=4)
    page = served.text()
    assert page.count('class="study"') == 1
    assert 'class="study" aria-current="true"' in page or 'aria-current="true"' in page
    assert f'href="/?finding={hit.id}"' in page
    assert "<b>3</b>" in page


def test_the_link_to_the_broker_is_told(served: Served) -> None:
    assert 'class="link offline"' in served.text()
    served.connected = True
    assert 'class="link online"' in served.text()


def test_pictures_are_png_and_an_unknown_one_is_not_found(served: Served) -> None:
    last = served.filled.put("positive", "effusion")
    bare = served.filled.put("no_result", pictures=False, reasons=["unreadable"])
    answer = served.open(f"/image/{last.id}.png")
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.read().startswith(b"\x89PNG")
    assert served.open(f"/overlay/{last.id}.png").read().startswith(b"\x89PNG")
    assert served.open(f"/image/{bare.id}.png").status == 404
    assert served.open("/image/..%2f..%2fagent.db.png").status == 404
    assert "No picture is kept" in served.text()


def test_the_findings_are_listed_as_they_were_told(served: Served) -> None:
    first = served.filled.put("negative", "normal")
    last = served.filled.put("no_result", reasons=["blank"])
    answer = json.loads(served.text("/api/findings"))
    assert [row["finding"]["id"] for row in answer["findings"]] == [last.id, first.id]
    assert answer["findings"][0]["finding"] == json.loads(last.model_dump_json())
    assert answer["sequence"] == 2
    assert answer["connected"] is False


def test_a_new_finding_and_a_lost_broker_are_pushed(served: Served) -> None:
    stream = served.open("/api/events")
    assert stream.headers["Content-Type"].startswith("text/event-stream")

    def state() -> dict[str, object]:
        while True:
            line = stream.readline().decode()
            assert line, "the stream ended"
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))

    expected = {
        "sequence": 0,
        "connected": False,
        "waiting": 0,
        "trouble": None,
        "identifying": False,
        "stick": None,
    }
    assert state() == expected
    served.filled.put("negative", "normal")
    assert state() == (expected := expected | {"sequence": 1})
    served.connected = True
    assert state() == (expected := expected | {"connected": True})
    served.trouble = "disk"
    assert state() == (expected := expected | {"trouble": "disk"})
    served.server.identify(30)
    assert state() == expected | {"identifying": True}


def test_it_stops_soon_while_a_page_listens(served: Served) -> None:
    stream = served.open("/api/events")
    stream.readline()
    start = time.monotonic()
    served.server.stop()
    assert time.monotonic() - start < 2
    with pytest.raises(OSError):
        served.open("/healthz")


def test_it_only_reads(served: Served) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert served.open("/", method).status == 405
    assert served.text("/healthz") == "ok\n"


def test_a_taken_port_is_one_clear_line(served: Served, tmp_path: Path) -> None:
    with pytest.raises(ScanwrightError, match=rf"screen: .*:{served.port} .*choose another screen.port"):
        ScreenServer(
            served.filled.store, make_config(tmp_path), ScreenConfig(port=served.port), [], lambda: True
        )


def test_arabic_runs_from_right_to_left(tmp_path: Path) -> None:
    screen = Served(tmp_path, language="ar")
    try:
        screen.filled.put("no_result", reasons=["out_of_distribution"])
        page = screen.text()
        assert '<html lang="ar" dir="rtl">' in page
        assert load_texts("ar")["reason.out_of_distribution"] in page
    finally:
        screen.close()


def test_a_clip_shows_its_newest_ejection_fraction_on_each_of_its_frames(served: Served) -> None:
    study = "cd" * 16

    def frame(number: int, fraction: float | None, **area: float) -> Finding:
        heart = {"label": "left ventricle", "unit": "%"}
        reason = None if fraction is not None else "no_whole_beat"
        frames = (1, 2) if fraction is not None else ()
        measurements = [
            {"name": "area", "label": "left ventricle", "value": 31.24, "unit": "cm2"},
            {"name": "ejection_fraction", **heart, "value": fraction, "reason": reason, "frames": frames},
        ]
        evidence = {"ood_score": 1.0, "ood_limit": 9.0, "area": {"left ventricle": 0.1}}
        return served.filled.put(
            "positive",
            "left ventricle",
            p=0.99 if number == 0 else 0.9,
            frame=number,
            study=study,
            measurements=measurements,
            evidence=evidence,
        )

    first = frame(0, None)
    page = served.text()
    texts = load_texts("en")
    assert texts["absent.no_whole_beat"] in page and texts["measure.method"] not in page
    assert "31.2 cm²" in page
    assert texts["image.outline"] in page and texts["image.heat"] not in page
    # A ventricle is nothing to be suspected.
    assert texts["decision.outlined"] in page and texts["decision.positive"] not in page
    diastole = frame(1, None)
    frame(2, 57.6)
    frame(3, 58.4)
    for path in ("/", f"/?finding={first.id}"):
        page = served.text(path)
        assert ">58%<" in page and texts["absent.no_whole_beat"] not in page
        assert texts["measure.method"] in page
    assert f'href="/?finding={diastole.id}" id="study-{study}"' in page
