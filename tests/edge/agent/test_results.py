"""What is sent of a study rests on the findings that there are, whatever the header says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset

from edge.agent.database import Database
from edge.agent.identity import Identity
from edge.agent.results import Results
from edge.agent.store import Store, StoredFinding
from edge.mqtt.payloads import BundleRef

BUNDLE = BundleRef(name="tiny", version="1.0.0", sha256="0" * 64, target="raspberry-pi-5", signed=False)


class Counting(Store):
    """A store that counts what it is asked for, and has nothing."""

    asked = 0

    def get(self, id_: str) -> StoredFinding | None:
        self.asked += 1
        return super().get(id_)


@pytest.mark.parametrize(
    ("claimed", "asked"), [("1000000000", 3), ("0", 1), ("", 1), ("-5", 0), ("2", 2), (None, 1)]
)
def test_a_header_that_claims_frames_without_end_holds_no_report_up(
    tmp_path: Path, claimed: str | None, asked: int
) -> None:
    header = Dataset()
    header.SOPInstanceUID = "1.2.3"
    if claimed is not None:
        header.NumberOfFrames = claimed
    database = Database(tmp_path / "agent.db")
    store = Counting(database)
    results = Results.__new__(Results)
    results._identity, results._store = Identity(b"k" * 32), store
    assert results._best(BUNDLE, header, findings=3) is None
    database.close()
    assert store.asked == asked
