"""Forwarding: originals from the spool to the configured archive, by C-STORE, whenever it is reached."""

from __future__ import annotations

from io import BytesIO

from pydicom import Dataset, dcmread

from edge.agent.archive import Archive, RefusedError, UnreachableError
from edge.agent.recorder import Recorder
from edge.agent.sender import Sender
from edge.agent.spool import Kept, Spool
from edge.agent.vault import VaultError
from edge.imaging.dicom import DAMAGE
from edge.mqtt.payloads import Severity

__all__ = ["Forwarder"]

_LOOK_S = 1.0
_BACK_OFF_S = (5.0, 300.0)


class Forwarder(Sender):
    """Sends what waits in the spool, oldest first, one association for each object, as it came.

    When the archive is not reached or out of resources,
    the time to the next try doubles from 5 s to 5 minutes; an object that it refuses is tried again daily.
    """

    def __init__(self, archive: Archive, spool: Spool, recorder: Recorder) -> None:
        super().__init__("forward")
        self._archive, self._spool, self._recorder = archive, spool, recorder
        self._lost = False

    def _run(self) -> None:
        wait = _BACK_OFF_S[0]
        while not self._stop.is_set():
            kept = self._spool.next()
            if kept is None:
                self._stop.wait(_LOOK_S)
                continue
            try:
                dataset = self._read(kept)
                self._archive.store(dataset)
            except UnreachableError as error:
                self._unreached(str(error))
                self._stop.wait(wait)
                wait = min(2 * wait, _BACK_OFF_S[1])
            except RefusedError as error:
                self._spool.mark(kept, forwarded=False).result()
                self._tell(
                    "error", "pacs_refused", f"did not take an original ({error}); again in a day", kept
                )
            else:
                self._spool.mark(kept, forwarded=True, sop=str(dataset.SOPInstanceUID)).result()
                wait = _BACK_OFF_S[0]
                if self._lost:
                    self._lost = False
                    self._tell("info", "pacs_back", "takes originals again")

    def _unreached(self, why: str) -> None:
        if not self._lost:
            self._lost = True
            self._tell(
                "warning", "pacs_lost", f"cannot be reached ({why}); originals are kept and sent later"
            )

    def _tell(self, severity: Severity, code: str, what: str, kept: Kept | None = None) -> None:
        data = {"study": kept.study} if kept else {}
        self._recorder.tell(severity, code, f"archive {self._archive.title} {what}", data)

    def _read(self, kept: Kept) -> Dataset:
        try:
            dataset = dcmread(BytesIO(b"".join(self._spool.read(kept))))
            _ = dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.file_meta.TransferSyntaxUID
        except (OSError, VaultError, *DAMAGE) as error:
            raise RefusedError("it cannot be read from the spool") from error
        return dataset
