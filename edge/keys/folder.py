"""The folder of a site's keys: its authority, a register of what that issued, a folder for each holder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from edge.errors import BadInputError
from edge.files import write_durably
from edge.keys.authority import Authority, Credential
from edge.keys.mosquitto import acl, configuration
from edge.keys.new_folder import new_folder
from edge.schema import Contract, Name, read
from edge.site import Site

__all__ = ["BROKER", "HEADQUARTERS", "Issued", "KeyFolder", "Register"]

BROKER, HEADQUARTERS = "broker", "headquarters"
_REGISTER = "register.json"


class Issued(Contract):
    """One certificate that was issued."""

    name: Name
    serial: Annotated[str, Field(pattern=r"^[0-9a-f]{1,40}$")] = Field(description="hexadecimal")
    issued: AwareDatetime
    expires: AwareDatetime
    revoked: AwareDatetime | None = None


class Register(Contract):
    """``register.json``: everything that a site's authority issued."""

    schema_version: Literal[1] = 1
    site: Name
    issued: tuple[Issued, ...] = ()


class KeyFolder:
    """An existing folder. Public ``path`` and ``register``.

    ``ca.pem``, ``ca.key``, ``crl.pem`` and ``register.json`` stay with whoever keeps the keys; ``broker/``
    goes to the broker, ``headquarters/`` to the receiver, ``devices/NAME/`` to that cart.
    """

    def __init__(self, path: Path) -> None:
        """Open.

        Raises:
            BadInputError: it is no folder of keys, or its register is damaged.
        """
        if not (path / _REGISTER).is_file():
            raise BadInputError(f"{path}: no keys here; make them with 'scanwright keys init'")
        self.path = path
        self.register = read(path / _REGISTER, Register)

    @classmethod
    def create(cls, path: Path, site: Site, days: int, passphrase: bytes | None) -> KeyFolder:
        """Make the folder, complete or not at all: authority, broker and headquarters.

        Raises:
            BadInputError: something is there already, or cannot be written.
        """
        taken = {cart.device for cart in site.carts} & {BROKER, HEADQUARTERS}
        if taken:
            raise BadInputError(f"carts: '{taken.pop()}' is the name of another holder; rename the cart")
        if not site.broker.tls:
            raise BadInputError("broker.tls: is false, so the site uses no certificates; set it to true")
        with new_folder(path) as new:
            ca = Authority.create(site.site, _now(), passphrase)
            write_durably(new / "ca.key", ca.key)
            write_durably(new / "ca.pem", ca.certificate, 0o644)
            _write_register(new, Register(site=site.site))
            folder = cls(new)
            folder._write_revocations(passphrase)
            for name in (BROKER, HEADQUARTERS):
                folder.issue(site, name, days, passphrase)
            broker = new / BROKER
            write_durably(broker / "mosquitto.conf", configuration(site).encode())
            write_durably(broker / "acl", acl(site.site, HEADQUARTERS).encode())
        return cls(path)

    def holder(self, name: str) -> Path:
        """The folder that goes to a holder."""
        return self.path / name if name in (BROKER, HEADQUARTERS) else self.path / "devices" / name

    def check(self, site: Site) -> None:
        """Refuse another site's file.

        Raises:
            BadInputError: these keys are not of this site.
        """
        if site.site != self.register.site:
            raise BadInputError(
                f"{self.path}: these keys are of '{self.register.site}', but SITE.yaml is of '{site.site}'"
            )

    def valid(self, name: str) -> list[Issued]:
        """A holder's certificates that are neither revoked nor expired."""
        return [i for i in self.register.issued if i.name == name and not i.revoked and i.expires > _now()]

    def encrypted(self) -> bool:
        """Whether the authority's key needs a passphrase."""
        return b"ENCRYPTED" in self._file("ca.key")

    def check_passphrase(self, passphrase: bytes | None) -> None:
        """Refuse one that does not open the authority's key.

        Raises:
            BadInputError: it is wrong or missing, or the authority's files are damaged.
        """
        self._authority(passphrase)

    def issue(
        self, site: Site, name: str, days: int, passphrase: bytes | None, renew: bool = False
    ) -> Credential:
        """A new key and certificate for a holder, in its folder.

        With ``renew`` an older one stays valid until it expires, so that the holder may change over.

        Raises:
            BadInputError: the holder is not of this site, or has a valid certificate and ``renew`` is False.
        """
        self.check(site)
        known = [cart.device for cart in site.carts] + [BROKER, HEADQUARTERS]
        if name not in known:
            raise BadInputError(f"'{name}' is none of this site's holders: {', '.join(known)}")
        with self._alone():
            authority = self._authority(passphrase)
            target = self.holder(name)
            if self.valid(name) and (target / "certificate.pem").exists() and not renew:
                raise BadInputError(
                    f"'{name}' has a valid certificate; --renew replaces it, 'keys revoke' takes it back"
                )
            hosts = [site.broker.host] if name == BROKER else []
            if hosts and site.gateway_address and str(site.gateway_address) not in hosts:
                hosts.append(str(site.gateway_address))
            now = _now()
            made = authority.issue(
                site.site, name, "server" if hosts else "client", hosts, now + timedelta(days=days)
            )
            # The register comes first: what is out can always be revoked.
            entry = Issued(name=name, serial=f"{made.serial:x}", issued=now, expires=made.expires)
            self._register(*self.register.issued, entry)
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(target / "key.pem", made.key)
            write_durably(target / "certificate.pem", made.certificate, 0o644)
            write_durably(target / "ca.pem", self._file("ca.pem"), 0o644)
            if name == BROKER:
                write_durably(target / "crl.pem", self._file("crl.pem"), 0o644)
        return made

    def revoke(self, name: str, passphrase: bytes | None) -> int:
        """Take back all certificates of a holder; how many.

        Raises:
            BadInputError: there is none to take back.
        """
        with self._alone():
            if not self.valid(name):
                holders = sorted({i.name for i in self.register.issued if not i.revoked})
                raise BadInputError(f"'{name}' has no valid certificate; there are: {', '.join(holders)}")
            now = _now()
            count = len(self.valid(name))
            entries = [
                entry.model_copy(update={"revoked": now})
                if entry.name == name and not entry.revoked
                else entry
                for entry in self.register.issued
            ]
            self._authority(passphrase)  # before anything is changed
            self._register(*entries)
            self._write_revocations(passphrase)
        return count

    def _write_revocations(self, passphrase: bytes | None) -> None:
        serials = [int(entry.serial, 16) for entry in self.register.issued if entry.revoked]
        previous = self.path / "crl.pem"
        crl = self._authority(passphrase).revocations(
            serials, _now(), previous.read_bytes() if previous.exists() else None
        )
        write_durably(previous, crl, 0o644)
        if (self.path / BROKER).is_dir():
            write_durably(self.path / BROKER / "crl.pem", crl, 0o644)

    def _authority(self, passphrase: bytes | None) -> Authority:
        return Authority(self._file("ca.pem"), self._file("ca.key"), passphrase)

    def _file(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise BadInputError(f"{self.path / name}: cannot be read ({error.strerror})") from error

    def _register(self, *entries: Issued) -> None:
        self.register = self.register.model_copy(update={"issued": entries})
        _write_register(self.path, self.register)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self.register = read(self.path / _REGISTER, Register)
            yield
        finally:
            os.close(descriptor)


def _write_register(folder: Path, register: Register) -> None:
    write_durably(folder / _REGISTER, register.model_dump_json(indent=1).encode())


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)
