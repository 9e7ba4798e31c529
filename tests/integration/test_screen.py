"""The screen in Chromium: live without reload, alone with its agent, by keyboard, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from screen_store import BUNDLE, Filled, make_config

from edge.agent.config import ScreenConfig
from edge.agent.screen import ScreenServer

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium: apt-get install chromium"),
]

Open = Callable[..., "playwright.Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as engine:
        playwright.expect.set_options(timeout=15_000)
        browser = engine.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


class Cart:
    """A screen over a store of its own, and what a page that shows it asked for or complained of."""

    def __init__(self, folder: Path, browser: playwright.Browser, language: str) -> None:
        self.filled = Filled(folder)
        self.connected = True
        self.server = ScreenServer(
            self.filled.store,
            make_config(folder, language=language),
            ScreenConfig(port=0),
            [BUNDLE],
            lambda: self.connected,
        )
        self.server.start()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": 1280, "height": 800})
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def show(self) -> playwright.Page:
        self.page.goto(self.server.url)
        playwright.expect(self.page.locator("html.live")).to_be_attached()
        return self.page

    def shows(self, id_: str) -> None:
        playwright.expect(self.page.locator(f".result[data-finding='{id_}']")).to_be_visible()

    def close(self) -> None:
        self.page.close()
        self.server.stop()
        self.filled.database.close()


@pytest.fixture
def cart(tmp_path: Path, browser: playwright.Browser, request: pytest.FixtureRequest) -> Iterator[Cart]:
    cart = Cart(tmp_path, browser, getattr(request, "param", "en"))
    yield cart
    cart.close()


def test_a_finding_appears_without_reload(cart: Cart) -> None:
    page = cart.show()
    playwright.expect(page.locator("h1")).to_have_text("Waiting for the first image")
    page.evaluate("window.kept = true")
    page.wait_for_timeout(500)
    finding = cart.filled.put("positive", "consolidation")
    cart.shows(finding.id)
    playwright.expect(page.locator("h1")).to_have_text("consolidation")
    playwright.expect(page.locator("#announce")).to_contain_text("Suspected. consolidation")
    pictures = page.locator("figure img")
    playwright.expect(pictures).to_have_count(2)
    for picture in pictures.all():
        playwright.expect(picture).to_have_js_property("naturalWidth", 320)
    assert page.evaluate("window.kept") is True
    assert cart.complaints == []


def test_nothing_is_asked_of_any_other_origin(cart: Cart) -> None:
    cart.filled.put("positive", "effusion")
    cart.show().wait_for_timeout(800)
    assert cart.asked
    assert all(url.startswith(cart.server.url) for url in cart.asked)
    assert any("/static/style.css" in url for url in cart.asked)
    assert cart.complaints == []


def test_a_script_in_a_label_stays_text(cart: Cart) -> None:
    page = cart.show()
    attack = "<img src=x onerror=window.hit=1><script>window.hit=1</script>"
    finding = cart.filled.put("positive", attack)
    cart.shows(finding.id)
    playwright.expect(page.locator("h1")).to_have_text(attack)
    page.reload()
    playwright.expect(page.locator("h1")).to_have_text(attack)
    assert page.evaluate("window.hit") is None
    assert cart.complaints == []


def test_arrow_keys_move_through_findings_and_a_new_one_does_not_interrupt(cart: Cart) -> None:
    first = cart.filled.put("positive", "effusion")
    second = cart.filled.put("negative", "normal")
    page = cart.show()
    cart.shows(second.id)
    page.keyboard.press("ArrowRight")
    cart.shows(first.id)
    playwright.expect(page.locator(".banner.earlier")).to_be_visible()
    third = cart.filled.put("negative", "normal")
    playwright.expect(page.locator(f"#study-{third.study}")).to_be_visible()
    cart.shows(first.id)
    page.keyboard.press("ArrowLeft")
    cart.shows(second.id)
    page.keyboard.press("Home")
    cart.shows(third.id)
    playwright.expect(page.locator(".banner.earlier")).to_have_count(0)


def test_h_and_a_touch_toggle_the_heat_map_and_it_stays_off_for_the_next(cart: Cart) -> None:
    cart.filled.put("positive", "effusion")
    page = cart.show()
    heat = page.locator("figure.heat")
    playwright.expect(heat).to_be_visible()
    page.keyboard.press("h")
    playwright.expect(heat).to_be_hidden()
    playwright.expect(page.locator("#heat")).to_have_attribute("aria-pressed", "false")
    following = cart.filled.put("positive", "nodule")
    cart.shows(following.id)
    playwright.expect(heat).to_be_hidden()
    page.locator("#heat").click()
    playwright.expect(heat).to_be_visible()


def test_what_is_touched_is_large_enough(cart: Cart) -> None:
    for _ in range(3):
        cart.filled.put("positive", "effusion")
    page = cart.show()
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator("#latest")).to_be_visible()
    boxes = page.locator("a:visible, button:visible").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect()).map(b => [b.width, b.height])"
    )
    assert len(boxes) >= 7
    assert all(width >= 48 and height >= 48 for width, height in boxes)


def test_the_page_says_so_when_the_broker_or_the_agent_is_gone(cart: Cart) -> None:
    cart.filled.put("negative", "normal")
    page = cart.show()
    playwright.expect(page.locator(".link")).to_have_text("Connected")
    cart.connected = False
    playwright.expect(page.locator(".link")).to_contain_text("Offline")
    playwright.expect(page.locator(".banner.lost")).to_be_hidden()
    cart.server.stop()
    playwright.expect(page.locator(".banner.lost")).to_be_visible()


def test_a_cart_that_is_asked_for_covers_its_screen_with_its_name_until_it_is_touched(cart: Cart) -> None:
    cart.filled.put("positive", "effusion")
    page = cart.show()
    cart.server.identify(2)
    name = page.locator(".identify .name")
    playwright.expect(name).to_have_text("cart-7")
    assert page.evaluate("document.elementFromPoint(640, 400).closest('.identify') !== null")
    page.mouse.click(640, 400)
    playwright.expect(name).to_have_count(0)
    cart.shows(cart.filled.store.latest(1)[0].id)
    page.wait_for_timeout(2500)
    cart.server.identify(1)
    playwright.expect(name).to_be_visible()
    playwright.expect(name).to_have_count(0)


@pytest.mark.parametrize("cart", ["ar"], indirect=True)
def test_arabic_is_laid_out_from_right_to_left(cart: Cart) -> None:
    first = cart.filled.put("positive", "effusion")
    cart.filled.put("negative", "normal")
    page = cart.show()
    result = page.locator(".result").bounding_box()
    pictures = page.locator(".pictures").bounding_box()
    assert result
    assert pictures
    assert result["x"] > pictures["x"] + pictures["width"] / 2
    page.keyboard.press("ArrowLeft")
    cart.shows(first.id)


@pytest.mark.parametrize("width", [480, 1280])
def test_nothing_runs_over_the_edge(cart: Cart, width: int) -> None:
    cart.filled.put("no_result", reasons=["not_covered", "out_of_distribution"])
    cart.filled.put("positive", "a rather long name of a finding " * 2)
    cart.page.set_viewport_size({"width": width, "height": 800})
    assert cart.show().evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_last_finding_is_there(cart: Cart, browser: playwright.Browser) -> None:
    finding = cart.filled.put("positive", "effusion")
    page = browser.new_page(java_script_enabled=False)
    page.goto(cart.server.url)
    assert page.locator(f".result[data-finding='{finding.id}'] h1").inner_text() == "effusion"
    assert page.locator("#heat").is_hidden()
    page.close()
