"""The courier's end at the cart: a stick that is put in brings updates, revocations and receipts, and takes
along what the cart has to say."""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from edge.agent.audit import Audit
from edge.agent.clock import Clock
from edge.agent.commands import Scalar
from edge.agent.config import AgentConfig, CourierConfig
from edge.agent.database import ClosedError, Database
from edge.agent.parcels import Parcels
from edge.agent.recorder import Recorder
from edge.agent.sender import Sender
from edge.agent.stick import Problem, Stick
from edge.agent.updates import Updates
from edge.errors import BadInputError, ScanwrightError
from edge.files import sync_folder, write_durably
from edge.keys.authority import check_revocations
from edge.mqtt.payloads import SlotStatus
from edge.schema import Contract, parse, read
from edge.update.client import Trust
from edge.update.courier import (
    DELIVERY,
    FOLDER,
    PARCELS,
    RECEIPTS,
    REPOSITORY,
    REVOKED,
    Delivery,
    Receipts,
    StickError,
    copy_checked,
    read_delivery,
    read_small,
    write_whole,
)
from edge.update.parcel import Signer, check_recipient
from edge.update.release import Device, RefusedError, choose, number

__all__ = ["COURIER", "Courier", "courier_of", "read_keys"]

log = logging.getLogger(__name__)

COURIER = "courier"
"""The courier's folder within the state folder; in it ``repository``, what a stick brought."""

_LOOK_S = 1.0
_SPARE = 64 << 20  # bytes of the cart's disk that stay free
_ORDERS = "orders.json"
_BROKEN: dict[int, Problem] = {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EROFS: "read_only"}
_PROBLEMS: dict[str, Problem] = {"rolled_back": "older", "unfinished": "unfinished"}
_Key = tuple[int, int, int, int]
_ALONE = threading.Lock()  # of all agents of this process, across reloads


class _Orders(Contract):
    """What a delivery brought that is newer, and that no slot has been told yet: versions by slot."""

    delivery: str = ""
    versions: dict[str, str] = {}


