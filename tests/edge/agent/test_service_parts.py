from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

from edge.agent import logs
from edge.agent.clock import Clock
from edge.agent.config import AgentConfig
from edge.agent.database import Database
from edge.agent.health import Counters, measure
from edge.agent.identity import Identity
from edge.agent.model import Model, covers
from edge.agent.outbox import Outbox
from edge.agent.quarantine import Quarantine
from edge.agent.recorder import Recorder
from edge.agent.report import Reporter
from edge.agent.service import Agent
from edge.agent.state import lock_state
from edge.agent.store import Store
from edge.agent.vault import Vault, VaultError
from edge.bundle.manifest import IntendedUse
from edge.bundle.reasons import Reason
from edge.errors import ScanwrightError
from edge.imaging import quality
from edge.imaging.decode import decode_file
from edge.imaging.frame import Frame, Header
from edge.inference.engine import EngineError
from edge.inference.ood import OodModel
from edge.mqtt.payloads import Finding
from edge.mqtt.topics import Topics
from edge.sources.base import Failure
from tests.edge.imaging.test_screen_capture import ultrasound_screen

USE = IntendedUse(
    statement="x", modality=("US",), body_part=("BREAST",), view=("AP",), min_age_years=18, max_age_years=90
)


@pytest.mark.parametrize(
    ("header", "covered"),
    [
        (Header(), True),
        (Header("US", "breast", "AP", 40), True),
        (Header("CT"), False),
        (Header("US", "CHEST"), False),
        (Header(view="PA"), False),
        (Header(age_years=18), True),
        (Header(age_years=17.9), False),
        (Header(age_years=91), False),
    ],
)
def test_a_model_is_asked_only_about_what_it_is_for(header, covered):
    assert covers(USE, header) is covered
    assert covers(IntendedUse(statement="anything"), header)


@pytest.fixture
def model(tmp_path: Path, tiny_bundle) -> Model:
    path = tiny_bundle(tmp_path / "tiny.swb")
    return Model(path, allow_unsigned=True, target=None, threads=1, interpreter="auto")


def reporter(tmp_path: Path, overlays: str = "never") -> Reporter:
    config = AgentConfig.model_validate(
        {
            "site": "clinic",
            "device": "cart-1",
            "state": tmp_path,
            "bundles": ["x"],
            "sources": [{"kind": "folder", "path": "x"}],
            "overlays": overlays,
        }
    )
    return Reporter(config, Identity(b"k" * 32), Clock())


def frame(pixels, identity: str = "one") -> Frame:
    return Frame(pixels, identity, "study", "drop", 3)


def test_a_finding_says_what_was_found_where_and_by_what(tmp_path, model, picture):
    report, error = reporter(tmp_path).judged(model, frame(picture("lesion", 3, 200)))
    finding = Finding.model_validate_json(report.finding.model_dump_json())
    assert error is None
    assert (finding.decision, finding.label, finding.source, finding.frame) == (
        "positive",
        "lesion",
        "drop",
        3,
    )
    assert finding.probability == finding.probabilities["lesion"] >= finding.thresholds["lesion"]
    assert finding.bundle.name == "tiny" and not finding.bundle.signed
    assert finding.evidence.peak and finding.evidence.ood_limit and finding.evidence.quality["side"] == 200
    assert finding.elapsed_ms["total"] >= finding.elapsed_ms["infer"]
    assert report.image and report.image.startswith(b"\x89PNG") and report.overlay
    assert not finding.evidence.overlay


def test_overlays_leave_the_cart_only_where_configured_and_without_the_picture(tmp_path, model, picture):
    lesion, normal = frame(picture("lesion", 3)), frame(picture("normal", 3))
    assert reporter(tmp_path, "positive").judged(model, lesion)[0].finding.evidence.overlay
    for when, shown in (("positive", normal), ("demand", lesion), ("never", lesion)):
        assert not reporter(tmp_path, when).judged(model, shown)[0].finding.evidence.overlay
    assert reporter(tmp_path, "always").judged(model, normal)[0].finding.evidence.overlay
    dark = Frame(np.where(picture("lesion", 3) > 150, 255, 0).astype(np.uint8), "d", "s", "drop")
    heat = reporter(tmp_path, "always").judged(model, dark)[0]
    assert heat.heat != heat.image


