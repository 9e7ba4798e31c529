"""What the courier does with sticks, good and bad; the whole journey is in tests/integration."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest
from releases import Releases
from sites import SiteKeys, site_keys

from edge.agent import courier as module
from edge.agent.audit import Audit
from edge.agent.clock import Clock
from edge.agent.config import AgentConfig
from edge.agent.courier import Courier, courier_of
from edge.agent.database import Database
from edge.agent.outbox import Outbox
from edge.agent.recorder import Recorder
from edge.agent.stick import Problem, Stick, sentences
from edge.monitor.delivery import Load, deliver
from edge.mqtt.topics import Topics
from edge.update.courier import FOLDER, Receipts, confirm
from edge.update.parcel import open_parcel
from edge.web.catalogue import languages, load_texts


class Site:
    """A cart's courier without the agent around it, and a stick that headquarters writes."""

    def __init__(self, folder: Path, keys: SiteKeys, update: dict | None = None) -> None:
        self.folder, self.keys = folder, keys
        keys.write(folder / "keys")
        self.mount = folder / "media"
        self.mount.mkdir()
        files = {name: str(folder / "keys" / f"{name}.pem") for name in ("ca", "certificate", "key")}
        self.config = AgentConfig.model_validate(
            {
                "site": "clinic",
                "device": "cart-1",
                "target": "raspberry-pi-5",
                "state": folder / "state",
                "bundles": (folder / "tiny.swb",),
                "sources": ({"kind": "folder", "path": folder},),
                "mqtt": {"tls": {key: Path(value) for key, value in files.items()}},
                "courier": {
                    "mount": self.mount,
                    "hq_key": folder / "keys" / "hq.pub",
                    "crl": folder / "crl.pem",
                },
                "update": update,
            }
        )
        (folder / "state").mkdir()
        self.database = Database(folder / "state" / "agent.db")
        self.outbox = Outbox(self.database)
        clock = Clock(floor=lambda: datetime(2026, 11, 1, tzinfo=timezone.utc))
        recorder = Recorder(self.database, Topics("clinic", "cart-1"), clock)
        audit = Audit(self.database, clock)
        assert self.config.courier
        self.courier: Courier = courier_of(
            self.config, self.config.courier, self.database, audit, clock, recorder, list, None
        )

    def put(self, *ids: str) -> None:
        for id_ in ids:
            self.outbox.put("finding", id_, "scanwright/clinic/cart-1/up/finding", b"{}").result()

    def waiting(self) -> int:
        return self.outbox.counts()["finding"]

    def write(self, *carts: str, public: str | None = None, **load) -> None:
        named = carts or ("clinic/cart-1",)
        deliver(self.mount, public or self.keys.public, Load(named, **load), datetime.now(timezone.utc))

    def plug(self) -> Stick:
        """Put the stick in, and have it served."""
        self.courier._served = None
        self.courier._look()
        assert self.courier.stick
        return self.courier.stick

    def parcels(self) -> list[Path]:
        return sorted(self.mount.rglob("*.age"))

    def receipt(self, parcel: Path, token: bytes | None = None, refused=()) -> None:
        """What headquarters answers to a parcel, onto the stick."""
        text = io.BytesIO()
        with parcel.open("rb") as sealed:
            opened = open_parcel(sealed, text, self.keys.secret, [self.keys.ca.certificate], [])
        made = confirm(opened.head.id, refused, token or bytes.fromhex(opened.head.token))
        path = self.mount / FOLDER / "receipts" / "clinic" / "cart-1.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Receipts(site="clinic", device="cart-1", receipts=(made,)).model_dump_json())

    def told(self, code: str) -> list[dict]:
        self.database.write(lambda connection: None).result()
        rows = self.database.read("SELECT payload FROM outbox WHERE kind = 'event' ORDER BY seq")
        events = [json.loads(payload) for (payload,) in rows]
        return [event["data"] for event in events if event["code"] == code]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path, site_keys())
    yield made
    made.database.close()


def test_what_waits_is_copied_and_let_go_by_its_receipt_alone(site) -> None:
    site.put("f1", "f2")
    site.write()
    assert site.plug() == Stick(results=2)
    assert site.waiting() == 2
    site.put("f3")
    (parcel,) = site.parcels()
    site.receipt(parcel)
    assert site.plug() == Stick(results=1)
    assert site.waiting() == 1, "f3 was not in the parcel that was confirmed"
    (left,) = site.parcels()
    assert left != parcel, "what has arrived is removed from the stick"


