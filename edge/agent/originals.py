"""What is done with an original: who it is of is sealed into the case table, the file into the spool."""

from __future__ import annotations

from edge.agent.cases import Cases
from edge.agent.identity import Identity
from edge.agent.recorder import Recorder
from edge.agent.room import NoRoomError
from edge.agent.spool import Purged, Spool
from edge.imaging.errors import UnreadableImageError
from edge.imaging.patient import is_dicom
from edge.sources.base import Original

__all__ = ["Originals"]


class Originals:
    """Takes originals in, before their frames are judged, and lets them go by the spool's rule."""

    def __init__(self, cases: Cases, spool: Spool, identity: Identity, recorder: Recorder) -> None:
        self._cases, self._spool, self._identity, self._recorder = cases, spool, identity, recorder

    def take(self, original: Original) -> None:
        """Seal a DICOM file and whom it is of; any other file names no patient and stays where it is.

        One that can never be kept (it cannot be read, or is larger than the spool) is said by an event.

        Raises:
            NoRoomError: it cannot be written for now; nothing of its image may be taken before it is.
        """
        study = self._identity.study(original.study)
        try:
            if not is_dicom(original.path):
                return
            from edge.imaging.patient_header import read_instance, read_patient  # not at the start: large

            patient = read_patient(original.path)
            if patient.known:
                self._cases.keep(study, patient)
            self._say(self._spool.make_room(original.path.stat().st_size))
            self._spool.keep(original.path, study, read_instance(original.path))
        except NoRoomError:
            raise
        except (OSError, UnreadableImageError) as error:
            why = error.strerror if isinstance(error, OSError) else "its header is damaged"
            self._recorder.tell(
                "error",
                "original_not_kept",
                f"an original of case {self._identity.case_code(original.study)} could not be"
                f" kept ({why}); this cart does not forward it",
                {"study": study},
            )

    def purge(self, keep_days: float) -> None:
        """Let go what is old by a wall clock that can be trusted."""
        self._say(self._spool.purge())
        self._cases.purge(keep_days)

    def _say(self, purged: Purged) -> None:
        if not purged.files:
            return
        lost = f", {purged.not_forwarded} of them not forwarded" if purged.not_forwarded else ""
        self._recorder.tell(
            "warning" if lost else "info",
            "originals_purged",
            f"{purged.files} originals were purged by the spool's rule{lost}",
            {"files": purged.files, "bytes": purged.bytes, "not_forwarded": purged.not_forwarded},
        )
