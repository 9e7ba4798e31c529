"""What the conformance statement says, and what the receiver's parts are held to."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from edge.agent.commitment import _NO_SUCH_INSTANCE, _PROCESSING_FAILURE, _UNKNOWN_S
from edge.agent.config import AgentConfig, DicomPeer, DicomSource, FolderSource, Tls
from edge.agent.documents import SCHEME
from edge.sources import dicom_scp
from edge.sources.commitment import INSTANCE, MOST

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
    assert str(dicom_scp.COMMITMENT) in text and str(INSTANCE) in text
    for status, meaning in dicom_scp.COMMITMENT_STATUSES.items():
        assert f"| {status:04X} | {meaning} |" in text
    assert f"more than {MOST} images" in dicom_scp.COMMITMENT_STATUSES[0x0115]
    for reason in (_PROCESSING_FAILURE, _NO_SUCH_INSTANCE):
        assert f"reason {reason:04X}" in text
    assert f"less than {_UNKNOWN_S / 60:g} minutes ago" in text
    for made in (ComprehensiveSRStorage, SecondaryCaptureImageStorage):
        assert str(made) in text
    assert f"designator {SCHEME}" in text
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


def test_commitment_needs_a_caller_and_an_archive(tmp_path):
    peer = {"A": DicomPeer(host="us1")}
    with pytest.raises(ValidationError, match="not among the callers"):
        DicomSource(callers=("B",), commitment=peer)
    with pytest.raises(ValidationError, match="needs pacs"):
        AgentConfig(
            site="s",
            device="d",
            state=tmp_path,
            bundles=(tmp_path,),
            sources=(FolderSource(path=tmp_path), DicomSource(callers=("A",), commitment=peer)),
        )


def test_tls_needs_a_certificate_that_callers_can_verify(tmp_path):
    with pytest.raises(ValidationError, match="certificate"):
        DicomSource(callers=("A",), tls=Tls(ca=tmp_path / "ca.pem"))
