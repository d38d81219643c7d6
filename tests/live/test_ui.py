"""The Dagster UI in a real browser: the asset graph, a report's page with its plots, a model's page.

With CVN_UPDATE_SCREENSHOTS=1 the pictures in docs/ are taken anew.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from live.live_stack import ASSETS, CRYPTO, ROOT, LiveStack, as_options, until
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from services import QUICK

pytestmark = pytest.mark.live

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WIDTH, HEIGHT = 1600, 1000
UPDATING = os.environ.get("CVN_UPDATE_SCREENSHOTS") == "1"
PAGE_SECONDS = 60.0
GROUPS = ("market", "learning", "evaluation")
PLOTS = ("reliability diagram", "precision recall curve", "equity", "label timeline")
EVALUATION_PLOTS = (
    "screening heat map",
    "fold bars",
    "equity of the test",
    "equity rolling",
    "exit shares",
    "reliability",
)
# Two points of the grid, two folds, two steps.
DISCOVERED = {
    **QUICK,
    "CVN_DEFAULT_HISTORY_MONTHS": "5",
    "CVN_SCREENING_HORIZONS": "H4",
    "CVN_SCREENING_SL_RANGE": "1.0",
    "CVN_SCREENING_TP_RANGE": "1.5,2.0",
    "CVN_CANDIDATES": "1",
    "CVN_DEFAULT_N_FOLDS": "2",
    "CVN_BACKTEST_DAYS": "12",
    "CVN_ROLLING_STEP_DAYS": "6",
}
# A simulated market with much to learn, so that the plots show what they are for.
DOCUMENTED = {
    "CVN_MARKET": "simulated",
    "CVN_SIMULATED_SIGNAL": "2",
    "CVN_AS_OF": "2025-09-01",
    "CVN_DEFAULT_N_TRIALS": "10",
}
FLAGS = (
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

Finished = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    """A headless Chromium with a profile of its own."""
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("needs Chromium and its driver: the Debian packages chromium and chromium-driver")
    options = Options()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def reported(built: Finished, stack: LiveStack) -> str:
    """A crypto with a report; for the picture in docs/, one of the default length with more tuning."""
    if not UPDATING:
        return CRYPTO
    # A simulated market with something to learn, so that the plots show what they are for.
    market = {"CVN_MARKET": "simulated", "CVN_SIMULATED_SIGNAL": "0.6", "CVN_AS_OF": "2025-09-01"}
    finished = stack.cli("backfill", "--crypto", "ETHUSDC", "--wait", *as_options(market), seconds=280)
    assert finished.returncode == 0, finished.stdout
    return "ETHUSDC"


@pytest.fixture(scope="module")
def evaluated(stack: LiveStack) -> str:
    """A crypto that went through discovery; for the picture in docs/, one of the default length."""
    crypto, settings = ("SOLUSDC", DOCUMENTED) if UPDATING else ("XRPUSDC", DISCOVERED)
    finished = stack.cli("discovery", "--crypto", crypto, *as_options(settings), seconds=280)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return crypto


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go."""
    return ROOT / "docs" if UPDATING else tmp_path


