"""From the configuration of a source to the source."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from edge.agent.config import AgentConfig, CaptureSource, DicomSource, FolderSource
from edge.errors import BadInputError
from edge.sources.base import Source

__all__ = ["open_sources"]


def open_sources(config: AgentConfig, seen: Callable[[str], bool]) -> list[Source]:
    """The configured sources, not yet asked for anything; ``seen`` says whether a key was done before.

    Raises:
        BadInputError: one needs a package that is not installed.
    """
    return [_source(one, config, seen) for one in config.sources]


def _source(
    one: FolderSource | CaptureSource | DicomSource, config: AgentConfig, seen: Callable[[str], bool]
) -> Source:
    if isinstance(one, FolderSource):
        from edge.sources.folder import Folder

        return Folder(one.name, one.path, one.poll_s, one.settle_s, seen)
    if isinstance(one, DicomSource):
        from edge.sources.dicom import DicomReceiver

        return DicomReceiver(one, config.state / "inbox" / one.name, seen)
    from edge.sources.capture import LiveCapture, VideoFile

    if one.is_file:
        return VideoFile(one, Path(str(one.url)), seen)
    if str(one.url).startswith("igtl://") and find_spec("pyigtl") is None:
        raise BadInputError(
            f"source '{one.name}': OpenIGTLink needs another package; pip install 'scanwright[openigtlink]'"
        )
    return LiveCapture(one, config.study_silence_s)