class Courier(Sender):
    """Watches the folder that sticks are mounted at. ``stick``, public, is what the screen says of one.

    Whatever is interrupted, by a pulled stick or a power cut, is begun anew when a stick is put in again;
    what a parcel holds leaves the outbox by its receipt alone.
    """

    def __init__(
        self,
        config: AgentConfig,
        courier: CourierConfig,
        headquarters: str,
        parcels: Parcels,
        trust: Trust | None,
        recorder: Recorder,
        slots: Callable[[], Sequence[SlotStatus]],
        update: Callable[[Mapping[str, Scalar]], object],
    ) -> None:
        """``headquarters``: its public key. ``trust``, of the courier alone, judges a repository before it is
        taken; None where the cart takes no updates. ``slots`` says what is in use, ``update`` takes the
        arguments of the command of that name."""
        super().__init__("courier")
        self._config, self._courier, self._headquarters = config, courier, headquarters
        self._parcels, self._trust, self._recorder = parcels, trust, recorder
        self._slots, self._update = slots, update
        self._folder = config.state / COURIER
        self._root = courier.mount / FOLDER
        self._served: _Key | None = None
        self.stick: Stick | None = None

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_S):
            try:
                with _ALONE:
                    self._look()
            except ClosedError:
                return
            except OSError as error:  # of this device's disk
                log.warning("the courier cannot work", extra={"error": error.strerror or str(error)})

    def _look(self) -> None:
        self._order()
        key = self._key()
        if key is None:
            self._served = None
            if not (self.stick and self.stick.problem == "pulled"):  # that is said until it is in again
                self.stick = self._foreign()
        elif key != self._served:
            self.stick = Stick(working=True)
            self.stick = self._serve()
            self._served = self._key()

    def _key(self) -> _Key | None:
        """What tells one stick, and what was put on it, from another; None without one."""
        try:
            root = self._root.lstat()
            if not self._root.is_dir() or self._root.is_symlink():
                return None
            delivery = (self._root / DELIVERY).lstat() if (self._root / DELIVERY).exists() else None
        except OSError:
            return None
        return root.st_dev, root.st_ino, *((delivery.st_mtime_ns, delivery.st_size) if delivery else (0, 0))

    def _foreign(self) -> Stick | None:
        """Somebody's own stick: it is left alone."""
        with suppress(OSError):
            if self._courier.mount.is_mount():
                return Stick(problem="foreign")
        return None

    def _serve(self) -> Stick:
        problem: Problem | None = None
        update = False
        said: dict[str, Scalar] = {"receipts": 0, "updates": "", "revoked": False}
        try:
            try:
                delivery = read_delivery(self._root)
                if delivery is None:
                    raise StickError("unfinished", f"{DELIVERY}: is missing; write the stick again")
                if delivery.headquarters != self._headquarters:
                    self._tell("warning", "stick_refused", "other", "of another headquarters; left alone")
                    return Stick(problem="other")
                if f"{self._config.site}/{self._config.device}" not in delivery.carts:
                    problem = "not_named"
                else:
                    problem, update = self._take(delivery, said)
            except StickError as error:
                problem = "unfinished" if error.code == "unfinished" else "damaged"
                self._tell("warning", "stick_refused", problem, str(error))
            try:
                packed = self._parcels.pack(self._folder)
            except OSError as error:
                self._tell(
                    "warning", "stick_failed", "no_room", f"nothing was copied: {error.strerror or error}"
                )
                return Stick(update=update, problem="no_room")
            with packed.sealed:
                own = self._root / PARCELS / self._config.site / self._config.device
                self._tidy(own)
                write_whole(packed.sealed, own / packed.name)
        except OSError as error:
            broken = _BROKEN.get(error.errno or 0, "pulled")
            self._tell("warning", "stick_failed", broken, error.strerror or str(error))
            return Stick(update=update, problem=broken)
        said |= {"findings": packed.findings, "others": packed.others, "parcel": packed.name}
        message = f"stick: {packed.findings} findings were copied; it may be pulled"
        self._recorder.tell("info", "stick_done", message, said)
        return Stick(results=packed.findings, update=update, problem=problem)

    def _take(self, delivery: Delivery, said: dict[str, Scalar]) -> tuple[Problem | None, bool]:
        """Take what headquarters sends; one part that is refused does not hold up the others."""
        problem: Problem | None = None
        try:
            said["receipts"] = self._take_receipts()
            said["revoked"] = self._take_revocations()
        except (StickError, BadInputError) as error:
            problem = "refused"
            self._tell("warning", "stick_refused", problem, str(error))
        try:
            orders = self._take_repository(delivery)
        except ClosedError:
            raise
        except ScanwrightError as error:
            code = error.code if isinstance(error, RefusedError | StickError) else "refused"
            self._tell("warning", "stick_refused", code, str(error))
            return _PROBLEMS.get(code, "refused"), False
        except OSError as error:
            if _BROKEN.get(error.errno or 0) != "full":
                raise
            self._tell("warning", "stick_refused", "no_room", "no room on this device for what it brings")
            return "no_room", False
        said["updates"] = ", ".join(f"{name} {version}" for name, version in sorted(orders.items()))
        return problem, bool(orders)

    def _take_receipts(self) -> int:
        name = f"{RECEIPTS}/{self._config.site}/{self._config.device}.json"
        try:
            found = parse(read_small(self._root, name), Receipts, name)
        except FileNotFoundError:
            return 0
        if (found.site, found.device) != (self._config.site, self._config.device):
            raise StickError("damaged", f"{name}: is of another cart")
        gone, forged = self._parcels.take(found.receipts)
        if forged:
            raise StickError("forged", f"{name}: {forged} receipts are not of who read the parcel; not taken")
        return gone

    def _take_revocations(self) -> bool:
        target, tls = self._courier.crl, self._config.mqtt.tls
        if target is None or tls is None:
            return False
        name = f"{REVOKED}/{self._config.site}.pem"
        try:
            new = read_small(self._root, name)
        except FileNotFoundError:
            return False
        try:
            before = target.read_bytes() if target.exists() else None
            if check_revocations(new, before, tls.ca.read_bytes()) is None:
                return False
            write_durably(target, new, 0o644)
        except BadInputError as error:
            raise StickError("refused", f"{name}: {error}") from error
        except OSError as error:
            raise StickError("refused", f"{error.filename}: cannot be used ({error.strerror})") from error
        return True

    def _take_repository(self, delivery: Delivery) -> dict[str, str]:
        """Copy the repository, judge it, and note what is newer; versions by slot."""
        files = {n: f for n, f in delivery.files.items() if n.startswith(f"{REPOSITORY}/")}
        if not files or self._trust is None:
            return {}
        new, kept = self._folder / "new", self._folder / REPOSITORY
        shutil.rmtree(new, ignore_errors=True)
        if shutil.disk_usage(self._folder).free < sum(file.size for file in files.values()) + _SPARE:
            raise OSError(errno.ENOSPC, "no room")
        try:
            for name, file in files.items():
                if self._stop.is_set():
                    raise ClosedError("the agent stops; the stick is served at its next start")
                copy_checked(self._root, name, file, new / name)
            repository = self._trust.repository(str(new / REPOSITORY))
            orders = {}
            for slot in self._slots():
                with suppress(RefusedError):  # nothing for it
                    release = choose(
                        repository.releases(),
                        Device(
                            site=self._config.site, device=self._config.device, target=self._config.target
                        ),
                        slot.name,
                        None,
                    ).custom
                    if slot.version is None or number(release.version) > number(slot.version):
                        orders[slot.name] = release.version
            shutil.rmtree(kept, ignore_errors=True)
            (new / REPOSITORY).rename(kept)
            sync_folder(self._folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        which = hashlib.sha256(delivery.model_dump_json().encode()).hexdigest()
        if self._noted().delivery == which:  # it was put in before: what came of it then stands
            return {}
        self._note(_Orders(delivery=which, versions=orders))
        self._order()
        return orders

    def _order(self) -> None:
        """Give what a stick brought to the slots, as a command would; what is busy is asked again."""
        noted = self._noted()
        for name, version in noted.versions.items():
            try:
                self._update({"name": name, "version": version})
            except BadInputError as error:
                log.debug("an update from a stick waits", extra={"slot": name, "why": str(error)})
                continue
            left = {slot: wanted for slot, wanted in noted.versions.items() if slot != name}
            self._note(noted := noted.model_copy(update={"versions": left}))

    def _noted(self) -> _Orders:
        path = self._folder / _ORDERS
        return read(path, _Orders) if path.exists() else _Orders()

    def _note(self, orders: _Orders) -> None:
        write_durably(self._folder / _ORDERS, orders.model_dump_json().encode())

    def _tidy(self, own: Path) -> None:
        """Remove this cart's parcels that have arrived, and what an interruption left."""
        waiting = self._parcels.open()
        for path in own.iterdir() if own.is_dir() else ():
            id_ = path.name.removesuffix(".age").partition("-")[2]
            if path.name.startswith(".") or (path.suffix == ".age" and id_ not in waiting):
                path.unlink()

    def _tell(self, severity: Literal["warning"], code: str, reason: str, message: str) -> None:
        self._recorder.tell(severity, code, f"stick: {message}", {"reason": reason})


def read_keys(config: AgentConfig, courier: CourierConfig) -> tuple[Signer, str]:
    """What the cart signs with, and headquarters' public key.

    Raises:
        BadInputError: a key or certificate cannot be used.
    """
    tls = config.mqtt.tls
    assert tls and tls.certificate and tls.key  # the configuration was checked
    try:
        signer = Signer(tls.certificate.read_bytes(), tls.key.read_bytes())
        return signer, check_recipient(courier.hq_key.read_text("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"courier: a key cannot be read ({error})") from error
    except BadInputError as error:
        raise BadInputError(f"courier: {courier.hq_key}: {error}") from error


def courier_of(
    config: AgentConfig,
    courier: CourierConfig,
    database: Database,
    audit: Audit,
    clock: Clock,
    recorder: Recorder,
    state: Callable[[], Sequence[tuple[str, bytes]]],
    updates: Updates | None,
) -> Courier:
    """The courier of an agent; ``state`` gives its birth and health as they are now.

    Raises:
        BadInputError: a key, a certificate or the pinned root cannot be used.
    """
    signer, headquarters = read_keys(config, courier)
    folder = config.state / COURIER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    trust = None
    if config.update:
        trust = Trust(folder, config.update.root, lambda: max(clock.now(), clock.floor()))
    parcels = Parcels(config.site, config.device, database, audit, clock, signer, headquarters, state)
    return Courier(
        config,
        courier,
        headquarters,
        parcels,
        trust,
        recorder,
        updates.status if updates else lambda: (),
        updates.handlers()["update"] if updates else lambda _: None,
    )
