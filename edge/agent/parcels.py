"""What leaves by stick: parcels of all that waits to be told, and the receipts that let it go."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from edge.agent.audit import Audit
from edge.agent.clock import Clock, corrected
from edge.agent.database import Database
from edge.update.courier import Receipt, confirms, parcel_name
from edge.update.parcel import Head, Item, Signer, new_token, seal, write_items

__all__ = ["Packed", "Parcels"]

_MOST_BYTES = 256 << 20  # of payloads in one parcel; the rest goes with the next
_PAGE = 500
_KEPT = 50  # parcels without a receipt that are remembered; what was in older ones goes again
_AUDIT_ENTRIES = 10_000


@dataclass(frozen=True)
class Packed:
    """A parcel that is ready to leave: its file's name, and how many findings and other messages it has."""

    name: str
    findings: int
    others: int
    sealed: BinaryIO


class Parcels:
    """Packs parcels, and takes their receipts."""

    def __init__(
        self,
        site: str,
        device: str,
        database: Database,
        audit: Audit,
        clock: Clock,
        signer: Signer,
        recipient: str,
        state: Callable[[], Sequence[tuple[str, bytes]]],
    ) -> None:
        """``recipient``: headquarters' public key. ``state`` gives birth and health as they are now."""
        self._site, self._device = site, device
        self._database, self._audit, self._clock = database, audit, clock
        self._signer, self._recipient, self._state = signer, recipient, state

    def pack(self, folder: Path) -> Packed:
        """Pack all that waits, findings first; its messages stay in the outbox until a receipt comes.

        Args:
            folder: where there is room for the parcel, twice.

        Raises:
            OSError: there is not.
        """
        id_, token, stamp = uuid.uuid4().hex, new_token(), self._clock.stamp()
        number = self._database.write(lambda connection: _begin(connection, id_, token)).result()
        head = Head(
            site=self._site,
            device=self._device,
            id=id_,
            number=number,
            made=stamp.at,
            clock_trusted=stamp.clock_trusted,
            token=token.hex(),
            certificate=self._signer.certificate,
        )
        inside: dict[str, str] = {}
        sealed: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        try:
            with tempfile.TemporaryFile(dir=folder) as plain:
                write_items(plain, head, self._items(inside), self._signer)
                plain.seek(0)
                seal(plain, sealed, self._recipient)
            # Before it leaves: a receipt must find it here.
            self._database.write(lambda connection: _fill(connection, number, list(inside))).result()
        except BaseException:
            sealed.close()
            raise
        sealed.seek(0)
        findings = sum(kind == "finding" for kind in inside.values())
        return Packed(parcel_name(number, id_), findings, len(inside) - findings, sealed)

    def open(self) -> set[str]:
        """Ids of the parcels whose receipts have not come."""
        return {id_ for (id_,) in self._database.read("SELECT id FROM parcel")}

    def take(self, receipts: Sequence[Receipt]) -> tuple[int, int]:
        """Let go what has arrived; how many messages, and how many receipts were not by who read the parcel.

        A receipt of a parcel that is not known, as one that was taken before, changes nothing.
        """
        tokens = dict(self._database.read("SELECT id, token FROM parcel"))
        known = [receipt for receipt in receipts if receipt.parcel in tokens]
        proven = [receipt for receipt in known if confirms(receipt, tokens[receipt.parcel])]

        def let_go(connection: sqlite3.Connection) -> int:
            return sum(_let_go(connection, receipt) for receipt in proven)

        return self._database.write(let_go).result() if proven else 0, len(known) - len(proven)

    def _items(self, inside: dict[str, str]) -> Iterator[Item]:
        """Notes in ``inside`` the kind of each message of the outbox, by its id."""
        for kind, payload in self._state():
            yield Item.of(kind, payload)  # type: ignore[arg-type]
        left = _MOST_BYTES
        for priority in range(3):
            after = 0
            while rows := self._database.read(
                "SELECT seq, id, kind, topic, payload FROM outbox WHERE priority = ? AND seq > ?"
                " ORDER BY seq LIMIT ?",
                (priority, after, _PAGE),
            ):
                for seq, id_, kind, topic, payload in rows:
                    after, left = seq, left - len(payload)
                    if left < 0:
                        return
                    name = topic.rpartition("/")[2] if kind == "overlay" else ""
                    inside[id_] = kind
                    yield Item.of(kind, corrected(self._database, payload), id_, name)
        for entry in self._audit.entries()[-_AUDIT_ENTRIES:]:
            yield Item.of("audit", json.dumps(asdict(entry)).encode())


def _begin(connection: sqlite3.Connection, id_: str, token: bytes) -> int:
    number = connection.execute("INSERT INTO parcel (id, token) VALUES (?, ?)", (id_, token)).lastrowid or 0
    for table in ("parcel", "parcel_message"):
        connection.execute(f"DELETE FROM {table} WHERE number <= ?", (number - _KEPT,))
    return number


def _fill(connection: sqlite3.Connection, number: int, ids: Sequence[str]) -> None:
    connection.executemany("INSERT INTO parcel_message VALUES (?, ?)", [(number, id_) for id_ in ids])


def _let_go(connection: sqlite3.Connection, receipt: Receipt) -> int:
    row = connection.execute("SELECT number FROM parcel WHERE id = ?", (receipt.parcel,)).fetchone()
    if row is None:
        return 0
    for id_ in receipt.refused:  # not arrived: it stays
        connection.execute("DELETE FROM parcel_message WHERE number = ? AND id = ?", (row[0], id_))
    gone = connection.execute(
        "DELETE FROM outbox WHERE id IN (SELECT id FROM parcel_message WHERE number = ?)", row
    ).rowcount
    for table in ("parcel", "parcel_message"):
        connection.execute(f"DELETE FROM {table} WHERE number = ?", row)
    return gone
