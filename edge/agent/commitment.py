"""Storage commitment (PS3.4 J): a machine is told that its images are safe once the archive has them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from edge.agent.commands import Scalar
from edge.agent.config import DicomSource
from edge.agent.recorder import Recorder
from edge.agent.sender import Sender
from edge.agent.spool import Custody
from edge.mqtt.payloads import Severity
from edge.sources.commitment import FOLDER, INSTANCE
from edge.sources.dicom_tls import client_context

__all__ = ["Commitments", "outcome"]

_LOOK_S = 1.0
_UNKNOWN_S = 600.0  # an image that is committed to may still be on its way in
_AGAIN_S = 60.0
_GIVE_UP_S = 7 * 86400.0
_TIMEOUT_S = 10.0
_ALL, _SOME = 1, 2  # event types (PS3.4 J.3.3.1.1)
_PROCESSING_FAILURE, _NO_SUCH_INSTANCE = 0x0110, 0x0112


def outcome(
    references: Sequence[tuple[str, str]], custody: Callable[[str], Custody], age_s: float
) -> dict[str, int | None] | None:
    """For each SOP Instance UID of a request its failure reason, None where the archive has it.

    None as a whole as long as the archive may still get one of them.

    Args:
        references: SOP Class and Instance UID of each image.
        custody: where an instance is.
        age_s: of the request, in seconds.
    """
    found: dict[str, int | None] = {}
    for _, instance in references:
        where = custody(instance)
        if where == "waiting" or (where == "unknown" and age_s < _UNKNOWN_S):
            return None
        reasons = {"archived": None, "refused": _PROCESSING_FAILURE, "unknown": _NO_SUCH_INSTANCE}
        found[instance] = reasons[where]
    return found


class Commitments(Sender):
    """Answers the requests that a receiver's SCP has taken, each by an N-EVENT-REPORT on an association of
    its own; a machine that is not there is tried again every minute, for a week."""

    def __init__(
        self, source: DicomSource, inbox: Path, custody: Callable[[str], Custody], archive_title: str,
        recorder: Recorder,
    ) -> None:  # fmt: skip
        """``inbox`` is the receiver's."""
        super().__init__(f"commit-{source.name}")
        self._source, self._folder, self._custody = source, inbox / FOLDER, custody
        self._archive_title, self._recorder = archive_title, recorder
        self._tls = client_context(source.tls) if source.tls else None
        self._later: dict[str, float] = {}

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            if not self._folder.is_dir():
                continue
            for path in sorted(self._folder.glob("*.json")):
                if self._stop.is_set():
                    return
                if time.monotonic() >= self._later.get(path.name, 0.0):
                    self._look(path)

    def _look(self, path: Path) -> None:
        asked = json.loads(path.read_text("utf-8"))
        age_s = max(0.0, time.time() - asked["at"])
        found = outcome(asked["references"], self._custody, age_s)
        if found is None and age_s < _GIVE_UP_S:
            return
        if found is not None and self._report(asked, found):
            path.unlink()
            failed = sum(reason is not None for reason in found.values())
            self._tell("info", "commitment_told", f"{len(found) - failed} images safe, {failed} not", asked)
        elif age_s >= _GIVE_UP_S:
            path.unlink()
            self._tell("warning", "commitment_given_up", "a request could not be answered in a week", asked)
        else:
            self._later[path.name] = time.monotonic() + _AGAIN_S

    def _report(self, asked: dict[str, Any], found: dict[str, int | None]) -> bool:
        peer = self._source.commitment.get(asked["caller"])
        if peer is None:  # no longer configured
            return False
        entity = AE(self._source.ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
        entity.connection_timeout = _TIMEOUT_S
        entity.add_requested_context(StorageCommitmentPushModel)
        association = entity.associate(
            peer.host,
            peer.port,
            ae_title=asked["caller"],
            ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
            tls_args=(self._tls, peer.host) if self._tls else None,
        )
        if not association.is_established:
            return False
        try:
            information, kind = self._information(asked, found)
            status, _ = association.send_n_event_report(
                information, kind, StorageCommitmentPushModel, INSTANCE
            )
        except (ValueError, RuntimeError):  # it does not let us be the SCP
            return False
        finally:
            association.release()
        return bool(status.get("Status") == 0)

    def _information(self, asked: dict[str, Any], found: dict[str, int | None]) -> tuple[Dataset, int]:
        information = Dataset()
        information.TransactionUID = asked["transaction"]
        information.RetrieveAETitle = self._archive_title
        safe, failed = [], []
        for sop_class, instance in asked["references"]:
            reference = Dataset()
            reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, instance
            reason = found[instance]
            if reason is None:
                safe.append(reference)
            else:
                reference.FailureReason = reason
                failed.append(reference)
        if safe:
            information.ReferencedSOPSequence = safe
        if failed:
            information.FailedSOPSequence = failed
        return information, _SOME if failed else _ALL

    def _tell(self, severity: Severity, code: str, what: str, asked: dict[str, Any]) -> None:
        message = f"storage commitment for {asked['caller']}: {what}"
        data: dict[str, Scalar] = {"source": self._source.name, "images": len(asked["references"])}
        self._recorder.tell(severity, code, message, data)
