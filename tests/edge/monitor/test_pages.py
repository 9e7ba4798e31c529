"""The pages as a plain client sees them: who may do what, what is shown, and what strangers get."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from fleet import Simulated, png
from own_certificate import OwnCertificate
from page_client import PASSWORD, PageClient

from edge.errors import BadInputError, ScanwrightError
from edge.monitor import upkeep
from edge.monitor.access import Tries
from edge.monitor.server import PageServer
from edge.monitor.store import accounts, audit, commands, fleet, reviews
from edge.web.catalogue import languages

ATTACK = "\"'><img src=x onerror=alert(1)><script>alert(1)</script>"
HASHED = accounts._hashed(PASSWORD)  # once for all
PAGES = ("/", "/findings", "/accuracy", "/drift", "/rollouts", "/cart/clinic/cart-1")


@pytest.fixture
def server(database: Any) -> Iterator[PageServer]:
    rows = [{"name": n, "role": n, "password": HASHED, "created": 0.0} for n in accounts.ROLES]
    database.write(lambda c: c.execute(database.insert("account"), rows) and None).result()
    server = PageServer(database, "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: PageServer) -> Callable[[str], PageClient]:
    def make(role: str) -> PageClient:
        made = PageClient(server.url)
        assert made.login(role).status == 303
        return made

    return make


@pytest.fixture
def filled(put: Callable[..., Any], cart: Simulated, server: PageServer) -> Simulated:
    now = time.time()
    put(cart.online(), cart.birth(), cart.health(disk_days=2.0), received=now)
    put(cart.finding("positive", 0.9), cart.finding("negative", 0.1), received=now)
    server.view.look()
    return cart


def test_nothing_is_shown_to_who_has_not_logged_in(server, filled):
    stranger = PageClient(server.url)
    for path in (*PAGES, "/review", "/audit", "/findings.csv", "/labels.csv", "/finding/a/b/c"):
        answer = stranger.get(path)
        assert answer.status == 303 and answer.location.startswith("/login"), path
        assert "cart-1" not in answer.text
    assert stranger.get("/api/events").status == 401
    assert stranger.post("/cart/clinic/cart-1/command", command="identify").status == 401
    assert "cart-1" not in stranger.get("/login").text


def test_every_page_is_there_in_every_language_and_asks_nothing_of_others(client, filled):
    engineer = client("engineer")
    for language in languages():
        engineer.cookies["language"] = language
        for path in (*PAGES, "/review", "/audit"):
            answer = engineer.get(path)
            assert answer.status == 200, path
            assert f'lang="{language}"' in answer.text
            assert "http://" not in answer.text.replace(engineer.origin, "")
            assert "https://" not in answer.text


def test_headers_forbid_what_is_not_ours(client, filled):
    headers = client("viewer").get("/").headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY" and headers["cache-control"] == "no-store"


def test_the_fleet_says_the_reason_first(client, filled):
    page = client("viewer").get("/").text
    assert page.index("Its disk is full in 2 days") < page.index("cart-1</bdi>")


def test_a_role_may_not_do_what_another_may(client, filled, database):
    viewer, reviewer, engineer = client("viewer"), client("reviewer"), client("engineer")
    for who, path in ((viewer, "/review"), (viewer, "/audit"), (viewer, "/labels.csv"), (reviewer, "/audit")):
        assert who.get(path).status == 403, path
    for who in (viewer, reviewer):
        refused = who.post("/cart/clinic/cart-1/command", csrf=who.csrf(), command="identify")
        assert refused.status == 403 and "engineer" in refused.text
    assert not commands.of_device(database, "clinic", "cart-1", 5)
    assert "Identify" not in viewer.get("/cart/clinic/cart-1").text
    done = engineer.post("/cart/clinic/cart-1/command", csrf=engineer.csrf(), command="identify")
    assert done.status == 303
    (ordered,) = commands.of_device(database, "clinic", "cart-1", 5)
    assert (ordered.name, ordered.ordered_by) == ("identify", "engineer")
    kinds = [row.kind for row in audit.entries(database, 20)]
    assert kinds[0] == "command" and kinds.count("refused") == 2
    assert audit.broken_at(database) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"command": "configure"},
        {"command": "update", "name": "chest", "version": "latest; rm"},
        {"command": "update", "version": "1.0.0"},
        {"command": "rollback"},
        {},
    ],
)
def test_other_commands_are_not_sent(client, filled, database, fields):
    engineer = client("engineer")
    answer = engineer.post("/cart/clinic/cart-1/command", csrf=engineer.csrf(), **fields)
    assert answer.status == 400 and not commands.of_device(database, "clinic", "cart-1", 5)


def test_a_form_that_is_not_from_here_is_refused(client, filled, database):
    engineer = client("engineer")
    token = engineer.csrf()
    path, body = "/cart/clinic/cart-1/command", f"csrf={token}&command=identify"
    assert engineer.ask("POST", path, body, Origin="http://elsewhere.example").status == 403
    assert engineer.ask("POST", path, body).status == 403
    assert engineer.post(path, csrf="x" * 22, command="identify").status == 403
    assert engineer.ask("POST", path, body + "&x=1" * 60, Origin=engineer.origin).status == 403
    assert (
        PageClient(engineer.origin).ask("POST", "/login", "x=1&" * 60, Origin=engineer.origin).status == 403
    )
    assert engineer.post(path, csrf=client("engineer").csrf(), command="identify").status == 403
    assert engineer.ask("POST", path, body + "&x=" + "y" * 30_000, Origin=engineer.origin).status == 403
    assert not commands.of_device(database, "clinic", "cart-1", 5)


def test_guessing_passwords_costs_time_and_names_are_not_told(server, database):
    stranger = PageClient(server.url)
    wrong = [stranger.login("engineer", "wrong password") for _ in range(5)]
    unknown = stranger.login("nobody", "wrong password")
    assert [answer.status for answer in wrong] == [403] * 5 and unknown.status == 429
    assert stranger.login("engineer").status == 429
    assert "session" not in stranger.cookies
    assert [row.kind for row in audit.entries(database, 9)] == ["login_refused"] * 5


def test_waits_double_and_end():
    now = [0.0]
    tries = Tries(lambda: now[0])
    for _ in range(5):
        tries.wrong("name a")
    assert tries.wait_s("name a", "host b") == 15 and tries.wait_s("host b") == 0
    tries.wrong("name a")
    assert tries.wait_s("name a") == 30
    now[0] = 31.0
    assert tries.wait_s("name a") == 0
    tries.right("name a")
    tries.wrong("name a")
    assert tries.wait_s("name a") == 0


def test_a_session_ends_at_logout_with_the_account_and_after_a_shift(client, database):
    viewer = client("viewer")
    assert viewer.post("/logout", csrf=viewer.csrf()).status == 303
    assert viewer.get("/").status == 303
    other = client("viewer")
    database.write(lambda c: accounts.remove(c, database, "viewer")).result()
    assert other.get("/").status == 303
    token = client("engineer").cookies["session"]
    assert accounts.of_token(database, token, time.time()) is not None
    assert accounts.of_token(database, token, time.time() + 2 * 3600) is None
    assert not any(token in str(row) for row in database.read(database.tables["session"].select()))


def test_after_login_only_own_pages_are_gone_to(server):
    for there in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        answer = PageClient(server.url).post("/login", name="viewer", password=PASSWORD, next=there)
        assert answer.location == "/"
    answer = PageClient(server.url).post("/login", name="viewer", password=PASSWORD, next="/findings?site=a")
    assert answer.location == "/findings?site=a"


def test_scripts_in_what_carts_say_stay_text(client, put, cart, server):
    now = time.time()
    event = cart.event("odd_event", ATTACK, "error")
    put(cart.online(), cart.birth(agent_version=ATTACK, interpreter=ATTACK), event, received=now)
    put(cart.finding("positive", 0.9, label=ATTACK), received=now)
    server.view.look()
    engineer = client("engineer")
    (row,) = fleet.findings(server._server.config.app.state.database, fleet.Filter(), 1)
    for path in (*PAGES, "/review", f"/finding/clinic/cart-1/{row.id}", f"/findings?label={ATTACK}"):
        page = engineer.get(quote(path, safe="/?="))
        for name, attributes in elements(page.text):
            assert not [key for key in attributes if key.startswith("on")], name
            assert name != "script" or attributes["src"].startswith("/static/")
    assert "&lt;script&gt;" in engineer.get("/findings").text


def elements(text: str) -> list[tuple[str, dict[str, str]]]:
    found: list[tuple[str, dict[str, str]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.append((tag, dict(attrs)))  # type: ignore[assignment]
    parser.feed(text)
    return found


def test_findings_are_filtered_and_taken_along(client, filled):
    viewer = client("viewer")
    assert viewer.get("/findings?decision=positive").text.count("<tr>") == 2
    assert "No finding fits" in viewer.get("/findings?site=elsewhere").text
    assert viewer.get("/findings.csv?decision=negative").text.count("\r\n") == 2
    bundle = json.loads(viewer.get("/findings.fhir.json").text)
    assert len(bundle["entry"]) == 4


@pytest.mark.parametrize(
    "query",
    [
        "since=9999-99-99",
        "since=0001-01-01",
        "until=9999-12-31",
        "before=1e999:x",
        "before=" + "9" * 40 + ":1",
        "before=1:" + "9" * 40,
        "case=%00",
        "label=%F0%9F%98%80",
        "site=%2e%2e",
        "reviewed=maybe",
    ],
)
def test_no_query_breaks_the_page(client, filled, query):
    assert client("viewer").get(f"/findings?{query}").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/cart/clinic/none",
        "/cart/%3Cscript%3E/x",
        "/finding/clinic/cart-1/x",
        "/finding/clinic/cart-1/" + "f" * 32,
        "/overlay/clinic/cart-1/..%2f..%2fetc.png",
        "/nowhere",
        "/static/../server.py",
    ],
)
def test_what_is_not_there_is_said(client, filled, path):
    assert client("viewer").get(path).status == 404


def test_a_verdict_is_taken_by_a_reviewer_and_may_be_given_anew(client, filled, database):
    reviewer = client("reviewer")
    (row, *_) = reviews.work(database, 2)
    assert f'data-finding="{row.id}"' in reviewer.get("/review").text
    sent = {"csrf": reviewer.csrf(), "site": row.site, "device": row.device, "id": row.id}
    assert reviewer.post("/review", **sent, verdict="label:nonsense").status == 400
    assert reviewer.post("/review", **sent, verdict="confirm").location == "/review"
    assert "A reviewer confirms: pneumonia." in reviewer.get(f"/finding/clinic/cart-1/{row.id}").text
    again = reviewer.post("/review", **sent, verdict="nothing", then="finding")
    assert again.location == f"/finding/clinic/cart-1/{row.id}"
    assert "A reviewer corrects: Nothing suspected." in reviewer.get(again.location).text
    labels = reviewer.get("/labels.csv").text.splitlines()
    assert labels[0] == "path,labels,patient,site" and f"clinic/cart-1/{row.id}.png,normal," in labels[1]
    assert "0 of 1" in reviewer.get("/accuracy").text


def test_an_overlay_is_shown_alone(client, filled, put, database):
    (row, *_) = fleet.findings(database, fleet.Filter(decision="positive"), 1)
    put((filled.topics.overlay(row.id), png()))
    answer = client("viewer").get(f"/overlay/clinic/cart-1/{row.id}.png")
    assert answer.body == png() and answer.headers["content-type"] == "image/png"
    assert (
        f"/overlay/clinic/cart-1/{row.id}.png"
        in client("viewer").get(f"/finding/clinic/cart-1/{row.id}").text
    )


def test_drift_is_shown_and_a_baseline_begun_anew(client, put, cart, database):
    now = time.time()
    past = datetime.fromtimestamp(now - 20 * 86400, timezone.utc)
    put(*(cart.finding("negative", 0.1, at=past) for _ in range(220)), received=now)
    put(*(cart.finding("positive", 0.9) for _ in range(220)), received=now)
    upkeep.look_for_drift(database, now)
    engineer = client("engineer")
    page = engineer.get("/drift").text
    assert "psi moved" in page and "Decisions" in page
    sent = {"site": "clinic", "bundle": "chest", "version": "1.0.0"}
    assert engineer.post("/drift", csrf=engineer.csrf(), **sent).status == 303
    assert "No baseline yet" in engineer.get("/drift").text
    assert client("viewer").post("/drift", csrf=client("viewer").csrf(), **sent).status == 403


def test_a_rollout_is_begun_paused_and_aborted_by_an_engineer(client, filled, database):
    engineer = client("engineer")
    sent = {"csrf": engineer.csrf(), "bundle": "chest", "site": "", "wait": "24"}
    for bad in ({"version": "newest", "stages": "100"}, {"version": "1.2.0", "stages": "50, 5"}):
        assert engineer.post("/rollouts", **sent, **bad).status == 400
    begun = engineer.post("/rollouts", **sent, version="1.2.0", stages="50, 100")
    assert begun.status == 303, begun.text
    page = engineer.get("/rollouts").text
    assert "chest 1.2.0" in page and "running" in page
    twice = engineer.post("/rollouts", **sent, version="1.3.0", stages="100")
    assert twice.status == 409 and "abort it first" in twice.text
    (row,) = database.read(database.tables["rollout"].select())
    for do, state in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
        assert engineer.post(f"/rollouts/{row.id}", csrf=sent["csrf"], do=do).status == 303
        assert state in engineer.get("/rollouts").text
    assert client("viewer").get("/rollouts").status == 200
    assert "New rollout" not in client("viewer").get("/rollouts").text


def test_settings_are_remembered(client):
    viewer = client("viewer")
    viewer.get("/settings?theme=dark-room&language=ar&next=/drift")
    page = viewer.get("/").text
    assert 'data-theme="dark-room"' in page and 'dir="rtl"' in page
    assert "zz" not in viewer.cookies.get("language", "")


def test_the_store_gone_is_said_and_the_page_shows_what_was_known(
    client, filled, server, database, monkeypatch
):
    viewer = client("viewer")
    assert viewer.get("/").status == 200
    monkeypatch.setattr(database, "read", lambda *_: (_ for _ in ()).throw(unavailable()))
    server.view.look()
    answer = viewer.get("/")
    assert answer.status == 200 and "The store cannot be reached" in answer.text and "cart-1" in answer.text
    other = viewer.get("/findings")
    assert other.status == 503 and "try again" in other.text
    assert PageClient(server.url).get("/", Cookie="session=guessed").status == 503
    assert viewer.get("/healthz").status == 503
    monkeypatch.undo()
    server.view.look()
    assert viewer.get("/").status == 200 and viewer.get("/healthz").status == 200


def unavailable() -> Exception:
    from edge.monitor.store.database import UnavailableError

    return UnavailableError("the store cannot be read: gone")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"host": "0.0.0.0"}, "--tls-cert"),
        ({"host": "example.org"}, "--tls-cert"),
        ({"certificate": "c.pem"}, "together"),
        ({"certificate": "c.pem", "key": "k.pem"}, "cannot be used"),
        ({"phone_app": "nowhere"}, "NAME-app"),
    ],
)
def test_what_cannot_be_served_is_said(database, tmp_path, arguments, words):
    given: dict[str, Any] = {"host": "127.0.0.1", "port": 0}
    given |= {n: tmp_path / v if n != "host" else v for n, v in arguments.items()}
    with pytest.raises(BadInputError, match=words):
        PageServer(database, **given)


def test_a_port_that_is_taken_is_said(database, server):
    port = int(server.url.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(ScanwrightError, match=f"--port {port}"):
        PageServer(database, "127.0.0.1", port)


def test_over_https_the_session_is_for_https_alone(database, tmp_path):
    pem = OwnCertificate(tmp_path).path  # certificate and key
    with_account = [{"name": "vera", "role": "viewer", "password": HASHED, "created": 0.0}]
    database.write(lambda c: c.execute(database.insert("account"), with_account) and None).result()
    server = PageServer(database, "localhost", 0, pem, pem)
    server.start()
    try:
        client = PageClient(server.url, trust=str(pem))
        answer = client.login("vera")
        assert answer.status == 303 and "Secure" in answer.headers["set-cookie"]
        page = client.get("/")
        assert page.status == 200 and "max-age" in page.headers["strict-transport-security"]
    finally:
        server.stop()
