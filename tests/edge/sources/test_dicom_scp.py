"""What the conformance statement says, and what the receiver's parts are held to."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from edge.agent.config import DicomSource
from edge.sources import dicom_scp

_STATEMENT = Path(__file__).parents[3] / "docs/reference/dicom-conformance.md"


def test_every_encoding_that_is_taken_can_be_decoded():
    for syntax in dicom_scp.TRANSFER_SYNTAXES:
        plugins = get_decoder(syntax).available_plugins
        assert not syntax.is_encapsulated or ("pydicom" if syntax == RLELossless else "gdcm") in plugins
    assert DeflatedExplicitVRLittleEndian not in dicom_scp.TRANSFER_SYNTAXES


def test_the_statement_names_what_the_code_has():
    text = _STATEMENT.read_text("utf-8")
    for uid in (dicom_scp.VERIFICATION, *dicom_scp.SOP_CLASSES, *dicom_scp.TRANSFER_SYNTAXES):
        assert f"| {uid.name} | {uid} |" in text
    for status in dicom_scp.STATUSES:
        assert f"| {status:04X} |" in text
        assert status in STORAGE_SERVICE_CLASS_STATUS
    defaults = DicomSource(callers=("A",))
    for told in (
        f"`{defaults.ae_title}` unless set",
        f"`port`, {defaults.port} unless set",
        f"`max_associations`, {defaults.max_associations} unless set",
        f"`idle_timeout_s` ({defaults.idle_timeout_s:g} s unless set)",
        f"{dicom_scp._PDU_BYTES} bytes",
        f"{dicom_scp._REQUEST_S:g} s for the association request",
    ):
        assert told in text


@pytest.mark.parametrize("title", ["", " A", "A ", "A" * 17, "A\\B", "A\nB", "Ä"])
def test_an_impossible_title_is_refused(title):
    with pytest.raises(ValidationError):
        DicomSource(callers=(title,))


def test_nobody_may_send_is_no_configuration():
    with pytest.raises(ValidationError):
        DicomSource(callers=())
