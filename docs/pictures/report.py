"""Take the pictures of a run's page that the documentation shows, in a browser without a window.

    python docs/pictures/report.py checkpoints/quickstart/report.html [--out docs/pictures]

Writes report.png (as on a desk, light) and report_phone.png (as on a phone, dark). Needs chromium, its driver and the
package selenium, as the page's tests do.
"""

from __future__ import annotations

import argparse
import shutil
import time
from io import BytesIO
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

CHOOSE = """
const {wiring} = page, {part, state} = wiring, group = Math.floor(part.groups.length / 2);
const inside = [...part.bySlot.slice(part.first[group], part.first[group + 1])];
const nodes = inside.filter((node) => part.lives(node, state));
wiring.choose(nodes[Math.floor(nodes.length * 0.2)]);
"""
SHOTS = {"report": (1180, 1050, False, 0), "report_phone": (390, 844, True, "#wiring")}
"""Width and height in pixels, whether dark, and what the picture begins with."""


def shoot(page: Path, width: int, height: int, dark: bool, top: str | int) -> Image.Image:
    """A picture of the page with a node chosen."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "google-chrome"
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get(page.resolve().as_uri())
        drawn = "return document.documentElement.dataset.charts && document.getElementById('edges').dataset.drawn"
        WebDriverWait(driver, 60).until(lambda _: driver.execute_script(drawn))
        driver.execute_script(CHOOSE)
        if top:
            driver.execute_script("document.querySelector(arguments[0]).scrollIntoView()", top)
        time.sleep(1)
        return Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    finally:
        driver.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", type=Path, help="report.html of a run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    for name, shot in SHOTS.items():
        path = args.out / f"{name}.png"
        shoot(args.page, *shot).quantize(160, method=Image.Quantize.MEDIANCUT, kmeans=2).save(path, optimize=True)
        print(f"written to {path} ({path.stat().st_size // 1024} KiB)")


if __name__ == "__main__":
    main()
