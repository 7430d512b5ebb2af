"""The page in a real browser, at 8,000 and at 150,000 live edges, wide and as narrow as a phone's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from genutil.reports.page.document import render
from tests.genutil.reports.page.browsing import NARROW, WIDE, complaints, open_page, wait_for
from tests.genutil.reports.page.samples import content

SIZES = (8_000, 150_000)
SETTLED = "return document.documentElement.dataset.charts && document.getElementById('edges').dataset.drawn"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=SIZES, ids=["8,000 edges", "150,000 edges"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    """The number of live edges, and the address of the page."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(content(request.param)))
    return request.param, path.as_uri()


@pytest.fixture(params=[WIDE, NARROW], ids=["wide", "narrow"])
def browser(request: pytest.FixtureRequest, chromium: Any, page: tuple[int, str]) -> Iterator[Any]:
    """The browser with the page, after the first picture and the charts."""
    open_page(chromium, page[1], request.param, SETTLED)
    yield chromium
    assert complaints(chromium) == []


def settle(driver: Any) -> None:
    """Wait until everything is drawn."""
    wait_for(driver, SETTLED)


def drawn(driver: Any) -> str:
    """The pixels of the edges."""
    settle(driver)
    return driver.execute_script("return document.getElementById('edges').toDataURL()")


def text(driver: Any, name: str) -> str:
    return driver.execute_script(f"return document.getElementById('{name}').textContent")


def move(driver: Any, state: int) -> None:
    """Move the slider as a hand does: its value changes, and the page hears of it."""
    driver.execute_script(
        "const slider = document.getElementById('state'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input', {bubbles: true}))",
        state,
    )
    settle(driver)


def point_at(driver: Any, node: int) -> None:
    """Move the mouse to a node."""
    from selenium.webdriver.common.action_chains import ActionChains

    driver.execute_script("document.getElementById('stage').scrollIntoView({block: 'center'})")
    overlay = driver.find_element("id", "overlay")
    x, y = driver.execute_script("return page.wiring.place(arguments[0])", node)
    size = overlay.size
    ActionChains(driver).move_to_element_with_offset(overlay, x - size["width"] / 2, y - size["height"] / 2).perform()


def test_the_slider_moves_edges(browser: Any):
    assert text(browser, "moment") == "epoch 30"
    last = drawn(browser)
    move(browser, 0)
    assert text(browser, "moment") == "epoch 0"
    first = drawn(browser)
    assert first != last
    move(browser, 1)
    assert drawn(browser) not in (first, last)
    came = browser.execute_script("return [page.wiring.born, page.wiring.gone]")
    assert min(came) > 0
    assert f"{came[0]:,} came and {came[1]:,} went" in text(browser, "status")
    move(browser, 3)
    assert drawn(browser) == last


def test_every_edge_can_be_seen(browser: Any, page: tuple[int, str]):
    checked = browser.execute_script("return document.getElementById('every').checked")
    assert checked == (page[0] <= 40_000), "more are bundles at first"
    if not checked:
        browser.execute_script("document.getElementById('every').click()")
        settle(browser)
    assert int(browser.execute_script("return document.getElementById('edges').dataset.drawn")) >= page[0]


def test_pointing_at_a_node_shows_it(browser: Any):
    before = browser.execute_script("return document.getElementById('overlay').toDataURL()")
    node = browser.execute_script(
        "const {part, state} = page.wiring, nodes = part.bySlot.slice(part.first[4], part.first[5]);"
        "return nodes.find((node) => part.lives(node, state))"
    )
    point_at(browser, node)
    name = browser.execute_script("return page.wiring.part.name(arguments[0])", node)
    assert browser.execute_script("return document.getElementById('node').dataset.node") == name
    shown = text(browser, "node")
    assert "edges come in" in shown
    assert "strongest path from image to logits: image:0 → downsample.0:" in shown
    assert f" → {name} → " in shown
    assert " → fc:" in shown
    assert browser.execute_script("return document.getElementById('overlay').toDataURL()") != before


def test_search_finds_a_node(browser: Any):
    field = browser.find_element("id", "search")
    field.send_keys("block.2:300")
    assert browser.execute_script("return document.getElementById('node').dataset.node") == "block.2:300"
    field.clear()
    field.send_keys("no such node")
    assert text(browser, "found") == "No node is called that."


def test_groups_open_up(browser: Any, page: tuple[int, str]):
    if page[0] <= 40_000:
        browser.execute_script("document.getElementById('every').click()")
    bundled = drawn(browser)
    assert browser.execute_script("return page.wiring.bundles.size") > 5
    browser.execute_script(
        "const w = page.wiring, box = w.overlay.getBoundingClientRect(), g = 4;"
        "const [x, y] = w.place(w.part.bySlot[w.part.first[g]]);"
        "const at = w.upright ? [10, y] : [x, box.height - 10];"
        "for (const kind of ['pointerdown', 'pointerup', 'click']) w.overlay.dispatchEvent(new PointerEvent(kind,"
        " {clientX: box.x + at[0], clientY: box.y + at[1], bubbles: true}))"
    )
    assert browser.execute_script("return [...page.wiring.open]") == [4]
    assert drawn(browser) != bundled
    assert int(browser.execute_script("return document.getElementById('edges').dataset.drawn")) > 100


def test_nothing_is_wider_than_the_screen(browser: Any):
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    charts = browser.execute_script("return document.querySelectorAll('.chart .main-svg').length")
    assert charts >= 8


def test_dark_and_light_are_two(browser: Any):
    light = drawn(browser)
    back = "return getComputedStyle(document.body).backgroundColor"
    before = browser.execute_script(back)
    browser.execute_script("document.getElementById('theme').click()")
    assert browser.execute_script(back) != before
    assert drawn(browser) != light


def test_every_control_can_be_named(browser: Any):
    tree = browser.execute_script(
        "return [...document.querySelectorAll('input, select, button')].filter((one) => one.offsetParent"
        " && !one.closest('label') && !one.textContent && !one.title && !one.ariaLabel).map((one) => one.outerHTML)"
    )
    assert json.dumps(tree) == "[]"