def test_text_burned_into_a_screen_is_in_no_picture(tmp_path, model, monkeypatch):
    """A machine's screen with names on it: what is kept, shown and sent to an archive has the scan alone."""
    screen, _ = ultrasound_screen(3)
    screen = np.minimum(screen, 240)
    cv2.putText(screen, "DOE^JANE 4711", (12, 24), 0, 0.6, 255, 2)
    cv2.putText(screen, "1960-01-01", (8, 90), 0, 0.5, 255, 2)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, "1.2.3"
    dataset.StudyInstanceUID, dataset.Modality, dataset.BurnedInAnnotation = "1.2.4", "US", "YES"
    dataset.Rows, dataset.Columns = screen.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.PixelData = screen.tobytes()
    dataset.save_as(tmp_path / "us.dcm", enforce_file_format=True)
    (cut,) = decode_file(tmp_path / "us.dcm", "drop")
    monkeypatch.setattr(quality, "check", lambda *_: ())  # whatever is said of it: the pictures are looked at
    monkeypatch.setattr(OodModel, "score", lambda *_: 0.0)
    report, _ = reporter(tmp_path, "always").judged(model, cut)
    image, overlay = (
        cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED)
        for picture in (report.image, report.overlay)
    )
    assert 50 < image.max() <= 241, "text is left"
    assert image.shape[0] < screen.shape[0] * 0.9 and image.shape[1] < screen.shape[1] * 0.75
    cold = report.region.spread(report.cam, *image.shape) <= 0
    np.testing.assert_array_equal(overlay[cold], np.dstack([image] * 3)[cold])


def test_a_refused_picture_has_reasons_and_no_numbers(tmp_path, model, picture):
    report, _ = reporter(tmp_path).judged(model, frame(picture("foreign")))
    assert report.finding.decision == "no_result"
    assert report.finding.reasons == (Reason.OUT_OF_DISTRIBUTION,)
    assert report.finding.probability is None and not report.finding.probabilities
    assert report.image and report.overlay is None


def test_a_failing_engine_gives_no_result_and_the_error(tmp_path, model, picture, monkeypatch):
    def fail(_tensor: object) -> None:
        raise EngineError("the interpreter failed")

    monkeypatch.setattr(model._predictor.engine, "run", fail)
    report, error = reporter(tmp_path).judged(model, frame(picture("normal")))
    assert error and report.finding.reasons == (Reason.ENGINE_FAILED,)


def test_large_pictures_are_stored_smaller(tmp_path, model, picture):
    report, _ = reporter(tmp_path).judged(model, frame(picture("normal", 1, 3000)))
    assert report.image and int.from_bytes(report.image[16:20], "big") == 1024


def test_a_finding_its_message_and_its_mark_are_one_commit_and_once(tmp_path, model, picture):
    database = Database(tmp_path / "agent.db")
    recorder = Recorder(database, Topics("clinic", "cart-1"), Clock())
    report, _ = reporter(tmp_path, "always").judged(model, frame(picture("lesion", 3)))
    event = recorder.event("error", "engine_failed", "words", {"bundle": "tiny"})
    assert recorder.finding(report, event).result() == 1
    assert recorder.finding(report, event).result() == 0
    waiting, kept = Outbox(database), Store(database)
    assert recorder.settle(everything=True) == 1
    assert waiting.counts() == {"finding": 1, "event": 1, "overlay": 1}
    assert Finding.model_validate_json(waiting.next(1, "finding")[0].payload) == report.finding
    assert kept.seen(report.finding.id) and kept.latest(1)[0].image == report.image
    # Told and let go, the same image is not told again.
    waiting.done([report.finding.id]).result()
    assert recorder.finding(report).result() == 0
    assert waiting.counts()["finding"] == 0
    database.close()


def test_the_quarantine_keeps_the_file_before_the_original_goes(tmp_path):
    quarantine = Quarantine(tmp_path / "quarantine", Vault(b"k" * 32))
    original = tmp_path / "DOE.PNG"
    original.write_text("text")
    failure = Failure("sha256:1", "sha256:1", "drop", Reason.UNREADABLE, "no image", original)
    for _ in range(2):
        quarantine.keep("a" * 32, failure, "2026-11-01T00:00:00Z")
    assert original.exists()
    assert quarantine.release(failure) and not original.exists()
    assert quarantine.release(failure)
    (entry,) = quarantine.kept()
    assert (entry.reason, entry.message, entry.path) == (Reason.UNREADABLE, "no image", str(original))
    assert quarantine.export(entry, tmp_path).read_text() == "text"
    kept = sorted((tmp_path / "quarantine").iterdir())
    assert [file.name for file in kept] == ["a" * 32 + ".json", "a" * 32 + ".sealed"]
    assert not any(word in file.read_bytes() for file in kept for word in (b"text", b"DOE", b"no image"))
    with pytest.raises(VaultError):
        list(Quarantine(tmp_path / "quarantine", Vault(b"x" * 32)).kept())


