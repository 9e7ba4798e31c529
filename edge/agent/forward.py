"""Forwarding: originals from the spool to the configured archive, by C-STORE, whenever it is reached."""

from __future__ import annotations

import logging
import threading
from io import BytesIO
from typing import Literal

from pydicom import Dataset, dcmread
from pynetdicom import AE, _config

from edge.agent.config import PacsConfig
from edge.agent.recorder import Recorder
from edge.agent.spool import Kept, Spool
from edge.agent.vault import VaultError
from edge.imaging.dicom import DAMAGE

__all__ = ["Forwarder"]

# What pynetdicom logs quotes data sets.
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

_LOOK_S = 1.0
_BACK_OFF_S = (5.0, 300.0)
_TIMEOUT_S = 30.0


class _UnreachableError(Exception):
    """The archive is not there, or has no room now: all that waits is tried again later."""


class _RefusedError(Exception):
    """The archive does not want this object, or it cannot be read: the others need not wait for it."""


class Forwarder:
    """Sends what waits in the spool, oldest first, one association for each object, as it came.

    Success and warnings (PS3.4 B.2.3) count as stored. When the archive is not reached or out of resources,
    the time to the next try doubles from 5 s to 5 minutes; an object that it refuses is tried again daily.
    """

    def __init__(self, config: PacsConfig, spool: Spool, recorder: Recorder) -> None:
        self._config, self._spool, self._recorder = config, spool, recorder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forward", daemon=True)
        self._lost = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; an object that is on its way is sent again at the next start, if its answer comes too late."""
        self._stop.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        wait = _BACK_OFF_S[0]
        while not self._stop.is_set():
            kept = self._spool.next()
            if kept is None:
                self._stop.wait(_LOOK_S)
                continue
            try:
                self._send(kept)
            except _UnreachableError as error:
                self._unreached(str(error))
                self._stop.wait(wait)
                wait = min(2 * wait, _BACK_OFF_S[1])
            except _RefusedError as error:
                self._spool.mark(kept, forwarded=False).result()
                self._tell(
                    "error", "pacs_refused", f"did not take an original ({error}); again in a day", kept
                )
            else:
                self._spool.mark(kept, forwarded=True).result()
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

    def _tell(
        self, severity: Literal["info", "warning", "error"], code: str, what: str, kept: Kept | None = None
    ) -> None:
        data = {"study": kept.study} if kept else {}
        event = self._recorder.event(severity, code, f"archive {self._config.ae_title} {what}", data)
        self._recorder.tell(event)

    def _send(self, kept: Kept) -> None:
        dataset = self._read(kept)
        entity = AE(ae_title=self._config.calling_ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
        entity.connection_timeout = _TIMEOUT_S
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = entity.associate(self._config.host, self._config.port, ae_title=self._config.ae_title)
        if not association.is_established:
            if association.rejected_contexts:
                raise _RefusedError("its SOP class or transfer syntax is not accepted")
            raise _UnreachableError("association rejected" if association.is_rejected else "no association")
        try:
            status = association.send_c_store(dataset).get("Status")
        except (ValueError, AttributeError) as error:
            raise _RefusedError("it cannot be encoded") from error
        finally:
            association.release()
        if status is None or status & 0xFF00 == 0xA700:
            raise _UnreachableError("no answer" if status is None else "out of resources")
        if status != 0 and status & 0xF000 != 0xB000:
            raise _RefusedError(f"status {status:04X}")

    def _read(self, kept: Kept) -> Dataset:
        try:
            dataset = dcmread(BytesIO(b"".join(self._spool.read(kept))))
            _ = dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.file_meta.TransferSyntaxUID
        except (OSError, VaultError, *DAMAGE) as error:
            raise _RefusedError("it cannot be read from the spool") from error
        return dataset
