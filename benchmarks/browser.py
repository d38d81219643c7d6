"""A headless Chromium on the Dagster UI, for benchmarks and for tests."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver

WIDTH, HEIGHT = 1600, 1000
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--window-size={WIDTH},{HEIGHT}",
)


class BrowserError(RuntimeError):
    """There is no browser; the message says what to install."""


@contextmanager
def open_browser(*, performance_log: bool = False) -> Iterator[WebDriver]:
    """Chromium with a profile of its own, which is removed at the end.

    Args:
        performance_log: Whether `get_log("performance")` tells what its pages ask.

    Raises:
        BrowserError: Chromium or its driver is not installed.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        raise BrowserError("needs Chromium and its driver: the Debian packages chromium and chromium-driver")
    # Chromium's helpers may still write to the profile when it has ended.
    with tempfile.TemporaryDirectory(prefix="cvntrade-browser-", ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = program
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        if performance_log:
            options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield browser
        finally:
            browser.quit()
