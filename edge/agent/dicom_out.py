"""What goes out by DICOM: originals and results to the archive, and word of them to the machines."""

from __future__ import annotations

from collections.abc import Sequence

from edge.agent.archive import Archive
from edge.agent.cases import Cases
from edge.agent.commitment import Commitments
from edge.agent.config import AgentConfig, DicomSource, PacsConfig
from edge.agent.database import Database
from edge.agent.forward import Forwarder
from edge.agent.identity import Identity
from edge.agent.recorder import Recorder
from edge.agent.sender import Sender
from edge.agent.spool import Spool
from edge.agent.store import Store
from edge.mqtt.payloads import BundleRef

__all__ = ["outgoing"]


def outgoing(
    config: AgentConfig,
    pacs: PacsConfig,
    database: Database,
    spool: Spool,
    cases: Cases,
    identity: Identity,
    recorder: Recorder,
    bundles: Sequence[BundleRef],
) -> list[Sender]:
    """All senders that a configuration with an archive asks for.

    Raises:
        BadInputError: configured certificates cannot be used.
    """
    archive = Archive(pacs)
    senders: list[Sender] = [Forwarder(archive, spool, recorder)]
    if pacs.results:
        from edge.agent.results import Results

        store = Store(database)
        senders.append(
            Results(database, store, spool, cases, identity, archive, recorder, bundles, pacs.results)
        )
    senders += [
        Commitments(source, config.state / "inbox" / source.name, spool.custody, archive.title, recorder)
        for source in config.sources
        if isinstance(source, DicomSource) and source.commitment
    ]
    return senders
