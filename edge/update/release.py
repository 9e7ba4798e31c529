"""A release: what the signed repository says of one file, and whether it is for this device. No files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from edge.bundle.manifest import Version
from edge.errors import ScanwrightError
from edge.schema import Contract, Name

__all__ = ["Custom", "Device", "RefusedError", "Release", "choose", "number", "release_of", "suitable"]

Kind = Literal["bundle", "agent"]
_MIB = 1 << 20
LARGEST = {"bundle": 320 * _MIB, "agent": 512 * _MIB}
"""Bytes that a release of a kind may have."""


class RefusedError(ScanwrightError):
    """An update is not taken; nothing has changed. ``code`` says why, for programs; ``version`` of what, if
    that is known."""

    def __init__(self, code: str, message: str, version: str | None = None) -> None:
        super().__init__(message)
        self.code, self.version = code, version


class Custom(Contract):
    """The ``custom`` part of a target in the repository's ``targets.json``: signed with everything else."""

    schema_version: Literal[1] = 1
    kind: Kind
    name: Name = Field(description="the bundle's; of an agent 'agent'")
    version: Version
    target: Name | None = Field(description="the board; null is any")
    sites: tuple[Name, ...] = Field(default=(), description="only for these; none means all")
    devices: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")], ...] = Field(
        default=(), description="only for these, as SITE/DEVICE; none means all"
    )


class Release(Contract):
    """A file of the repository that its signatures vouch for. ``path`` is its name there."""

    path: str
    length: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    custom: Custom


class Device(Contract):
    """Who asks."""

    site: Name
    device: Name
    target: Name | None = Field(default=None, description="the board; null takes what is for any board")


def number(version: str) -> tuple[int, ...]:
    """A version as numbers, so that 1.10.0 is newer than 1.9.0."""
    return tuple(int(part) for part in version.split("."))


def release_of(path: str, length: int, hashes: Mapping[str, str], custom: Any) -> Release:
    """What a target says of itself.

    Raises:
        RefusedError: it says nothing that this device understands.
    """
    try:
        said = Custom.model_validate_json(json.dumps(custom))
        release = Release(path=path, length=length, sha256=hashes.get("sha256", ""), custom=said)
    except (ValidationError, TypeError, ValueError) as error:
        raise RefusedError("not_understood", f"{path}: its description is not understood") from error
    if release.length > LARGEST[said.kind]:
        most = LARGEST[said.kind] // _MIB
        raise RefusedError("too_large", f"{path}: larger than {most} MiB, which is more than is taken")
    return release


def suitable(release: Release, device: Device) -> RefusedError | None:
    """Why a release is not for a device; None if it is."""
    said, what = release.custom, f"{release.custom.name} {release.custom.version}"
    who = f"{device.site}/{device.device}"
    if said.target is not None and said.target != device.target:
        made = f"{what}: made for target '{said.target}', this device is '{device.target or 'of none'}'"
        return RefusedError("other_target", made)
    if said.sites and device.site not in said.sites:
        return RefusedError("other_site", f"{what}: meant for {', '.join(said.sites)}, not for {device.site}")
    if said.devices and who not in said.devices:
        return RefusedError("other_device", f"{what}: meant for {', '.join(said.devices)}, not for {who}")
    return None


def choose(releases: Iterable[Release], device: Device, name: str, version: str | None) -> Release:
    """The release of a name that is for a device: of that version, else the newest.

    Raises:
        RefusedError: there is none; if there is one but not for this device, why not.
    """
    named = [r for r in releases if r.custom.name == name and version in (None, r.custom.version)]
    fitting = [release for release in named if suitable(release, device) is None]
    if fitting:
        return max(fitting, key=lambda release: number(release.custom.version))
    newest = max(named, key=lambda release: number(release.custom.version), default=None)
    reason = newest and suitable(newest, device)
    if reason:
        raise reason
    raise RefusedError("not_found", f"{name}{f' {version}' if version else ''}: not in the repository")
