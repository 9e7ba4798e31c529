"""A cine, as an ultrasound machine sends it, through the agent to its ejection fraction over MQTT."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from cines import FRACTION, beating, write_mask_bundle
from pydicom.dataset import Dataset

from edge.mqtt.payloads import Event, Finding
from tests.integration.carts import Cart
from tests.integration.conftest import wait_for
from trainer.data.phantoms.writer import write_dicom

pytestmark = pytest.mark.integration

FRAMES = 34


def write_cine(path: Path) -> None:
    """A multi-frame ultrasound object of half a millimetre a pixel."""
    write_dicom(path, beating(FRAMES), "US", "BREAST", frame_ms=30)
    dataset = pydicom.dcmread(path)
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = dataset.Columns - 1, dataset.Rows - 1
    region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = 3, 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.05, 0.05
    dataset.SequenceOfUltrasoundRegions = [region]
    dataset.save_as(path)


def test_a_cine_gives_its_ejection_fraction(mosquitto, subscriber, make_cart, tmp_path: Path) -> None:
    broker = mosquitto()
    broker.start()
    watcher = subscriber(broker.port)
    one: Cart = make_cart(broker.port)
    write_mask_bundle(one.folder / "tiny.swb")
    one.config["study_silence_s"] = 1
    one.start()
    write_cine(tmp_path / "cine.dcm")
    (tmp_path / "cine.dcm").rename(one.drop / "cine.dcm")
    wait_for(lambda: len(watcher.findings()) == FRAMES, 60)
    findings = sorted((Finding.model_validate(f) for f in watcher.findings()), key=lambda f: f.frame)
    last = {m.name: m for m in findings[-1].measurements}
    fraction = last["ejection_fraction"]
    assert fraction.value == pytest.approx(100 * FRACTION, abs=4)
    assert (last["area"].unit, last["end_diastolic_volume"].unit) == ("cm2", "mL")
    assert {m.reason for m in findings[5].measurements} == {None, "no_whole_beat"}

    def closed() -> Event | None:
        told = (Event.model_validate(event) for event in watcher.json("up/event"))
        return next((event for event in told if event.code == "study_closed"), None)

    data = wait_for(closed, 30).data
    assert data["ejection_fraction"] == fraction.value
    assert data["best"] == findings[fraction.frames[0]].id
    assert one.end() == 0
