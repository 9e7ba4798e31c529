"""Phantoms as files: class folders and DICOM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from edge.errors import ScanwrightError
from edge.imaging.decode import decode_file
from trainer.data.dataset import load_dataset
from trainer.data.phantoms import LABELS, Kind
from trainer.data.phantoms.dicom import write_dicom
from trainer.data.phantoms.writer import OBJECTS, write_multilabel, write_phantoms
from trainer.data.split import partition

GRADIENT = np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_written_folders_are_a_dataset_whose_patients_stay_together(tmp_path: Path) -> None:
    written = write_phantoms(tmp_path / "a", "chest", {"train": 4, "val": 3}, seed=1, size=48)
    data = load_dataset(tmp_path / "a")
    assert written == len(data.samples) == 7 * 4
    assert set(data.labels) == set(LABELS["chest"]) and data.splits == ("train", "val")
    people = [{s.patient for s in data.split(split)} for split in data.splits]
    assert None not in people[0] | people[1] and not people[0] & people[1] and len(people[0]) == 8
    parts = partition(data, 0)
    assert not {s.patient for s in parts.train} & {s.patient for s in parts.tune}
    assert parts.train[0].load().shape == (48, 48)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    def written(name: str, seed: int) -> dict[str, bytes]:
        write_phantoms(tmp_path / name, "ultrasound", {"test": 1}, seed=seed, size=48)
        files = sorted((tmp_path / name).rglob("*.png"))
        return {path.relative_to(tmp_path / name).as_posix(): path.read_bytes() for path in files}

    assert written("a", 1) == written("b", 1) != written("c", 2)


def test_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    done: list[None] = []
    for name, workers in (("one", 1), ("two", 2)):
        write_phantoms(
            tmp_path / name,
            "chest",
            {"train": 2},
            seed=1,
            size=48,
            workers=workers,
            advance=lambda: done.append(None),
        )
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.png")}
        for name in ("one", "two")
    )
    assert one == two and len(one) == 8 and len(done) == 16


@pytest.mark.parametrize("kind", OBJECTS)
def test_dicom_files_of_every_kind_show_what_the_png_files_do(tmp_path: Path, kind: Kind) -> None:
    written = write_phantoms(tmp_path / "png", kind, {"test": 1}, seed=3, size=64)
    assert written == write_phantoms(tmp_path / "dcm", kind, {"test": 1}, seed=3, size=64, dicom=True)
    png, dcm = (load_dataset(tmp_path / name).samples for name in ("png", "dcm"))
    for one, other in zip(png, dcm, strict=True):
        assert one.labels == other.labels and one.patient == other.patient
        # A CT holds whole Hounsfield units, of which five and a half are one gray value.
        assert np.abs(one.load().astype(int) - other.load()).max() <= (kind == "lung-ct")
    ds = pydicom.dcmread(next((tmp_path / "dcm").rglob("*.dcm")))
    assert (ds.Modality, ds.BodyPartExamined) == OBJECTS[kind]
    assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID
    if kind == "lung-ct":
        assert int(ds.pixel_array[0, 0] * ds.RescaleSlope + ds.RescaleIntercept) == pytest.approx(
            -1000, abs=150
        )


def test_spectrograms_are_no_dicom_objects(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no DICOM object for eeg"):
        write_phantoms(tmp_path, "eeg", {"test": 1}, seed=1, size=48, dicom=True)


def test_several_findings_in_one_image_are_written_with_a_table_of_them(tmp_path: Path) -> None:
    assert write_multilabel(tmp_path, {"train": 30, "val": 7}, seed=1, size=32) == 37
    data = load_dataset(tmp_path)
    assert data.task == "multi-label" and data.labels == ("consolidation", "effusion", "nodule")
    counts = [len(sample.labels) for sample in data.samples]
    assert {0, 1, 2} <= set(counts)
    train, val = (data.split(split) for split in ("train", "val"))
    assert len(train) == 30 and not {s.patient for s in train} & {s.patient for s in val}
    of_patient: dict[str | None, set[tuple[str, ...]]] = {}
    for sample in data.samples:
        of_patient.setdefault(sample.patient, set()).add(sample.labels)
    assert len(of_patient) == 19 and all(len(found) == 1 for found in of_patient.values())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ScanwrightError, match="file/train/normal: cannot be made"):
        write_phantoms(tmp_path / "file", "chest", {"train": 1}, seed=1, size=48)
    with pytest.raises(ScanwrightError, match=r"x\.dcm: cannot be written"):
        write_dicom(tmp_path / "file" / "x.dcm", GRADIENT, "DX", "CHEST")


@pytest.mark.parametrize("inverted", [False, True])
def test_a_radiograph_reads_back_as_it_was_in_both_polarities(tmp_path: Path, inverted: bool) -> None:
    path = tmp_path / "x.dcm"
    uid = write_dicom(path, GRADIENT, "DX", "CHEST", view="PA", inverted=inverted, number=3)
    (frame,) = decode_file(path, "test")
    assert (frame.pixels == GRADIENT).all()
    assert frame.identity == f"sop:{uid}#0"
    assert (frame.header.modality, frame.header.body_part, frame.header.view) == ("DX", "CHEST", "PA")
    ds = pydicom.dcmread(path)
    assert ds.BitsStored == 12 and ds.PatientName == "PHANTOM^00003" and ds.PatientID == "PHANTOM-00003"
    assert ds.PhotometricInterpretation == ("MONOCHROME1" if inverted else "MONOCHROME2")
    assert ds.PresentationLUTShape == ("INVERSE" if inverted else "IDENTITY")


def test_twelve_bits_are_kept(tmp_path: Path) -> None:
    deep = np.linspace(0, 4095, 63, dtype=np.uint16).reshape(7, 9)
    write_dicom(tmp_path / "x.dcm", deep, "DX", "CHEST")
    assert (pydicom.dcmread(tmp_path / "x.dcm").pixel_array == deep).all()


@pytest.mark.parametrize("shape", [(7, 9), (3, 7, 9), (7, 9, 3)])
def test_ultrasound_stills_clips_and_colour_read_back_as_they_were(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_dicom(tmp_path / "x.dcm", pixels, "US", "BREAST")
    frames = [frame.pixels for frame in decode_file(tmp_path / "x.dcm", "test")]
    expected = list(pixels) if shape[0] == 3 else [pixels]
    assert all((a == b).all() for a, b in zip(frames, expected, strict=True))


def test_files_keep_to_the_standard(tmp_path: Path) -> None:
    write_dicom(tmp_path / "dx.dcm", GRADIENT, "DX", "CHEST")
    write_dicom(tmp_path / "us.dcm", np.zeros((2, 5, 5), np.uint8), "US", "BREAST")
    for name in ("dx", "us"):
        ds = pydicom.dcmread(tmp_path / f"{name}.dcm")
        for element in ds.iterall():  # values are checked against their representation when set
            pydicom.dataelem.DataElement(element.tag, element.VR, element.value, pydicom.config.RAISE)
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert ds.SOPInstanceUID.is_valid and ds.StudyInstanceUID.is_valid and ds.SeriesInstanceUID.is_valid
        assert len(ds.PixelData) % 2 == 0


def test_one_patient_has_one_study_and_every_image_an_identifier_of_its_own(tmp_path: Path) -> None:
    uids = [
        write_dicom(tmp_path / f"{i}.dcm", GRADIENT + np.uint8(i), "DX", "CHEST", number=number)
        for i, number in enumerate((1, 1, 2))
    ]
    studies = [pydicom.dcmread(tmp_path / f"{i}.dcm").StudyInstanceUID for i in range(3)]
    assert len(set(uids)) == 3 and studies[0] == studies[1] != studies[2]
    assert write_dicom(tmp_path / "again.dcm", GRADIENT, "DX", "CHEST", number=1) == uids[0]
    assert (tmp_path / "again.dcm").read_bytes() == (tmp_path / "0.dcm").read_bytes()


def test_pixels_that_do_not_fit_are_a_programming_error(tmp_path: Path) -> None:
    for pixels, modality in (
        (np.zeros((2, 4, 4), np.uint8), "DX"),
        (np.full((4, 4), 5000, np.uint16), "DX"),
        (np.zeros((4, 4), np.uint16), "US"),
    ):
        with pytest.raises(ValueError, match=r"DX|US"):
            write_dicom(tmp_path / "x.dcm", pixels, modality, "CHEST")  # type: ignore[arg-type]