def open_page(browser: WebDriver, stack: LiveStack, path: str, scale: float = 1.0) -> None:
    """Open a page of the UI on a screen whose picture is 1600 × 1000, with `1/scale` as much on it."""
    screen = {"width": int(WIDTH / scale), "height": int(HEIGHT / scale), "deviceScaleFactor": scale, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(f"{stack.addresses.ui_url}/server_info")
    browser.execute_script(
        "localStorage.clear();"
        "localStorage.setItem('large-screen-nav-open', 'false');"
        "localStorage.setItem('dagster-nav-collapsed', 'true')"
    )
    browser.get(f"{stack.addresses.ui_url}{path}")


def shown(browser: WebDriver, xpath: str) -> WebElement:
    """The first visible element, once there is one."""

    def visible() -> list[WebElement]:
        try:
            return [element for element in browser.find_elements(By.XPATH, xpath) if element.is_displayed()]
        except StaleElementReferenceException:
            return []  # the page is still drawing

    return until(f"{xpath} on {browser.current_url}", visible, PAGE_SECONDS)[0]


def save(browser: WebDriver, path: Path) -> None:
    """Take a screenshot once two in a row are alike: nothing moves any more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = b""

    def still() -> bool:
        nonlocal before
        last, before = before, browser.get_screenshot_as_png()
        return last == before

    until("the page stands still", still, PAGE_SECONDS, pause=0.5)
    path.write_bytes(before)


def test_the_graph_shows_every_asset(browser: WebDriver, stack: LiveStack, built: Finished, pictures: Path) -> None:
    expanded = ",".join(f"global@global:{group}" for group in GROUPS)
    open_page(browser, stack, f"/asset-groups?expanded={expanded}")
    shown(browser, f"//*[text()='{ASSETS[0]}']")
    shown(browser, "(//button[.//*[@aria-label='panel_show_right']])[last()]").click()
    canvas = shown(browser, "//*[contains(@class, 'AssetGraphExplorer_svgContainer')]")
    # A double click beside the nodes shows the whole graph; the corner is where none can lie.
    corner = (20 - int(canvas.rect["width"]) // 2, int(canvas.rect["height"]) // 2 - 20)
    ActionChains(browser).move_to_element_with_offset(canvas, *corner).double_click().perform()
    for name in (*ASSETS, *GROUPS):
        box = shown(browser, f"//*[text()='{name}']").rect
        assert 0 <= box["x"] < WIDTH and 0 <= box["y"] < HEIGHT, name
    save(browser, pictures / "asset-graph.png")


def test_a_report_shows_its_plots(browser: WebDriver, stack: LiveStack, reported: str, pictures: Path) -> None:
    open_page(browser, stack, f"/assets/test_report?view=partitions&partition={reported}", scale=WIDTH / 1840)
    for text in ("f1_buy", "baseline_f1_buy", "brier_after", "SIMULATED"):
        shown(browser, f"//td//*[text()='{text}'] | //td[text()='{text}']")
    shown(browser, "//*[text()='[Show Markdown]']").click()

    def drawn() -> dict[str, int]:
        images = browser.find_elements(By.TAG_NAME, "img")
        sizes = {image.get_attribute("alt") or "": int(image.get_property("naturalWidth") or 0) for image in images}
        return sizes if len(sizes) == len(PLOTS) and all(sizes.values()) else {}

    sizes = until("the plots are drawn", drawn, PAGE_SECONDS)
    assert tuple(sizes) == PLOTS and min(sizes.values()) > 400
    save(browser, pictures / "test-report.png")


def test_a_model_shows_what_it_is(browser: WebDriver, stack: LiveStack, built: Finished) -> None:
    open_page(browser, stack, f"/assets/model?view=partitions&partition={CRYPTO}")
    model = stack.api.latest_metadata(["model"], [CRYPTO])["model", CRYPTO]
    for text in ("version", str(model["version"]), "trees", "settings_used", "SIMULATED"):
        shown(browser, f"//*[text()='{text}']")
    open_page(browser, stack, "/assets/model")
    shown(browser, "//*[contains(text(), 'The boosted trees, as UBJSON')]")
    shown(browser, "//*[contains(text(), 'Latest check results')]")


@pytest.mark.timeout(400)
def test_an_evaluation_shows_what_a_crypto_is_worth(
    browser: WebDriver, stack: LiveStack, evaluated: str, pictures: Path
) -> None:
    open_page(browser, stack, f"/assets/evaluation?view=partitions&partition={evaluated}", scale=WIDTH / 1840)
    found = stack.api.latest_metadata(["evaluation"], [evaluated])["evaluation", evaluated]
    for text in ("SIMULATED", str(found["primary_code"]), str(found["next_command"]), "f1_buy", "baseline_f1_buy"):
        shown(browser, f"//td//*[text()='{text}'] | //td[text()='{text}']")
    shown(browser, "//td//*[contains(text(), '(SIMULATED)')]")
    for name in ("fold_table", "gate_table", "beside_baselines", "interval_table", "finding_table"):
        shown(browser, f"//td//*[text()='{name}'] | //td[text()='{name}']")
    for heading in ("gate", "reason", "test_from"):
        shown(browser, f"//th//*[text()='{heading}'] | //th[text()='{heading}'] | //*[text()='{heading}']")
    save(browser, pictures / "evaluation.png")
    shown(browser, "//*[text()='[Show Markdown]']").click()

    def drawn() -> dict[str, int]:
        images = browser.find_elements(By.TAG_NAME, "img")
        sizes = {image.get_attribute("alt") or "": int(image.get_property("naturalWidth") or 0) for image in images}
        return sizes if len(sizes) == len(EVALUATION_PLOTS) and all(sizes.values()) else {}

    sizes = until("the plots are drawn", drawn, PAGE_SECONDS)
    assert tuple(sizes) == EVALUATION_PLOTS and min(sizes.values()) > 400
    save(browser, pictures / "evaluation-plots.png")
