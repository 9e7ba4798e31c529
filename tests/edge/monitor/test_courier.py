"""What headquarters takes from a stick: once, in any order, and only what a cart has signed."""

from __future__ import annotations

import io
import itertools
import json
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fleet import Simulated
from sites import SiteKeys, site_keys
from sqlalchemy import select

from edge.errors import BadInputError
from edge.monitor import rollouts
from edge.monitor.courier import Arrived, Custody, import_stick
from edge.monitor.courier_cli import courier
from edge.monitor.delivery import Load, deliver, needed
from edge.monitor.rollout import Plan
from edge.monitor.store.database import Database
from edge.mqtt.payloads import Event
from edge.schema import parse
from edge.update.courier import FOLDER, PARCELS, Receipt, Receipts, confirms, parcel_name, read_delivery
from edge.update.parcel import Head, Item, Signer, seal, write_items

KEYS = site_keys()
T = datetime(2026, 11, 20, tzinfo=timezone.utc).timestamp()
TOKEN = "ef" * 32


def parcel(
    stick: Path, number: int, *items: Item, keys: SiteKeys = KEYS, made: float = T - 100, **changes: Any
) -> Path:
    """A parcel as a cart puts it on a stick."""
    head = Head.model_validate(
        {
            "site": keys.site,
            "device": keys.device,
            "id": f"{number:032x}",
            "number": number,
            "made": datetime.fromtimestamp(made, timezone.utc),
            "clock_trusted": True,
            "token": TOKEN,
            "certificate": keys.cart.certificate.decode(),
        }
        | changes
    )
    text = io.BytesIO()
    write_items(text, head, items, Signer(keys.cart.certificate, keys.cart.key))
    text.seek(0)
    folder = stick / FOLDER / PARCELS / keys.site / keys.device
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / parcel_name(number, head.id)
    with path.open("wb") as target:
        seal(text, target, KEYS.public)
    return path


def finding(cart: Simulated, **said: Any) -> Item:
    _, payload = cart.finding(**said)
    return Item.of("finding", payload, json.loads(payload)["id"])


def event(cart: Simulated, code: str, id_: str, **data: Any) -> Item:
    stamp = json.loads(cart.finding()[1])["stamp"]
    made = Event(id=id_, stamp=stamp, severity="info", code=code, message="said", data=data)
    return Item.of("event", made.model_dump_json().encode(), id_)


@pytest.fixture
def stick(tmp_path) -> Path:
    (tmp_path / "stick" / FOLDER).mkdir(parents=True)
    return tmp_path / "stick"


@pytest.fixture
def take(tmp_path, database, stick):
    """``take()``: import the stick."""

    def take(now: float = T, **changes: Any) -> list[Arrived]:
        custody = Custody(KEYS.secret, [KEYS.ca.certificate], changes.get("revoked", ()))
        receipts, audits = tmp_path / "receipts", tmp_path / "audits"
        return list(import_stick(changes.get("stick", stick), database, custody, receipts, audits, now))

    return take


def count(database: Database, table: str) -> int:
    return len(database.read(select(database.tables[table])))


def receipts(tmp_path: Path) -> list[Receipt]:
    return [parse(path.read_text(), Receipt, "") for path in sorted(tmp_path.glob("receipts/*/*/*.json"))]


def test_findings_arrive_once_in_any_order_and_each_parcel_is_receipted(
    tmp_path, stick, take, database, cart
) -> None:
    items = [finding(cart) for _ in range(600)]
    parcel(stick, 2, *items)
    (later,) = take()
    assert (later.cart, later.findings, later.new, later.problem) == ("clinic/cart-1", 600, 600, None)
    parcel(stick, 1, *items[:100])
    earlier, again = take()
    assert (earlier.findings, earlier.new, again.findings, again.new) == (100, 0, 600, 0)
    assert count(database, "finding") == 600
    assert [receipt.parcel for receipt in receipts(tmp_path)] == [f"{n:032x}" for n in (1, 2)]
    assert all(confirms(receipt, bytes.fromhex(TOKEN)) for receipt in receipts(tmp_path))


