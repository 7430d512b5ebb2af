"""The page of a comparison in a real browser, wide and as narrow as a phone's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from genutil.reports.comparison import ComparedRun
from genutil.reports.page.comparison import render_comparison
from tests.genutil.reports.page.browsing import NARROW, WIDE, complaints, open_page

DRAWN = "return document.documentElement.dataset.drawn"
BASE = {"model": "static", "prune_rate": 0.95, "num_epochs": 160}

pytestmark = pytest.mark.slow


def runs() -> list[ComparedRun]:
    """Three seeds of a learned and of a random wiring, and a fixed network that was validated only."""
    found = []
    for wiring, top1 in (("dnw", 80.0), ("random", 76.0)):
        for seed in range(3):
            figures = {"top1": top1 + seed, "multiply_adds": 1.2e6 + seed, "clustering": 0.1 + seed / 100}
            settings = {**BASE, "wiring": wiring, "seed": seed}
            found.append(ComparedRun(f"{wiring}-seed_{seed}", f"runs/{wiring}-{seed}", settings, figures))
    fixed = {"model": "resnet", "wiring": "complete", "seed": 0}
    figures = {"top1": 91.5, "multiply_adds": 4.1e7}
    return [*found, ComparedRun("<resnet> & co", "runs/resnet", fixed, figures, measured_on="validation")]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the page."""
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    path.write_text(render_comparison(runs()))
    return path.as_uri()


@pytest.fixture(params=[WIDE, NARROW], ids=["wide", "narrow"])
def browser(request: pytest.FixtureRequest, chromium: Any, page: str) -> Iterator[Any]:
    """The browser with the page drawn."""
    open_page(chromium, page, request.param, DRAWN)
    yield chromium
    assert complaints(chromium) == []


def choose(driver: Any, name: str, value: str) -> None:
    """Choose a quantity of an axis as a hand does."""
    driver.execute_script(
        "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
        "field.dispatchEvent(new Event('change', {bubbles: true}))",
        name,
        value,
    )


def click(driver: Any, name: str) -> None:
    driver.execute_script("document.getElementById(arguments[0]).click()", name)


def axis_type(driver: Any, axis: str) -> str:
    return driver.execute_script("return document.getElementById('plane').layout[arguments[0]].type", axis)


def column(driver: Any, title: str) -> list[str]:
    """The cells of a column of the table, from above."""
    return driver.execute_script(
        "const table = document.getElementById('figures');"
        "const place = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === arguments[0]);"
        "return [...table.tBodies[0].rows].map((row) => row.cells[place].textContent)",
        title,
    )


def test_it_begins_with_means_over_seeds_of_accuracy_over_cost(browser: Any):
    assert browser.execute_script(DRAWN) == "multiply_adds top1 3"
    assert axis_type(browser, "xaxis") == "log"
    assert axis_type(browser, "yaxis") == "linear"
    assert column(browser, "top-1, %") == ["81 ± 1", "77 ± 1", "91.5"]
    assert column(browser, "wiring") == ["learned", "random", "fixed"]
    assert column(browser, "run")[2] == "<resnet> & co"
    points = browser.execute_script("return document.querySelectorAll('#plane .scatterlayer .point').length")
    assert points == 3


def test_any_quantity_over_any_other(browser: Any):
    choose(browser, "x", "clustering")
    assert browser.execute_script(DRAWN) == "clustering top1 2"
    assert axis_type(browser, "xaxis") == "linear"
    left_out = browser.execute_script("return document.getElementById('left-out').textContent")
    assert left_out == "<resnet> & co."
    click(browser, "means")
    assert browser.execute_script(DRAWN) == "clustering top1 6"
    click(browser, "x-log")
    assert axis_type(browser, "xaxis") == "log"
    assert len(column(browser, "run")) == 7


def test_the_table_sorts_by_a_click(browser: Any):
    click(browser, "means")
    heading = "[...document.querySelectorAll('#figures th button')].find((one) => one.textContent === 'clustering')"
    browser.execute_script(f"{heading}.click()")
    assert column(browser, "clustering") == ["0.1", "0.1", "0.11", "0.11", "0.12", "0.12", ""]
    browser.execute_script(f"{heading}.click()")
    assert column(browser, "clustering") == ["0.12", "0.12", "0.11", "0.11", "0.1", "0.1", ""]
    sort = browser.execute_script(f"return {heading}.closest('th').getAttribute('aria-sort')")
    assert sort == "descending"


def test_dark_and_light_are_two(browser: Any):
    back = "return getComputedStyle(document.body).backgroundColor"
    before = browser.execute_script(back)
    click(browser, "theme")
    assert browser.execute_script(back) != before


def test_nothing_is_wider_than_the_screen_and_all_can_be_named(browser: Any):
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('input, select, button')].filter((one) => one.offsetParent"
        " && !one.closest('label') && !one.textContent && !one.title && !one.ariaLabel).map((one) => one.outerHTML)"
    )
    assert unnamed == []
