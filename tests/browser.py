"""Chromium without a screen, and what a report has to hold to in it."""

import contextlib
import json
import shutil
import tempfile

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars",
)  # fmt: skip
SECTIONS = ["figures", "curves", "confusion", "classes", "mistakes", "calibration", "unknown",
            "data", "run"]  # fmt: skip

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium: apt-get install chromium chromium-driver"
)


@contextlib.contextmanager
def opened(path, width):
    """Give a browser, so many pixels wide, with a file open."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, Service(DRIVER))
        try:
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
            )
            driver.get(path.as_uri())
            yield driver
        finally:
            driver.quit()


def check_report(path, width):
    """Assert that every section of a report is there, fits, sorts, zooms and asks for nothing."""
    with opened(path, width) as driver:
        run = driver.execute_script
        assert run("return innerWidth") == width
        assert run("return document.documentElement.scrollWidth") == width
        outside = """
            const scrolls = e => e && (e.matches(".scroll") || scrolls(e.parentElement));
            return [...document.querySelectorAll("main *")].filter(e => {
                const box = e.getBoundingClientRect();
                return (box.right > innerWidth + 1 || box.left < -1) && !scrolls(e);
            }).map(e => e.outerHTML.slice(0, 80))"""
        assert run(outside) == []

        heights = (
            "return [...document.querySelectorAll('section')].map(e => [e.id, e.clientHeight])"
        )
        heights = dict(run(heights))
        assert list(heights) == SECTIONS
        assert min(heights.values()) > 50
        drawn = run("return [...document.images].map(e => e.complete && e.naturalWidth)")
        assert len(drawn) > 4
        assert all(drawn)
        assert run("return document.querySelectorAll('.map rect').length") > 3

        column = """
            document.querySelectorAll("#per-class th button")[arguments[0]].click();
            return [...document.querySelectorAll("#per-class tbody tr")]
                .map(row => row.cells[arguments[0]].dataset.value)"""
        for number in (1, 4):
            rising = [*map(float, run(column, number))]
            falling = [*map(float, run(column, number))]
            assert rising == sorted(rising)
            assert falling == sorted(falling, reverse=True)
        names = run(column, 0)
        assert names == sorted(names, key=str.casefold)

        side = "return document.querySelector('.map svg').clientWidth"
        zoom = f"document.querySelector(`[data-zoom='${{arguments[0]}}']`).click(); {side}"
        before = run(side)
        larger = [run(zoom, "1.5") for _ in range(2)]
        assert larger == pytest.approx([1.5 * before, 2.25 * before], abs=2)
        for _ in range(4):
            smaller = run(zoom, "0.6667")
        assert smaller == pytest.approx(before, abs=2)

        entries = driver.get_log("performance")
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        asked = {
            message["params"]["request"]["url"].split(":")[0]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
            and message["params"]["documentURL"].startswith("file:")  # not the browser's own page
        }
        assert asked == {"file", "data"}
        assert driver.get_log("browser") == []