def test_the_cart_is_known_as_it_was_and_never_goes_back_in_time(stick, take, database, cart) -> None:
    def state(backlog: int) -> list[Item]:
        return [Item.of("health", cart.health(backlog=backlog)[1]), Item.of("birth", cart.birth()[1])]

    device = database.tables["device"]
    known = select(device.c.backlog, device.c.health_at, device.c.last_heard)
    parcel(stick, 2, *state(5), made=T - 50)
    take()
    assert database.read(known) == [(5, T - 50, T - 50)]
    parcel(stick, 1, *state(9), made=T - 500)
    parcel(stick, 3, *state(3), made=T + 9e6, clock_trusted=False)
    take()
    assert database.read(known) == [(3, T, T)]


def test_an_outcome_that_comes_by_stick_counts_for_its_rollout(stick, take, database, cart, put) -> None:
    from edge.mqtt.payloads import SlotStatus

    put(cart.birth(), cart.health(slots=(SlotStatus(name="chest", version="1.0.0"),)), received=T - 900)
    plan = Plan(stages=(1.0,), wait_s=100)
    rollouts.start(database, "chest", "1.1.0", "clinic", plan, "test", T - 800)
    rollouts.step(database, T - 700)
    parcel(stick, 1, event(cart, "update_committed", "1" * 32, name="chest", version="1.1.0"))
    assert take()[0].events == 1
    assert [member.state for member in rollouts.views(database)[0].members] == ["done"]
    assert take()[0].events == 0


def test_what_is_no_message_is_refused_by_id_and_stays_on_the_cart(
    tmp_path, stick, take, database, cart
) -> None:
    other = Simulated("clinic", "cart-2")
    bad = [Item.of("finding", b"{}", "bad"), Item.of("event", b"\xff", "worse"), finding(other)]
    parcel(stick, 1, finding(cart), *bad, Item.of("overlay", b"no PNG", "overlay/x", "x"))
    (arrived,) = take()
    assert arrived.new == 1 and arrived.problem is None
    assert arrived.refused == ["bad", "worse", bad[2].id, "overlay/x"]
    assert list(receipts(tmp_path)[0].refused) == arrived.refused
    assert count(database, "finding") == 1


def test_a_parcel_that_is_not_a_carts_is_named_and_the_others_are_taken(
    tmp_path, stick, take, database, cart
) -> None:
    parcel(stick, 1, finding(cart))
    stranger = SiteKeys("clinic", "cart-1")
    parcel(stick, 2, finding(cart), keys=stranger)
    cut = parcel(stick, 3, finding(cart))
    cut.write_bytes(cut.read_bytes()[:-20])
    (cut.parent / parcel_name(4, "ab" * 16)).symlink_to("/etc/passwd")
    (cut.parent / ".5.age.new").write_bytes(b"half")
    moved = parcel(stick, 6, finding(cart))
    elsewhere = moved.parent.parent / "cart-9" / moved.name
    elsewhere.parent.mkdir()
    moved.rename(elsewhere)
    found = take()
    problems = [arrived.problem or "" for arrived in found]
    assert [arrived.new for arrived in found] == [1, 0, 0, 0, 0]
    for said, words in zip(
        problems[1:], ("no authority", "cut off", "symbolic link", "of another cart"), strict=True
    ):
        assert words in said
    assert len(receipts(tmp_path)) == 1
    event = database.tables["event"]
    told = database.read(select(event.c.code).where(event.c.code == "parcel_refused"))
    assert len(told) == 4
    take()
    assert len(database.read(select(event.c.code).where(event.c.code == "parcel_refused"))) == 4, "told once"


def test_a_revoked_cart_is_not_believed(stick, take, cart) -> None:
    parcel(stick, 1, finding(cart))
    (arrived,) = take(revoked=[KEYS.revocations(KEYS.cart.serial)])
    assert arrived.problem and "taken back" in arrived.problem


