"""The case table: which patient a study is of, sealed, for the cart's own screen and its DICOM exports."""

from __future__ import annotations

import json
import sqlite3
import time
from concurrent.futures import Future
from dataclasses import asdict

from edge.agent.database import Database
from edge.agent.identity import Identity
from edge.agent.vault import Vault
from edge.imaging.patient import Patient

__all__ = ["Cases"]


class Cases:
    """The sealed table. ``study`` is everywhere the keyed hash that a Finding names its study by."""

    def __init__(self, database: Database, vault: Vault, identity: Identity) -> None:
        self._database, self._vault, self._identity = database, vault, identity

    def keep(self, study: str, patient: Patient) -> Future[None]:
        """Keep whom a study is of; one whose files name several patients is kept with all of them."""
        plain = json.dumps(asdict(patient), ensure_ascii=False).encode()
        row = (study, self._identity.mark(f"patient:{plain.decode()}"), time.time())
        sealed = self._vault.seal(plain, _context(study))

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO patient (study, mark, created, sealed) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET created = excluded.created",
                (*row, sealed),
            )

        return self._database.write(write)

    def of(self, study: str) -> list[Patient]:
        """Whom a study is of, in the order they came; none if its files did not say, more if they disagree.

        Raises:
            VaultError: the device's key is not the one they were sealed with.
        """
        rows = self._database.read("SELECT sealed FROM patient WHERE study = ? ORDER BY created", (study,))
        return [Patient(**json.loads(self._vault.open(sealed, _context(study)))) for (sealed,) in rows]

    def purge(self, keep_days: float) -> None:
        """Forget studies not added to for ``keep_days`` by the wall clock, unless the spool has them."""
        oldest = time.time() - keep_days * 86400
        self._database.write(
            lambda connection: connection.execute(
                "DELETE FROM patient WHERE created < ? AND study NOT IN (SELECT study FROM original)",
                (oldest,),
            )
        )


def _context(study: str) -> str:
    return f"patient:{study}"
