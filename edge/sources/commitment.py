"""Requests for storage commitment: taken by the SCP, kept as files until the agent has answered them."""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID

from edge.files import write_durably

__all__ = ["FOLDER", "INSTANCE", "InvalidRequestError", "keep", "references_of"]

FOLDER = "commitment"
"""Of the inbox."""
INSTANCE = UID("1.2.840.10008.1.20.1.1")
"""The well-known instance that requests are made to (PS3.4 J.3.5)."""
MOST = 10_000
"""References in one request."""

_UID = re.compile(r"[\d.]{1,64}")


class InvalidRequestError(ValueError):
    """The request is not as PS3.4 J.3.2 says; its text quotes nothing of it."""


def references_of(request: Dataset) -> tuple[str, list[tuple[str, str]]]:
    """The transaction's UID, and SOP Class and Instance UID of each image that is asked for.

    Raises:
        InvalidRequestError: a UID is missing or is none, or there are none or too many.
    """
    transaction = str(request.get("TransactionUID") or "")
    items = request.get("ReferencedSOPSequence") or []
    if not 1 <= len(items) <= MOST:
        raise InvalidRequestError("no references, or too many")
    found = [
        (str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or ""))
        for item in items
    ]
    if not all(_UID.fullmatch(text) for text in (transaction, *(uid for pair in found for uid in pair))):
        raise InvalidRequestError("a UID is missing, or is none")
    return transaction, found


def keep(inbox: Path, caller: str, request: Dataset) -> None:
    """Keep a request durably; the agent reads the folder.

    Raises:
        InvalidRequestError: see :func:`references_of`.
        OSError: the disk is full.
    """
    transaction, references = references_of(request)
    said = {"caller": caller, "at": time.time(), "transaction": transaction, "references": references}
    folder = inbox / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    write_durably(folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json", json.dumps(said).encode())