def test_an_audit_log_is_kept_and_its_rewriting_noticed(tmp_path, stick, take, database) -> None:
    def log(*entries: tuple[int, str]) -> list[Item]:
        return [Item.of("audit", json.dumps({"seq": s, "hash": h}).encode()) for s, h in entries]

    parcel(stick, 1, *log((1, "a"), (2, "b")))
    parcel(stick, 2, *log((2, "b"), (3, "c")))
    take()
    kept = tmp_path / "audits" / "clinic" / "cart-1.jsonl"
    assert [json.loads(line)["seq"] for line in kept.read_text().splitlines()] == [1, 2, 3]
    parcel(stick, 3, *log((2, "x"), (3, "y"), (4, "z")))
    take()
    event = database.tables["event"]
    (said,) = database.read(select(event.c.message).where(event.c.code == "audit_rewritten"))
    assert "from entry 2 on" in said[0]
    assert [json.loads(line)["hash"] for line in kept.read_text().splitlines()] == ["a", "b", "c", "z"]


def test_what_is_no_couriers_stick_is_said(tmp_path, take) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="no courier's stick"):
        take(stick=tmp_path / "empty")


def test_a_delivery_holds_what_the_carts_need_and_no_more(tmp_path, tiny_bundle, stick, take, cart) -> None:
    from releases import Releases

    (tmp_path / "hq").mkdir()
    made = Releases(tmp_path / "hq", tiny_bundle)
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        made.bundle(version)
    made.bundle("1.10.0", target="raspberry-pi-4")
    other = tiny_bundle(tmp_path / "other.swb", version="2.0.0")
    made.publish(other, sites=["elsewhere"])
    names = [path.name.partition(".")[2] for path in needed(made.repository, ["clinic/cart-1"])]
    bundles = {name for name in names if name.endswith(".swb")}
    assert bundles == {"tiny-1.10.0-raspberry-pi-4.swb", "tiny-1.10.0-raspberry-pi-5.swb"}
    kept = parcel(stick, 1, finding(cart))
    take()
    (tmp_path / "crl.pem").write_bytes(KEYS.revocations(5))
    load = Load(["clinic/cart-1"], made.repository, [tmp_path / "crl.pem"], tmp_path / "receipts")
    deliver(stick, KEYS.public, load, datetime.now(timezone.utc))
    delivery = read_delivery(stick / FOLDER)
    assert delivery and delivery.carts == ("clinic/cart-1",)
    assert {"revoked/clinic.pem", "receipts/clinic/cart-1.json"} < set(delivery.files)
    assert all((stick / FOLDER / name).stat().st_size == file.size for name, file in delivery.files.items())
    carried = parse((stick / FOLDER / "receipts/clinic/cart-1.json").read_text(), Receipts, "")
    assert [receipt.parcel for receipt in carried.receipts] == [f"{1:032x}"]
    assert kept.exists(), "parcels stay"
    deliver(stick, KEYS.public, Load(["clinic/cart-2"]), datetime.now(timezone.utc))
    assert not (stick / FOLDER / "repository").exists() and kept.exists()


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (Load(["cart-1"]), "SITE/DEVICE"),
        (Load(["../x/y"]), "SITE/DEVICE"),
        (Load(["clinic/cart-1"], Path("/nowhere")), "no release repository"),
        (Load(["clinic/cart-1"], None, [Path("/nowhere.pem")]), "no revocation list"),
    ],
)
def test_what_cannot_be_delivered_is_named_before_anything_is_written(stick, load, words) -> None:
    with pytest.raises(BadInputError, match=words):
        deliver(stick, KEYS.public, load, datetime.now(timezone.utc))
    assert not list((stick / FOLDER).iterdir())