def test_health_counts_what_waits_and_measures_the_machine(tmp_path):
    database = Database(tmp_path / "agent.db")
    waiting = Outbox(database)
    waiting.put("finding", "a", "t", b"").result()
    counters = Counters(frames=3)
    counters.inference_ms.extend([1, 2, 30])
    health = measure(Clock().stamp(), counters, waiting, tmp_path)
    database.close()
    assert (health.backlog, health.frames, health.inference_ms) == (1, 3, 2)
    assert health.backlog_oldest_s is not None
    assert 10 < health.memory_mb < 2000 and health.disk_free_mb > 0 and health.uptime_s >= 0


def test_a_log_line_is_json_with_its_fields(capsys):
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.set_up("info")
        logging.getLogger("x").info("said %s", "this", extra={"id": "a", "at_frame": 3})
        logging.getLogger("x").debug("not said")
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["message"], said["level"], said["id"], said["at_frame"]) == ("said this", "info", "a", 3)


def test_a_defect_is_logged_by_its_place_without_its_words(capsys):
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.set_up("info")
        try:
            raise RuntimeError("/drop/DOE-JOHN.dcm")
        except RuntimeError as error:
            logging.getLogger("x").critical("a defect", exc_info=error)
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    (line,) = capsys.readouterr().err.splitlines()
    assert "test_service_parts.py:" in json.loads(line)["where"][0]
    assert "DOE" not in line


def agent_config(tmp_path: Path, *bundles: Path) -> AgentConfig:
    drop = tmp_path / "drop"
    drop.mkdir()
    return AgentConfig.model_validate(
        {
            "site": "clinic",
            "device": "cart-1",
            "state": tmp_path / "state",
            "bundles": bundles,
            "allow_unsigned": True,
            "sources": [{"kind": "folder", "path": drop, "settle_s": 0.05, "poll_s": 0.02}],
            "mqtt": {"port": 9},
            "screen": None,
        }
    )


def run_until(agent: Agent, findings: int) -> list[dict]:
    """Run an agent until its store holds so many findings; those."""
    stop = threading.Event()
    found: list[dict] = []

    def look() -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and agent.store.sequence() < findings:
            time.sleep(0.02)
        time.sleep(0.1)
        found.extend(stored.finding for stored in agent.store.latest(100))
        stop.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    agent.run(stop)
    watcher.join()
    return found


def test_a_frame_goes_to_the_models_that_cover_it_and_only_those(tmp_path, tiny_bundle, picture):
    sound = tiny_bundle(tmp_path / "us.swb", name="sound")
    rays = tiny_bundle(tmp_path / "cr.swb", name="rays", intended_use={"statement": "x", "modality": ["CR"]})
    config = agent_config(tmp_path, sound, rays)
    drop = config.sources[0].path
    cv2.imwrite(str(drop / "unknown.png"), picture("lesion", 1))
    shutil.copy(get_testdata_file("examples_ybr_color.dcm"), drop / "cine.dcm")
    shutil.copy(get_testdata_file("CT_small.dcm"), drop / "ct.dcm")
    found = run_until(Agent(config), 2 + 30 + 1)
    assert Counter((f["bundle"]["name"], tuple(f["reasons"])) for f in found if f["frame"] == 0) == {
        ("sound", ()): 1,
        ("rays", ()): 1,
        ("sound", ("out_of_distribution",)): 1,
        ("sound", ("not_covered",)): 1,
    }
    assert len(found) == 33 and sum(f["bundle"]["name"] == "rays" for f in found) == 1


def test_a_failing_engine_is_told_once_and_every_frame_has_its_finding(
    tmp_path, tiny_bundle, picture, monkeypatch, caplog
):
    agent = Agent(agent_config(tmp_path, tiny_bundle(tmp_path / "tiny.swb")))
    for seed in range(5):
        cv2.imwrite(str(tmp_path / "drop" / f"{seed}.png"), picture("lesion", seed))

    def fail(_tensor: object) -> None:
        raise EngineError("the interpreter failed")

    monkeypatch.setattr(agent._models[0]._predictor.engine, "run", fail)
    found = run_until(agent, 5)
    assert [f["reasons"] for f in found] == [["engine_failed"]] * 5
    database = Database(tmp_path / "state" / "agent.db")
    events = [json.loads(message.payload)["code"] for message in Outbox(database).next(100, "event")]
    database.close()
    assert events.count("engine_failed") == 1


def test_a_defect_in_a_thread_ends_the_agent_with_one_line(tmp_path, tiny_bundle, monkeypatch, caplog):
    def defect(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("edge.sources.folder._scan", defect)
    agent = Agent(agent_config(tmp_path, tiny_bundle(tmp_path / "tiny.swb")))
    with pytest.raises(ScanwrightError, match="source-folder"):
        agent.run(threading.Event())
    assert "defect" in caplog.text
    # All is given back: another agent may start.
    with lock_state(tmp_path / "state"):
        pass