def test_messages_that_headquarters_refused_stay(site) -> None:
    site.put("f1", "f2")
    site.write()
    site.plug()
    site.receipt(site.parcels()[0], refused=["f2"])
    site.plug()
    assert [message.id for message in site.outbox.next(9, "finding")] == ["f2"]


def test_a_forged_receipt_lets_nothing_go(site) -> None:
    site.put("f1")
    site.write()
    site.plug()
    site.receipt(site.parcels()[0], token=b"x" * 32)
    assert site.plug() == Stick(results=1, problem="refused")
    assert site.waiting() == 1
    assert site.told("stick_refused")[-1] == {"reason": "refused"}


def test_receipts_may_come_in_any_order_and_twice(site) -> None:
    site.put("f1")
    site.write()
    site.plug()
    first = site.folder / "first.age"
    shutil.copy(site.parcels()[0], first)
    site.put("f2")
    site.plug()
    site.receipt(max(site.parcels()))
    site.plug()
    assert site.waiting() == 0
    for _ in range(2):
        site.put("f3")
        site.receipt(first)
        site.plug()
        assert site.waiting() == 1, "f3 was in neither"


def test_a_stick_of_another_headquarters_is_left_alone(site) -> None:
    site.put("f1")
    site.write(public=SiteKeys("clinic", "x").public)
    before = sorted(site.mount.rglob("*"))
    assert site.plug() == Stick(problem="other")
    assert sorted(site.mount.rglob("*")) == before and site.waiting() == 1


def test_a_stick_for_other_carts_brings_nothing_and_takes_results_along(site) -> None:
    site.put("f1")
    (site.folder / "list.pem").write_bytes(site.keys.revocations(3))
    site.write("clinic/cart-9", revoked=[site.folder / "list.pem"])
    assert site.plug() == Stick(results=1, problem="not_named")
    assert not (site.folder / "crl.pem").exists()


def test_a_stick_without_its_last_file_is_not_finished(site) -> None:
    site.put("f1")
    site.write()
    (site.mount / FOLDER / "delivery.json").unlink()
    assert site.plug() == Stick(results=1, problem="unfinished")


def test_a_damaged_delivery_is_named_and_results_leave_all_the_same(site) -> None:
    site.put("f1")
    site.write()
    (site.mount / FOLDER / "delivery.json").write_bytes(b"\0" * 100)
    assert site.plug() == Stick(results=1, problem="damaged")


def test_a_folder_that_is_a_link_is_no_stick(site) -> None:
    (site.folder / "elsewhere").mkdir()
    (site.mount / FOLDER).symlink_to(site.folder / "elsewhere")
    site.courier._look()
    assert site.courier.stick is None and not list((site.folder / "elsewhere").iterdir())


def test_an_older_revocation_list_does_not_let_a_cart_in_again(site) -> None:
    old = site.keys.revocations(3)
    new = site.keys.revocations(3, 4, previous=old)
    for data, problem in ((new, None), (new, None), (old, "refused")):
        (site.folder / "list.pem").write_bytes(data)
        site.write(revoked=[site.folder / "list.pem"])
        assert site.plug().problem == problem
        assert (site.folder / "crl.pem").read_bytes() == new
    (site.folder / "list.pem").write_bytes(SiteKeys("clinic", "x").revocations(9))
    site.write(revoked=[site.folder / "list.pem"])
    assert site.plug().problem == "refused", "of another authority"
    assert (site.folder / "crl.pem").read_bytes() == new


@pytest.mark.parametrize(("number", "problem"), [(errno.EIO, "pulled"), (errno.EROFS, "read_only")])
def test_a_stick_that_fails_is_named_and_nothing_is_lost(site, monkeypatch, number, problem) -> None:
    site.put("f1")
    site.write()

    def broken(source, target) -> None:
        raise OSError(number, "broken")

    monkeypatch.setattr(module, "write_whole", broken)
    assert site.plug() == Stick(problem=problem)
    assert site.told("stick_failed")[-1] == {"reason": problem}
    assert site.waiting() == 1
    shutil.rmtree(site.mount)
    site.courier._look()
    assert (site.courier.stick is None) == (problem != "pulled"), "that is said until it is in again"


