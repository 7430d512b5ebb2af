"""What the browser's tests of pages do alike."""

from __future__ import annotations

from typing import Any

WIDE, NARROW = (1280, 900), (390, 844)


def open_page(driver: Any, address: str, size: tuple[int, int], settled: str) -> None:
    """Open a page without a network, and wait until the script `settled` gives something.

    Args:
        size: width and height of the screen; that of a phone below a width of 600.
    """
    width, height = size
    driver.get_log("browser")
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    driver.get(address)
    wait_for(driver, settled)


def wait_for(driver: Any, script: str) -> None:
    """Wait until a script gives something."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(driver, 120).until(lambda _: driver.execute_script(script))


def complaints(driver: Any) -> list[dict[str, Any]]:
    """What the page has written on the console that somebody should look at."""
    return [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
