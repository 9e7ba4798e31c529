"""The DICOM storage SCP, a process of its own: objects to files, safe on the disk before success is said."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, cast

from pydicom import Dataset, dcmread
from pydicom.uid import (
    JPEG2000,
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.transport import AssociationServer, AssociationSocket

from edge.agent.config import DicomSource
from edge.errors import BadInputError
from edge.files import in_memory
from edge.imaging.dicom import DAMAGE
from edge.sources import commitment
from edge.sources.dicom_tls import server_context

__all__ = [
    "COMMITMENT",
    "COMMITMENT_STATUSES",
    "SOP_CLASSES",
    "STATUSES",
    "TRANSFER_SYNTAXES",
    "VERIFICATION",
]

VERIFICATION = UID("1.2.840.10008.1.1")
"""C-ECHO."""

COMMITMENT = UID("1.2.840.10008.1.20.1")
"""Storage Commitment Push Model."""

SOP_CLASSES = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
"""What is stored. For Processing and all others are refused when the association is made."""

TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
)
"""How an object may be encoded. Deflated is not among them: it unfolds to any size."""

_SUCCESS, _NO_ROOM, _OTHER_CLASS, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
STATUSES = {
    _SUCCESS: "Success: the object is on the disk, and stays there until its findings are",
    _NO_ROOM: "Refused: out of resources. Too little room on the disk; send again later",
    _OTHER_CLASS: "Error: the data set is of another SOP class or instance than the request says",
    _NOT_UNDERSTOOD: "Error: cannot understand. The data set is missing, cut off or not to the standard",
}
"""What a C-STORE is answered with (PS3.4 B.2.3)."""

_INVALID, _NOT_AUTHORIZED, _LIMITED = 0x0115, 0x0124, 0x0213
COMMITMENT_STATUSES = {
    _SUCCESS: "Success: the request is on the disk; the answer comes by N-EVENT-REPORT",
    _INVALID: "Invalid argument value: no UIDs, or more than 10000 images",
    _NOT_AUTHORIZED: "Not authorized: the caller is not among those of `commitment`",
    _LIMITED: "Resource limitation: too little room on the disk; ask again later",
}
"""What an N-ACTION for storage commitment is answered with (PS3.7 10.1.4.1.10, PS3.4 J.3.2)."""

_REQUEST_S = 5.0  # for what must come before an association is agreed on
_PDU_BYTES = 1 << 17
_MEMORY_BYTES = 1 << 30
_SWEEP_S = 60.0


class _Server(AssociationServer):
    """Lets no address hold more than its share of the associations, and none keep a connection in silence."""

    share = 1

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = cast("socket.socket", self.socket).accept()
        connection.settimeout(_REQUEST_S)
        if self.ssl_context:
            # The handshake comes with the first read, in the association's own thread: nobody waits for it.
            connection = self.ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        peers = [one.requestor.address for one in self.active_associations]
        return peers.count(client_address[0]) < self.share and len(peers) <= self.ae.maximum_associations


class _Scp:
    """What is done with what arrives. ``tell`` takes a line for the agent."""

    def __init__(self, config: DicomSource, inbox: Path, tell: Callable[[dict[str, Any]], None]) -> None:
        self._config, self._inbox, self._tell = config, inbox, tell
        self._least = config.min_free_mb * 1_000_000
        self._full = False
        self._in_memory = in_memory(inbox)
        self._refused: set[str] = set()

    def server(self) -> _Server:
        """Listens when this returns.

        Raises:
            OSError: the address cannot be had.
            BadInputError: the configured certificates cannot be used.
        """
        config = self._config
        tls = server_context(config.tls) if config.tls else None
        ae = AE(config.ae_title)
        ae.require_called_aet = True
        ae.require_calling_aet = list(config.callers)
        ae.maximum_associations = config.max_associations
        ae.maximum_pdu_size = _PDU_BYTES
        ae.acse_timeout = _REQUEST_S
        ae.dimse_timeout = ae.network_timeout = config.idle_timeout_s
        ae.add_supported_context(VERIFICATION, list(TRANSFER_SYNTAXES[:3]))  # those not compressed
        for sop_class in SOP_CLASSES:
            ae.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        if config.commitment:
            ae.add_supported_context(COMMITMENT, list(TRANSFER_SYNTAXES[:3]))
        handlers = [
            (evt.EVT_C_STORE, self.store),
            (evt.EVT_N_ACTION, self.commit),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_PDU_RECV, self._received),
        ]
        address = (config.host, config.port)
        server = cast(
            _Server,
            ae.make_server(
                address, evt_handlers=cast("Any", handlers), server_class=_Server, ssl_context=tls
            ),
        )
        server.share = (config.max_associations + 1) // 2
        return server

    def store(self, event: Event) -> int:
        """One C-STORE: its status."""
        path: Path | None = event.dataset_path
        if path is None:
            return _NOT_UNDERSTOOD
        if self._free() < self._least:
            self._say_full()
            return _NO_ROOM
        try:
            status = _check(path, event)
            if status == _SUCCESS:
                self._keep(path)
        except OSError:
            self._say_full()
            return _NO_ROOM
        except (MemoryError, *DAMAGE):
            return _NOT_UNDERSTOOD
        return status

    def commit(self, event: Event) -> tuple[int, None]:
        """One request for storage commitment: its status. What comes of it, the agent says later."""
        caller = str(event.assoc.requestor.ae_title).strip()
        if caller not in self._config.commitment:
            return _NOT_AUTHORIZED, None
        if self._free() < self._least:
            return _LIMITED, None
        try:
            commitment.keep(self._inbox, caller, event.action_information)
        except OSError:
            return _LIMITED, None
        except (commitment.InvalidRequestError, *DAMAGE):
            return _INVALID, None
        return _SUCCESS, None

    def _keep(self, path: Path) -> None:
        """Once this returns the object survives a power cut."""
        _sync(path)
        path.rename(self._inbox / f"{time.time_ns():020d}-{path.name}")
        _sync(self._inbox)
        self._full = False
        self._tell({"stored": True})

    def _free(self) -> int:
        disk = os.statvfs(self._inbox)
        return 0 if self._in_memory else disk.f_bavail * disk.f_frsize

    def _say_full(self) -> None:
        if not self._full:
            self._full = True
            self._notice(
                "error", "dicom_no_room", f"less than {self._config.min_free_mb} MB free: objects are refused"
            )

    def _established(self, event: Event) -> None:
        connection = cast("AssociationSocket", event.assoc.dul.socket).socket
        if connection:
            connection.settimeout(self._config.idle_timeout_s)

    def _received(self, event: Event) -> None:
        """Break off an object that would fill the disk: its sender sees no success, and sends it again."""
        if self._free() < self._least // 2:
            self._say_full()
            cast("AssociationSocket", event.assoc.dul.socket).close()

    def _rejected(self, event: Event) -> None:
        assoc: Association = event.assoc
        primitive: Any = assoc.requestor.primitive
        caller, called = (
            re.sub(r"[^A-Za-z0-9_. -]", "?", str(title).strip())[:16]
            for title in (primitive.calling_ae_title, primitive.called_ae_title)
        )
        who = f"'{caller}' at {assoc.requestor.address}, who called '{called}'"
        if who not in self._refused and len(self._refused) < 100:
            self._refused.add(who)
            self._notice("warning", "dicom_caller_refused", f"{who}, was refused an association")

    def _notice(self, severity: str, code: str, message: str) -> None:
        self._tell({"severity": severity, "code": code, "message": message})


def _check(path: Path, event: Event) -> int:
    """Whether the object is what its request says it is."""
    request: Any = event.request
    found: Dataset = dcmread(
        path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"]
    )
    if not found.get("SOPClassUID") or not found.get("SOPInstanceUID"):
        return _NOT_UNDERSTOOD
    agreed = request.AffectedSOPClassUID == event.context.abstract_syntax == found.SOPClassUID
    return _SUCCESS if agreed and found.SOPInstanceUID == request.AffectedSOPInstanceUID else _OTHER_CLASS


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(receiving: Path, age_s: float) -> None:
    """Remove what half-sent objects left; one that is being received changes all the time."""
    for path in receiving.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > age_s:
                path.unlink()


def _main() -> NoReturn:
    """Serve what the first line of standard input says, until standard input ends."""
    asked = json.loads(sys.stdin.readline())
    config, inbox = DicomSource.model_validate_json(asked["config"]), Path(asked["inbox"])
    # Their messages quote what objects hold.
    _config.LOG_HANDLER_LEVEL = "none"
    logging.disable(logging.CRITICAL)
    _config.STORE_RECV_CHUNKED_DATASET = True  # a cine of hundreds of megabytes goes to the disk as it comes
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    receiving = inbox / "receiving"
    receiving.mkdir(parents=True, exist_ok=True)
    _sweep(receiving, -1)
    tempfile.tempdir = str(receiving)  # where objects are received; the inbox is a rename away
    saying = threading.Lock()

    def tell(line: dict[str, Any]) -> None:
        with saying:
            print(json.dumps(line), flush=True)  # noqa: T201  the agent reads this

    try:
        server = _Scp(config, inbox, tell).server()
    except (OSError, BadInputError) as error:
        why = str(error)
        if isinstance(error, OSError):
            why = f"cannot listen on {config.host}:{config.port} ({error.strerror})"
        tell({"severity": "error", "code": "source_lost", "message": why})
        sys.stdout.flush()
        os._exit(1)

    def sweep() -> None:
        while True:
            time.sleep(_SWEEP_S)
            _sweep(receiving, max(_SWEEP_S, 2 * config.idle_timeout_s))

    for work in (server.serve_forever, sweep):
        threading.Thread(target=work, daemon=True).start()
    tell({"listening": True})
    sys.stdin.read()  # ends with the agent, however that ends
    os._exit(0)


if __name__ == "__main__":
    _main()