def test_a_full_stick_is_named_and_holds_no_half_parcel(site, tmp_path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(site.mount)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs root: a stick of its own size is mounted")
    try:
        site.outbox.put("finding", "f1", "t", b"x" * 200_000).result()
        site.write()
        assert site.plug() == Stick(problem="full")
        assert not [path for path in site.mount.rglob("*") if path.suffix in (".age", ".new")]
        assert site.waiting() == 1
        shutil.rmtree(site.mount / FOLDER)
        (site.mount / "holiday.jpg").write_bytes(b"")
        site.courier._look()
        assert site.courier.stick == Stick(problem="foreign")
    finally:
        subprocess.run(["umount", str(site.mount)], check=True)


@pytest.fixture
def updated(tmp_path, tiny_bundle):
    """A site that takes updates, and headquarters' repository with version 1.1.0."""
    (tmp_path / "hq").mkdir()
    (tmp_path / "site").mkdir()
    releases = Releases(tmp_path / "hq", tiny_bundle)
    releases.bundle("1.1.0")
    made = Site(tmp_path / "site", site_keys(), {"repositories": (str(tmp_path),), "root": releases.root})
    asked: list[dict] = []
    made.courier._slots = lambda: [module.SlotStatus(name="tiny", version="1.0.0")]
    made.courier._update = asked.append
    yield made, releases, asked
    made.database.close()


def test_a_newer_version_is_asked_for_once_for_each_delivery(updated) -> None:
    site, releases, asked = updated
    site.write(repository=releases.repository)
    assert site.plug() == Stick(results=0, update=True)
    assert asked == [{"name": "tiny", "version": "1.1.0"}]
    assert (site.folder / "state/courier/repository/metadata/timestamp.json").exists()
    assert site.plug() == Stick(results=0), "what came of it stands"
    assert len(asked) == 1


def test_a_busy_slot_is_asked_again(updated) -> None:
    site, releases, asked = updated
    tries = iter([module.BadInputError("busy"), None])

    def update(arguments) -> None:
        if error := next(tries):
            raise error
        asked.append(arguments)

    site.courier._update = update
    site.write(repository=releases.repository)
    assert site.plug().update and not asked
    site.courier._order()
    site.courier._order()
    assert asked == [{"name": "tiny", "version": "1.1.0"}]


def test_two_sticks_in_the_wrong_order_replace_nothing_by_something_older(updated) -> None:
    site, releases, asked = updated
    old = site.folder / "old"
    shutil.copytree(releases.repository, old)
    releases.bundle("1.2.0")
    site.write(repository=releases.repository)
    assert site.plug().update
    site.write(repository=old)
    assert site.plug() == Stick(results=0, problem="older")
    assert asked == [{"name": "tiny", "version": "1.2.0"}]
    assert site.told("stick_refused")[-1] == {"reason": "rolled_back"}
    kept = site.folder / "state/courier/repository/targets"
    assert any("1.2.0" in path.name for path in kept.iterdir())


def test_what_is_not_signed_is_not_taken(updated, tmp_path, tiny_bundle) -> None:
    site, _, asked = updated
    (tmp_path / "thief").mkdir()
    thief = Releases(tmp_path / "thief", tiny_bundle)
    thief.bundle("9.0.0")
    site.put("f1")
    site.write(repository=thief.repository)
    assert site.plug() == Stick(results=1, problem="refused")
    assert not asked and not (site.folder / "state/courier/repository").exists()
    assert site.told("stick_refused")[-1]["reason"] in ("unknown_key", "altered")


def test_a_changed_file_is_noticed_before_anything_is_replaced(updated) -> None:
    site, releases, asked = updated
    site.write(repository=releases.repository)
    (bundle,) = (site.mount / FOLDER / "repository" / "targets").iterdir()
    bundle.write_bytes(bundle.read_bytes()[:-10])
    assert site.plug() == Stick(results=0, problem="unfinished")
    assert not asked and not (site.folder / "state/courier/repository").exists()


def test_a_delivery_is_put_on_again_whole_or_not_at_all(updated, monkeypatch) -> None:
    """Pulled at any file while headquarters writes: the cart is told that it is not finished."""
    from edge.monitor import delivery

    site, releases, asked = updated
    real, writes = delivery.write_whole, iter(range(100))
    site.write(repository=releases.repository)
    count = len([path for path in (site.mount / FOLDER).rglob("*") if path.is_file()])
    for broken in range(count):
        writes = iter(range(100))

        def pulled(source, target, broken=broken, writes=writes) -> None:
            if next(writes) == broken:
                raise OSError(errno.EIO, "Input/output error")
            real(source, target)

        monkeypatch.setattr(delivery, "write_whole", pulled)
        with pytest.raises(delivery.ScanwrightError, match="not to be used as it is"):
            site.write(repository=releases.repository)
        assert site.plug().problem == "unfinished" and not asked
    monkeypatch.setattr(delivery, "write_whole", real)
    site.write(repository=releases.repository)
    assert site.plug().update and asked


@pytest.mark.parametrize("language", languages())
def test_the_screen_says_what_a_stick_did_and_when_it_may_be_pulled(language) -> None:
    texts = load_texts(language)
    assert sentences(Stick(working=True), texts) == [texts["stick.working"]]
    done = sentences(Stick(results=12, update=True), texts)
    assert "12" in done[0] and done[1:] == [texts["stick.update"], texts["stick.pull"]]
    for problem in Problem.__args__:
        said = sentences(Stick(problem=problem), texts)
        assert said[0] == texts[f"stick.{problem}"]
        assert (texts["stick.pull"] in said) == (problem != "pulled")


def test_pulled_at_any_step_nothing_is_lost_and_the_next_time_does_it_all(updated, monkeypatch) -> None:
    site, releases, asked = updated
    (site.folder / "list.pem").write_bytes(site.keys.revocations(3))
    site.put("f1", "f2")
    site.write(repository=releases.repository, revoked=[site.folder / "list.pem"])
    real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "listdir", "mkdir", "unlink")}
    steps, last = iter(range(0)), -1

    def step(name: str):
        def call(*given, **named):
            # Below a folder of the stick that is open, or by its path; what is the cart's own works on.
            ours = "dir_fd" in named or str(site.mount) in str(given[0])
            if name == "fsync":
                ours = str(site.mount) in str(Path(f"/proc/self/fd/{given[0]}").readlink())
            if ours and next(steps, last) >= last >= 0:
                raise OSError(errno.EIO, "Input/output error")
            return real[name](*given, **named)

        return call

    for name in real:
        monkeypatch.setattr(os, name, step(name))
    seen = set()
    for last in range(1000):
        steps = iter(range(last + 1))
        found = site.plug() if site.courier._key() else None
        if next(steps, None) is not None:
            break  # it was done before that step
        assert site.waiting() == 2
        seen.add(found and found.problem)
    assert last > 15 and seen == {"pulled"}
    last = -1
    assert site.plug().results == 2
    assert asked == [{"name": "tiny", "version": "1.1.0"}], "asked for once, however often it was begun"
    assert (site.folder / "crl.pem").read_bytes() == (site.folder / "list.pem").read_bytes()
    assert not [path for path in site.mount.rglob("*") if path.name.endswith(".new")]
    for parcel in site.parcels():
        with parcel.open("rb") as sealed:
            open_parcel(sealed, io.BytesIO(), site.keys.secret, [site.keys.ca.certificate], [])


def test_a_courier_that_cannot_sign_or_seal_is_named(site) -> None:
    said = site.config.model_dump(mode="json")
    said["mqtt"]["tls"] = None
    with pytest.raises(ValueError, match=r"courier: needs mqtt\.tls"):
        AgentConfig.model_validate_json(json.dumps(said))
    courier = site.config.courier
    assert courier
    for text, words in (("AGE-SECRET-KEY-1X", "begins with 'age1'"), ("\xff", "cannot be read")):
        courier.hq_key.write_bytes(text.encode("latin-1"))
        with pytest.raises(module.BadInputError, match=words):
            module.read_keys(site.config, courier)
    courier.hq_key.unlink()
    with pytest.raises(module.BadInputError, match="cannot be read"):
        module.read_keys(site.config, courier)
