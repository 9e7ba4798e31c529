"""The configured archive: objects to it by C-STORE."""

from __future__ import annotations

import logging

from pydicom import Dataset
from pynetdicom import AE, _config

from edge.agent.config import PacsConfig
from edge.sources.dicom_tls import client_context

__all__ = ["Archive", "RefusedError", "UnreachableError"]

# What pynetdicom logs quotes data sets.
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

_TIMEOUT_S = 30.0


class UnreachableError(Exception):
    """The archive is not there, or has no room now: all that waits is tried again later."""


class RefusedError(Exception):
    """The archive does not want this object, or it cannot be read: the others need not wait for it."""


class Archive:
    """Stores one object an association. ``title`` is the archive's AE title."""

    def __init__(self, config: PacsConfig) -> None:
        """
        Raises:
            BadInputError: the configured certificates cannot be used.
        """
        self.title = config.ae_title
        self._config = config
        self._tls = client_context(config.tls) if config.tls else None

    def store(self, dataset: Dataset) -> None:
        """C-STORE; success and warnings (PS3.4 B.2.3) count as stored.

        Args:
            dataset: with the transfer syntax it is sent in.

        Raises:
            UnreachableError, RefusedError: it is not stored.
        """
        config = self._config
        entity = AE(ae_title=config.calling_ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
        entity.connection_timeout = _TIMEOUT_S
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = entity.associate(
            config.host,
            config.port,
            ae_title=config.ae_title,
            tls_args=(self._tls, config.host) if self._tls else None,
        )
        if not association.is_established:
            if association.rejected_contexts:
                raise RefusedError("its SOP class or transfer syntax is not accepted")
            raise UnreachableError("association rejected" if association.is_rejected else "no association")
        try:
            status = association.send_c_store(dataset).get("Status")
        except (ValueError, AttributeError) as error:
            raise RefusedError("it cannot be encoded") from error
        finally:
            association.release()
        if status is None or status & 0xFF00 == 0xA700:
            raise UnreachableError("no answer" if status is None else "out of resources")
        if status != 0 and status & 0xF000 != 0xB000:
            raise RefusedError(f"status {status:04X}")
