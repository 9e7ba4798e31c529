"""Results for the archive: what was found in each closed study, as DICOM objects made on the cart."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from io import BytesIO

import cv2
import numpy as np
from pydicom import Dataset, dcmread

from edge.agent.archive import Archive, RefusedError, UnreachableError
from edge.agent.cases import Cases
from edge.agent.commands import Scalar
from edge.agent.database import Database
from edge.agent.documents import Document, Evidence, capture, complete, report
from edge.agent.identity import Identity
from edge.agent.recorder import Recorder
from edge.agent.sender import Sender
from edge.agent.spool import Spool
from edge.agent.store import Store, StoredFinding
from edge.agent.vault import VaultError
from edge.imaging.dicom import DAMAGE
from edge.mqtt.payloads import BundleRef, Severity

__all__ = ["UNREPORTED", "Results"]

log = logging.getLogger(__name__)

UNREPORTED = (
    "SELECT study, case_code, closings, positive + negative + no_result FROM study"
    " INDEXED BY study_unreported WHERE open = 0 AND reported < closings ORDER BY heard LIMIT 1"
)
"""The study that has waited longest to be reported, and how many findings it has."""

_LOOK_S = 1.0
_BACK_OFF_S = (5.0, 300.0)
_RANK = {"no_result": 0, "negative": 1, "positive": 2}


class Results(Sender):
    """Sends the results of each study once for each time that it was closed.

    Of a still every finding is reported, of a cine the best. UIDs are keyed hashes of the study, the bundle
    and the closing: after a kill, or an answer that came too late, the same objects are sent again.
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        spool: Spool,
        cases: Cases,
        identity: Identity,
        archive: Archive,
        recorder: Recorder,
        bundles: Sequence[BundleRef],
        kinds: Sequence[str],
    ) -> None:
        """``kinds``: ``report``, ``capture``, or both."""
        super().__init__("results")
        self._database, self._store, self._spool, self._cases = database, store, spool, cases
        self._identity, self._archive, self._recorder = identity, archive, recorder
        self._bundles, self._kinds = bundles, kinds

    def _run(self) -> None:
        wait = _BACK_OFF_S[0]
        while not self._stop.is_set():
            rows = self._database.read(UNREPORTED)
            if not rows:
                self._stop.wait(_LOOK_S)
                continue
            try:
                self._send(*rows[0])
                wait = _BACK_OFF_S[0]
            except UnreachableError:  # which the forwarder tells: the originals go there too
                self._stop.wait(wait)
                wait = min(2 * wait, _BACK_OFF_S[1])

    def _send(self, study: str, case_code: str, closings: int, findings: int) -> None:
        try:
            documents = list(self._documents(study, closings, findings))
        except DAMAGE as error:  # a header that no document can be made from
            documents = []
            log.warning("no result of a study could be made", extra={"error": type(error).__name__})
        for document in documents:
            try:
                self._archive.store(document)
            except RefusedError as error:
                why = f"archive {self._archive.title} did not take a result of case {case_code} ({error})"
                self._tell("error", "results_refused", why, study, len(documents))
                break
        else:
            if documents:
                said = f"the results of case {case_code} are in archive {self._archive.title}"
                self._tell("info", "results_sent", said, study, len(documents))
            elif self._cases.of(study):
                said = f"the results of case {case_code} cannot be sent: its images are not here, or unfit"
                self._tell("warning", "results_not_sent", said, study, 0)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE study SET reported = ? WHERE study = ?", (closings, study))

        self._database.write(write).result()

    def _tell(self, severity: Severity, code: str, message: str, study: str, documents: int) -> None:
        data: dict[str, Scalar] = {"study": study, "documents": documents}
        self._recorder.tell(severity, code, message, data)

    def _documents(self, study: str, closings: int, findings: int) -> Iterator[Dataset]:
        headers = list(self._headers(study))
        for bundle in self._bundles:
            found = [pair for header in headers if (pair := self._best(bundle, header, findings))]
            evidence = [one for _, one in found]
            if evidence and "report" in self._kinds:
                yield report(
                    evidence, self._document(study, bundle, "report", closings), self._uid("device", "")
                )
            positive = [pair for pair in found if pair[0].finding["decision"] == "positive"]
            if positive and "capture" in self._kinds:
                best, one = max(positive, key=lambda pair: _rank(pair[0]))
                if best.overlay:
                    pixels = cv2.imdecode(np.frombuffer(best.overlay, np.uint8), cv2.IMREAD_COLOR_RGB)
                    document = self._document(study, bundle, "capture", closings)
                    yield capture(one, np.asarray(pixels, np.uint8), document)

    def _headers(self, study: str) -> Iterator[Dataset]:
        """Of the study's originals, one of each instance."""
        seen = set()
        for kept in self._spool.of(study):
            try:
                data = BytesIO(b"".join(self._spool.read(kept)))
                header = complete(dcmread(data, stop_before_pixels=True))
            except (OSError, VaultError, *DAMAGE):
                continue
            if header is not None and header.SOPInstanceUID not in seen:
                seen.add(header.SOPInstanceUID)
                yield header

    def _best(
        self, bundle: BundleRef, header: Dataset, findings: int
    ) -> tuple[StoredFinding, Evidence] | None:
        """What a bundle found in an image: of several frames the most probable, and what all came to."""
        # A header may claim any number; each frame that there was has left a finding in the study.
        frames = range(min(int(header.get("NumberOfFrames") or 1), findings))
        names = (f"sop:{header.SOPInstanceUID}#{frame}" for frame in frames)
        ids = (self._identity.finding(bundle.name, bundle.version, name) for name in names)
        stored = [found for id_ in ids if (found := self._store.get(id_)) and not found.finding["test"]]
        if not stored:
            return None
        best, last = max(stored, key=_rank), stored[-1]
        # Areas are a frame's own; volumes and their ratio are of the clip up to its last frame.
        measured = [one for one in best.finding.get("measurements", ()) if one["name"] == "area"]
        measured += [one for one in last.finding.get("measurements", ()) if one["name"] != "area"]
        return best, Evidence({**best.finding, "measurements": measured}, header)

    def _document(self, study: str, bundle: BundleRef, kind: str, closings: int) -> Document:
        series = f"{kind}:{study}:{bundle.name}:{bundle.version}"
        return Document(self._uid("series", series), self._uid("instance", f"{series}:{closings}"), closings)

    def _uid(self, kind: str, what: str) -> str:
        """A UUID-derived UID (PS3.5 B.2) that is the same whenever it is asked for."""
        return f"2.25.{int(self._identity.mark(f'uid:{kind}:{what}'), 16)}"


def _rank(stored: StoredFinding) -> float:
    return _RANK[stored.finding["decision"]] + float(stored.finding["probability"] or 0)