def test_the_commands_say_what_they_did(tmp_path, stick, cart) -> None:
    def run(*arguments: object) -> Any:
        return CliRunner().invoke(courier, [str(argument) for argument in arguments])

    made = run("keys", "--out", tmp_path / "keys")
    assert made.exit_code == 0 and (tmp_path / "keys/hq.key").stat().st_mode & 0o077 == 0
    assert isinstance(run("keys", "--out", tmp_path / "keys").exception, BadInputError)
    KEYS.write(tmp_path / "site")
    export = ("export", stick, "--carts", "clinic/cart-1", "--receipts", tmp_path / "receipts", "--hq-key")
    assert "0 files" in run(*export, tmp_path / "site/hq.pub").output
    assert "--hq-key" in str(run(*export, tmp_path / "site/ca.pem").exception)
    before = (stick / FOLDER / "delivery.json").read_bytes()
    none = run("export", stick, "--carts", " , ", *export[4:], tmp_path / "site/hq.pub")
    assert "names no cart" in str(none.exception)
    assert (stick / FOLDER / "delivery.json").read_bytes() == before
    take = ("import", stick, "--store", f"sqlite:///{tmp_path / 'f.db'}", "--receipts", tmp_path / "receipts")
    take += ("--key", tmp_path / "site/hq.key", "--ca", tmp_path / "site/ca.pem")
    assert "there is no store here" in str(run(*take).exception) and not (tmp_path / "f.db").exists()
    with closing(Database(f"sqlite:///{tmp_path / 'f.db'}")):
        pass
    assert "no parcels" in run(*take).output
    parcel(stick, 1, finding(cart))
    result = run(*take, "--json", tmp_path / "said.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "said.json").read_text())["parcels"][0]["new"] == 1
    parcel(stick, 2, finding(cart), keys=SiteKeys("clinic", "cart-1"))
    failed = run(*take)
    assert failed.exit_code == 1 and "1 of 2 parcels were not taken" in str(failed.exception)


@pytest.mark.parametrize(
    ("option", "file"), [("--key", "hq.pub"), ("--ca", "hq.pub"), ("--crl", "ca.pem"), ("--crl", "gone.pem")]
)
def test_a_wrong_key_or_list_is_named_before_a_parcel_is_looked_at(
    tmp_path, stick, cart, database, option, file
) -> None:
    KEYS.write(tmp_path / "site")
    parcel(stick, 1, finding(cart))
    given = {"--key": tmp_path / "site/hq.key", "--ca": tmp_path / "site/ca.pem"}
    given |= {option: tmp_path / "site" / file}
    store = f"sqlite:///{tmp_path / 'fleet.db'}"
    take = ["import", stick, "--store", store, "--receipts", tmp_path / "r", *itertools.chain(*given.items())]
    wrong = CliRunner().invoke(courier, [str(argument) for argument in take])
    assert isinstance(wrong.exception, BadInputError)
    assert f"{option} {tmp_path / 'site' / file}: " in str(wrong.exception)
    assert count(database, "event") == 0


@pytest.mark.parametrize("seq", ["1e999", "[" * 5000, '"x"'])
def test_an_audit_log_of_nonsense_costs_its_own_parcel_alone(stick, take, cart, seq) -> None:
    parcel(stick, 1, Item.of("audit", f'{{"seq": {seq}, "hash": "x"}}'.encode()))
    parcel(stick, 2, finding(cart))
    bad, good = take()
    assert "audit log is damaged" in (bad.problem or "") and good.new == 1


def test_one_sites_authority_does_not_speak_for_anothers_carts(tmp_path, stick, database, cart) -> None:
    other = SiteKeys("elsewhere", "cart-1")
    forged = SiteKeys("clinic", "cart-1")
    until = datetime.now(timezone.utc) + timedelta(days=9)
    forged.cart = other.authority.issue("clinic", "cart-1", "client", [], until)
    parcel(stick, 1, finding(cart), keys=forged)
    custody = Custody(KEYS.secret, [KEYS.ca.certificate, other.ca.certificate])
    (arrived,) = import_stick(stick, database, custody, tmp_path / "receipts", None, T)
    assert arrived.new == 0 and "no authority that was given" in (arrived.problem or "")


def test_a_name_on_a_stick_cannot_steer_the_terminal(tmp_path, stick, database) -> None:
    KEYS.write(tmp_path / "site")
    folder = stick / FOLDER / PARCELS / "clinic" / "cart-1"
    folder.mkdir(parents=True)
    (folder / "1\x1b[2J\nall well.age").write_bytes(b"x")
    take = ["import", stick, "--store", f"sqlite:///{tmp_path / 'fleet.db'}", "--receipts", tmp_path / "r"]
    take += ["--key", tmp_path / "site/hq.key", "--ca", tmp_path / "site/ca.pem"]
    result = CliRunner().invoke(courier, [str(argument) for argument in take], color=True)
    lines = result.output.splitlines()
    assert len(lines) == 1 and "all well.age: " in lines[0] and lines[0].isprintable()
