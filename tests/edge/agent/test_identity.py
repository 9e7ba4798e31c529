from __future__ import annotations

import re
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.agent.identity import Identity, device_secret
from edge.errors import BadInputError, ScanwrightError

KEYED = Identity(b"k" * 32)


def test_the_secret_is_made_once_and_is_its_owner_s_alone(tmp_path):
    path = tmp_path / "secret"
    secret = device_secret(path)
    assert len(secret) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert device_secret(path) == secret
    assert device_secret(tmp_path / "other") != secret
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "secret"]


def test_a_damaged_secret_is_refused_and_not_replaced(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"short")
    with pytest.raises(BadInputError, match="damaged"):
        device_secret(path)
    assert path.read_bytes() == b"short"


def test_a_secret_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(ScanwrightError, match="secret"):
        device_secret(tmp_path / "missing" / "secret")


@given(st.text(min_size=1), st.text(min_size=1))
def test_ids_are_the_same_for_the_same_image_and_bundle_and_differ_otherwise(frame, other):
    id_ = KEYED.finding("chest", "1.0.0", frame)
    assert re.fullmatch(r"[0-9a-f]{32}", id_)
    assert id_ == KEYED.finding("chest", "1.0.0", frame)
    assert id_ != KEYED.finding("chest", "1.0.1", frame)
    assert id_ != Identity(b"j" * 32).finding("chest", "1.0.0", frame)
    assert (id_ == KEYED.finding("chest", "1.0.0", other)) == (frame == other)


def test_parts_do_not_run_into_each_other():
    assert KEYED.finding("ab", "c", "d") != KEYED.finding("a", "bc", "d")


@given(st.text())
def test_case_codes_have_no_letter_that_is_misread(study):
    code = KEYED.case_code(study)
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", code)
    assert code == KEYED.case_code(study)


def test_case_codes_differ_between_studies_and_devices():
    codes = {KEYED.case_code(f"1.2.{number}") for number in range(2000)}
    assert len(codes) == 2000
    assert KEYED.case_code("1.2.3") != Identity(b"j" * 32).case_code("1.2.3")


def test_nothing_of_an_identity_is_in_its_hashes():
    assert "1.2.840" not in KEYED.study("1.2.840") + KEYED.mark("1.2.840") + KEYED.case_code("1.2.840")
