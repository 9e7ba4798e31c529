"""The fleet's pages in Chromium: live, alone with their monitor, by keyboard, for everybody."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fleet import BUNDLE, Simulated, png
from page_client import PASSWORD

from edge.monitor.hearing import Heard
from edge.monitor.server import PageServer
from edge.monitor.store import accounts, fleet, reviews
from edge.monitor.store.database import Database
from edge.monitor.store.intake import keep
from edge.monitor.upkeep import look_for_drift
from edge.web.catalogue import languages

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium: apt-get install chromium"),
]

PAGES = ("/", "/cart/clinic/cart-1", "/findings", "/review", "/accuracy", "/drift", "/rollouts", "/audit")
WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
CONTRAST = {"runOnly": ["color-contrast"]}


class Site:
    """A monitor's page over a store that is filled by hand."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'fleet.db'}", receives=True)
        for name in ("viewer", "reviewer", "engineer"):
            self.database.write(
                lambda c, n=name: accounts.add(c, self.database, n, n, PASSWORD, time.time())  # type: ignore[misc]
            ).result()
        self.server = PageServer(self.database, "127.0.0.1", 0)
        self.server.start()

    def put(self, *said: tuple[str, bytes]) -> None:
        now = time.time()
        batch: list[Heard] = [Simulated("a", "b").heard(one, now) for one in said]
        self.database.write(lambda c: keep(c, self.database, batch, now)).result()

    def fill(self) -> None:
        """Carts with something to say on every page."""
        old = BUNDLE.model_copy(update={"version": "0.9.0"})
        for n in range(1, 7):
            cart = Simulated("clinic" if n % 2 else "island", f"cart-{n}", bundle=old if n == 5 else BUNDLE)
            troubles: dict[int, dict[str, Any]] = {2: {"refusing": True}, 3: {"temperature_celsius": 74.0}}
            self.put(cart.online(n != 6), cart.birth(), cart.health(**troubles.get(n, {})))
            self.put(*(cart.finding("negative", 0.1) for _ in range(30)), cart.finding("no_result", None))
            positive = cart.finding("positive", 0.8)
            self.put(positive, (cart.topics.overlay(cart.heard(positive).body.id), png()))  # type: ignore[union-attr]
            self.put(cart.event("broker_lost"), cart.event("results_sent", severity="info"))
        with self.database._writer.begin() as connection:  # as if they were of ten days ago
            connection.execute(
                self.database.tables["histogram"].update().values(day=int(time.time() // 86400) - 10)
            )
        self.put(*(Simulated("clinic", "cart-9").finding("positive", 0.9) for _ in range(220)))
        look_for_drift(self.database, time.time())

    def close(self) -> None:
        self.server.stop()
        self.database.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        playwright.expect.set_options(timeout=15_000)
        browser = engine.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(Site(tmp_path)) as made:
        yield made


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One that is only looked at."""
    with closing(Site(tmp_path_factory.mktemp("filled"))) as made:
        made.fill()
        yield made


@pytest.fixture
def enter(browser: Any) -> Iterator[Callable[..., Any]]:
    """``enter(site, role)``: a page of somebody who has logged in, with its ``complaints`` and ``asked``."""
    contexts: list[Any] = []

    def enter(site: Site, role: str, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.complaints, page.asked = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(site.server.url)
        page.fill("#name", role)
        page.fill("#password", PASSWORD)
        page.keyboard.press("Enter")
        playwright.expect(page.locator("html.live")).to_be_attached()
        return page

    yield enter
    for context in contexts:
        context.close()


def test_what_a_cart_says_appears_without_reload(site, enter):
    page = enter(site, "viewer")
    playwright.expect(page.locator("h2", has_text="No cart has been heard yet")).to_be_visible()
    page.evaluate("window.kept = true")
    cart = Simulated("clinic", "cart-1")
    site.put(cart.online(), cart.birth(), cart.health())
    playwright.expect(page.locator("#cart-clinic-cart-1")).to_be_visible()
    playwright.expect(page.locator("tr.fine")).to_have_count(1)
    site.put(cart.health(refusing=True))
    playwright.expect(page.locator("tr.visit")).to_contain_text("Takes no images")
    page.wait_for_timeout(1000)
    assert page.evaluate("window.kept") is True
    assert page.complaints == []


def test_no_page_asks_another_origin_or_complains(filled, enter):
    page = enter(filled, "engineer")
    for path in PAGES:
        page.goto(filled.server.url.rstrip("/") + path)
        page.wait_for_timeout(300)
    assert all(url.startswith(filled.server.url) for url in page.asked)
    assert page.complaints == []
    page.goto(filled.server.url + "cart/clinic/cart-1")
    playwright.expect(page.locator(".plot canvas")).to_have_count(6)


def test_no_page_breaks_wcag_aa_by_day_by_night_and_in_a_dark_room(filled, enter):
    page = enter(filled, "engineer", color_scheme="light")
    (row,) = fleet.findings(filled.database, fleet.Filter(decision="positive", device="cart-1"), 1)
    for path in (*PAGES, f"/finding/clinic/cart-1/{row.id}"):
        page.goto(filled.server.url.rstrip("/") + path)
        for look in ("light", "dark", "dark-room") if path in PAGES[:4] else ("light", "dark-room"):
            page.emulate_media(color_scheme="light" if look == "light" else "dark")
            page.evaluate(f"document.documentElement.dataset.theme = '{look}'")
            # Between the lights only the colours differ.
            found = axe.Axe().run(page, options=WCAG if look == "light" else CONTRAST)
            assert found.violations_count == 0, f"{path} {look}: {found.generate_report()}"
    page.evaluate("document.documentElement.style.setProperty('--text', '#444')")
    assert axe.Axe().run(page, options=WCAG).violations_count > 0  # the check would see it
    page.click("form.who button")
    playwright.expect(page.locator("main.login")).to_be_visible()
    assert axe.Axe().run(page, options=WCAG).violations_count == 0


def test_the_dark_room_stays(filled, enter):
    page = enter(filled, "viewer")
    page.click("#dark-room")
    page.goto(filled.server.url + "drift")
    playwright.expect(page.locator("html[data-theme='dark-room']")).to_be_attached()


def test_a_week_is_reviewed_by_keyboard(site, enter):
    site.fill()
    page = enter(site, "reviewer")
    page.goto(site.server.url + "review")
    first = page.locator(".task").get_attribute("data-finding")
    playwright.expect(page.locator("figure img")).to_have_js_property("naturalWidth", 64)
    page.keyboard.press("c")
    playwright.expect(page.locator(f".task:not([data-finding='{first}'])")).to_be_visible()
    second = page.locator(".task").get_attribute("data-finding")
    page.wait_for_load_state()  # a key that comes before the scripts is nobody's
    page.keyboard.press("n")
    playwright.expect(page.locator(f".task:not([data-finding='{second}'])")).to_be_visible()
    verdicts = site.database.read(site.database.tables["verdict"].select().order_by("seq"))
    assert [(v.finding, v.agrees, v.reviewer) for v in verdicts] == [
        (first, True, "reviewer"),
        (second, False, "reviewer"),
    ]
    assert reviews.work(site.database, 1)[0].id not in (first, second)


def test_all_is_reached_by_the_tab_key(filled, enter):
    page = enter(filled, "engineer")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href') ?? document.activeElement.id"))
    assert {"/findings", "/audit", "#main", "language", "dark-room", "/cart/clinic/cart-1"} <= reached


def test_every_language_fits_a_small_screen_and_stays(filled, enter):
    page = enter(filled, "engineer", viewport={"width": 390, "height": 800})
    for language in languages():
        page.select_option("#language", language)
        playwright.expect(page.locator(f"html[lang='{language}']")).to_be_attached()
        for path in PAGES if language == "es" else PAGES[:4]:
            page.goto(filled.server.url.rstrip("/") + path)
            assert page.evaluate("document.documentElement.lang") == language
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} {language}"


def test_a_script_in_a_label_stays_text(site, enter):
    cart = Simulated("clinic", "cart-1")
    attack = "<img src=x onerror=window.hit=1><script>window.hit=1</script>"
    site.put(cart.online(), cart.birth(agent_version=attack), cart.finding("positive", 0.9, label=attack))
    site.put(cart.event("odd", attack))
    page = enter(site, "engineer")
    for path in ("/", "/cart/clinic/cart-1", "/findings", "/review"):
        page.goto(site.server.url.rstrip("/") + path)
        page.wait_for_timeout(200)
        assert page.evaluate("window.hit") is None
    playwright.expect(page.locator(".task h2")).to_contain_text(attack)
    assert page.complaints == []


def test_the_page_says_that_it_has_lost_its_monitor(site, enter):
    page = enter(site, "viewer")
    playwright.expect(page.locator(".banner.lost")).to_be_hidden()
    site.server.stop()
    playwright.expect(page.locator(".banner.lost")).to_be_visible()


def test_the_phone_app_is_served_under_its_own_policy(tmp_path, browser, tiny_bundle):
    from edge.bundle.archive import open_bundle
    from edge.phone.app import write_app

    folder = write_app(open_bundle(tiny_bundle(tmp_path / "tiny.swb", target="phone")), tmp_path)
    with closing(Database(f"sqlite:///{tmp_path / 'fleet.db'}")) as database:
        server = PageServer(database, "127.0.0.1", 0, phone_app=folder)
        server.start()
        page = browser.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(server.url + "phone/")
        playwright.expect(page.locator("body")).to_contain_text("Ready", timeout=30_000)
        assert not [line for line in complaints if "Content Security Policy" in line]
        page.close()
        server.stop()
