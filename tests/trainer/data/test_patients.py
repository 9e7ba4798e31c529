"""Patients in file names."""

from pathlib import PurePath

import pytest

from trainer.data.patients import patient_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("patient00123_study1.png", "patient00123_study2.png"),
        ("patient00123/study1/view1.png", "patient00123/study2/view1.png"),
        ("PAT-0012-L.png", "pat-0012-R.dcm"),
        ("person7_virus_3.jpeg", "person7_virus_4.jpeg"),
        ("sub-01_view1.png", "sub-01_view2.png"),
        ("00000013_005.png", "00000013_006.png"),
        ("p10000032/s1/a.jpg", "p10000032/s2/b.jpg"),
        ("case_4.slice1.png", "case_4.slice2.png"),
    ],
)
def test_images_of_one_patient_are_told_by_their_names(one: str, other: str) -> None:
    assert patient_of(PurePath(one)) == patient_of(PurePath(other)) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("patient1_1.png", "patient11_1.png"),
        ("00000013_005.png", "00000014_005.png"),
        ("person7_virus_3.jpeg", "patient7_3.jpeg"),
    ],
)
def test_different_patients_stay_different(one: str, other: str) -> None:
    assert patient_of(PurePath(one)) != patient_of(PurePath(other))


@pytest.mark.parametrize(
    "name", ["0001.png", "benign (12).png", "IMG0012.dcm", "p1_2.png", "spatial3.png", "x.png"]
)
def test_a_running_number_is_no_patient(name: str) -> None:
    assert patient_of(PurePath(name)) is None
