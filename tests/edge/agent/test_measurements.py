"""Areas of each frame, the ejection fraction of a clip, and what is said where there is none."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from cines import FRACTION, beating, clip, write_mask_bundle

from edge.agent.clock import Clock
from edge.agent.config import AgentConfig
from edge.agent.database import Database
from edge.agent.identity import Identity
from edge.agent.model import Model
from edge.agent.outbox import Outbox
from edge.agent.recorder import Recorder
from edge.agent.report import Report, Reporter
from edge.imaging.frame import Frame, Header
from edge.mqtt.payloads import Finding, Measurement
from edge.mqtt.topics import Topics

SPACED = Header(modality="US", row_spacing_mm=0.5, column_spacing_mm=0.5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = write_mask_bundle(tmp_path_factory.mktemp("bundle") / "bright.swb")
    return Model(path, allow_unsigned=True, target=None, threads=1, interpreter="auto")


@pytest.fixture
def reporter(tmp_path: Path) -> Reporter:
    config = AgentConfig.model_validate(
        {
            "site": "clinic",
            "device": "cart-1",
            "state": tmp_path,
            "bundles": ["x"],
            "sources": [{"kind": "folder", "path": "x"}],
            "overlays": "always",
        }
    )
    return Reporter(config, Identity(b"k" * 32), Clock())


def reports(reporter: Reporter, model: Model, frames: list[Frame]) -> list[Report]:
    return [reporter.judged(model, frame)[0] for frame in frames]


def measured(report: Report, name: str) -> Measurement | None:
    told = Finding.model_validate_json(report.finding.model_dump_json())
    return next((one for one in told.measurements if one.name == name), None)


def test_a_still_has_an_area_in_pixels_of_the_image_or_in_centimetres(
    reporter: Reporter, model: Model
) -> None:
    pixels = beating(1)[0]
    true = math.pi * 75 * 37.5
    area = measured(reports(reporter, model, [Frame(pixels, "a#0", "s", "drop")])[0], "area")
    assert area is not None and (area.label, area.unit) == ("ventricle", "{pixel}")
    assert area.value == pytest.approx(true, rel=0.06)
    # Half as many columns, twice as wide: the same thing, seen through other pixels.
    wide = Header(row_spacing_mm=0.5, column_spacing_mm=1.0)
    half = cv2.resize(pixels, (128, 256), interpolation=cv2.INTER_AREA)
    for identity, image, header in (("b#0", pixels, SPACED), ("c#0", half, wide)):
        found = reports(reporter, model, [Frame(image, identity, "s", "drop", header=header)])[0]
        area = measured(found, "area")
        assert area is not None and area.unit == "cm2"
        assert area.value == pytest.approx(true * 0.05**2, rel=0.06)
        fraction = measured(found, "ejection_fraction")
        assert fraction is not None and (fraction.value, fraction.reason) == (None, "no_whole_beat")


def test_a_clip_has_an_ejection_fraction_once_a_heartbeat_was_seen(reporter: Reporter, model: Model) -> None:
    found = reports(reporter, model, clip(beating(34), header=SPACED))
    early = measured(found[6], "ejection_fraction")
    assert early is not None and (early.value, early.reason, early.frames) == (None, "no_whole_beat", ())
    assert found[6].best is None
    last = measured(found[-1], "ejection_fraction")
    assert last is not None and last.reason is None and last.unit == "%"
    assert last.value == pytest.approx(100 * FRACTION, abs=4)
    diastole, systole = last.frames
    assert abs(diastole - 4) <= 2 and abs(systole - 14) <= 2
    assert found[-1].best == found[diastole].finding.id
    volume = measured(found[-1], "end_diastolic_volume")
    assert volume is not None and volume.unit == "mL"
    assert volume.value == pytest.approx(math.pi / 6 * 7.5 * 3.75**2, rel=0.1)
    left = measured(found[-1], "end_systolic_volume")
    assert left is not None and left.value is not None and volume.value is not None
    assert left.value == pytest.approx(volume.value * (1 - last.value / 100), rel=0.02)


def test_without_a_scale_there_is_a_fraction_but_no_volume(reporter: Reporter, model: Model) -> None:
    last = reports(reporter, model, clip(beating(34)))[-1]
    fraction = measured(last, "ejection_fraction")
    assert fraction is not None and fraction.value == pytest.approx(100 * FRACTION, abs=4)
    assert measured(last, "end_diastolic_volume") is None


def test_another_clip_is_another_heart(reporter: Reporter, model: Model) -> None:
    reports(reporter, model, clip(beating(34), "one"))
    fresh = reports(reporter, model, clip(beating(3), "two"))[-1]
    assert getattr(measured(fresh, "ejection_fraction"), "reason", None) == "no_whole_beat"


def test_frames_without_a_result_have_no_measurement_and_count_as_not_seen(
    reporter: Reporter, model: Model
) -> None:
    pixels = beating(34)
    pixels[16:25] = 90  # blank: no result
    found = reports(reporter, model, clip(pixels))
    assert found[20].finding.decision == "no_result" and not found[20].finding.measurements
    assert getattr(measured(found[-1], "ejection_fraction"), "reason", None) == "ventricle_not_seen"


def test_a_bundle_that_names_no_ventricle_gives_areas_alone(tmp_path: Path, reporter: Reporter) -> None:
    path = write_mask_bundle(tmp_path / "plain.swb", ejection_fraction=None)
    plain = Model(path, allow_unsigned=True, target=None, threads=1, interpreter="auto")
    last = reports(reporter, plain, clip(beating(34)))[-1]
    assert [one.name for one in last.finding.measurements] == ["area"]


def test_the_outline_is_drawn_over_the_image_and_only_the_mask_leaves(
    reporter: Reporter, model: Model
) -> None:
    pixels = beating(1)[0]
    report = reports(reporter, model, [Frame(pixels, "a#0", "s", "drop")])[0]
    assert report.finding.evidence.overlay and report.overlay and report.heat
    drawn = cv2.imdecode(np.frombuffer(report.overlay, np.uint8), cv2.IMREAD_COLOR).astype(int)
    coloured = np.ptp(drawn, axis=-1) > 60
    rows, columns = np.mgrid[:256, :256] - 128
    distance = np.hypot(rows / 75, columns / 37.5)
    assert coloured.sum() > 300 and (np.abs(distance[coloured] - 1) < 0.15).all()
    mask = cv2.imdecode(np.frombuffer(report.heat, np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (64, 64) and set(np.unique(mask)) == {0, 255}
    assert report.finding.evidence.area is not None
    assert report.finding.evidence.area["ventricle"] == pytest.approx((mask > 0).mean())


def test_the_study_is_told_with_its_ejection_fraction_and_end_diastole(
    tmp_path: Path, reporter: Reporter, model: Model
) -> None:
    database = Database(tmp_path / "agent.db")
    recorder = Recorder(database, Topics("s", "d"), Clock())
    for found in reports(reporter, model, clip(beating(34), header=SPACED)):
        recorder.finding(found)
    recorder.close_studies(0)
    recorder.settle(everything=True)
    messages = [json.loads(one.payload) for one in Outbox(database).next(100, "event")]
    database.close()
    told = next(one["data"] for one in messages if one["code"] == "study_closed")
    last = measured(found, "ejection_fraction")
    assert last is not None
    assert (told["ejection_fraction"], told["best"]) == (last.value, found.best)
    assert told["end_diastolic_volume"] > told["end_systolic_volume"] > 0
    assert "ejection_fraction_reason" not in told and "area" not in told


def test_a_study_too_short_for_a_beat_says_so(tmp_path: Path, reporter: Reporter, model: Model) -> None:
    database = Database(tmp_path / "agent.db")
    recorder = Recorder(database, Topics("s", "d"), Clock())
    for found in reports(reporter, model, clip(beating(9))):
        recorder.finding(found)
    recorder.close_studies(0)
    recorder.settle(everything=True)
    messages = [json.loads(one.payload) for one in Outbox(database).next(100, "event")]
    database.close()
    told = next(one["data"] for one in messages if one["code"] == "study_closed")
    assert told["ejection_fraction_reason"] == "no_whole_beat" and "ejection_fraction" not in told
