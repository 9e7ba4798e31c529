"""From the configuration of a source to the source."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from edge.agent.config import AgentConfig, CaptureSource, DicomSource, FolderSource
from edge.agent.config import Source as SourceConfig
from edge.errors import BadInputError
from edge.sources.base import Source

__all__ = ["check_source", "open_source"]


def check_source(one: SourceConfig) -> None:
    """Whether what a source needs is installed.

    Raises:
        BadInputError: a package is not.
    """
    if isinstance(one, CaptureSource) and str(one.url).startswith("igtl://") and find_spec("pyigtl") is None:
        raise BadInputError(
            f"source '{one.name}': OpenIGTLink needs another package; pip install 'scanwright[openigtlink]'"
        )


def open_source(one: SourceConfig, config: AgentConfig, seen: Callable[[str], bool]) -> Source:
    """A configured source, not yet asked for anything; ``seen`` says whether a key was done before."""
    if isinstance(one, FolderSource):
        from edge.sources.folder import Folder

        return Folder(one.name, one.path, one.poll_s, one.settle_s, seen)
    if isinstance(one, DicomSource):
        from edge.sources.dicom import DicomReceiver

        return DicomReceiver(one, config.state / "inbox" / one.name, seen)
    from edge.sources.capture import LiveCapture, VideoFile

    if one.is_file:
        return VideoFile(one, Path(str(one.url)), seen)
    return LiveCapture(one, config.study_silence_s)
