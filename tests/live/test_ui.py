"""The Dagster UI in a real browser: the asset graph, a report's page with its plots, a model's page.

With CVN_UPDATE_SCREENSHOTS=1 the pictures in docs/ are taken anew.
"""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from live.live_stack import ASSETS, CRYPTO, ROOT, LiveStack, as_options
from live.shared_discovery import FINE
from polling import until
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from benchmarks.browser import HEIGHT, WIDTH, BrowserError, open_browser
from cvntrade_assets.definitions import build_defs

pytestmark = pytest.mark.live

UPDATING = os.environ.get("CVN_UPDATE_SCREENSHOTS") == "1"
PAGE_SECONDS = 60.0
# From top to bottom with low nodes, the graph is compact enough for its names to be read.
GRAPH_LOOK = {"asset-graph-direction": "vertical", "asset-node-facets": ["status", "checks"]}
GRAPH_SCALE = 0.8
GRAPH = "//*[contains(@class, 'AssetGraphExplorer_svgContainer')]"
CANVAS = "[data-svg-viewport]"
# The bar with the search field lies over the upper end of the canvas.
TOOLBAR = 57
# What stands in the graph, in the window's coordinates: texts with their boxes, and the part that nothing covers.
DRAWN = """
const box = element => {
  const {left, top, right, bottom} = element.getBoundingClientRect();
  return [left, top, right, bottom];
};
const every = (selector, read) => [...document.querySelectorAll(selector)].map(read);
const [left, top, right, bottom] = box(arguments[0]);
return {
  groups: every("foreignObject.group", group => [group.querySelector("[data-tooltip]").textContent, box(group)]),
  labels: every("[class*='AssetNode_assetName']", label => [label.textContent, box(label)]),
  visible: [left, top + arguments[1], right, bottom],
};
"""
PLOTS = ("reliability diagram", "precision recall curve", "equity", "label timeline")
EVALUATION_PLOTS = (
    "screening heat map",
    "fold bars",
    "equity of the test",
    "equity rolling",
    "exit shares",
    "reliability",
)
# A simulated market with much to learn, so that the plots show what they are for.
DOCUMENTED = {
    "CVN_MARKET": "simulated",
    "CVN_SIMULATED_SIGNAL": "2",
    "CVN_AS_OF": "2025-09-01",
    "CVN_DEFAULT_N_TRIALS": "10",
}
Finished = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[WebDriver]:
    """A headless Chromium with a profile of its own."""
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(open_browser())
        except BrowserError as error:
            pytest.skip(str(error))
        yield opened


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
def evaluated(stack: LiveStack, discovered: Finished) -> str:
    """A crypto that went through discovery; for the picture in docs/, one of the default length."""
    if not UPDATING:
        return FINE
    for key, text in {**DOCUMENTED, "CVN_DEFAULT_N_TRIALS": "50"}.items():
        stack.cli("settings", "set", key, text, "--reason", "the pictures are of this market")
    finished = stack.cli("discovery", "--crypto", "SOLUSDC", *as_options(DOCUMENTED), seconds=280)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return "SOLUSDC"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go."""
    return ROOT / "docs" if UPDATING else tmp_path


def set_screen(browser: WebDriver, scale: float, height: int) -> None:
    """A screen whose picture is 1600 wide and shows `1/scale` as much; its height is in the page's own pixels."""
    screen = {"width": int(WIDTH / scale), "height": height, "deviceScaleFactor": scale, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def open_page(
    browser: WebDriver, stack: LiveStack, path: str, scale: float = 1.0, remembered: Mapping[str, object] = {}
) -> None:
    """Open a page of the UI on a screen whose picture is 1600 × 1000, with `1/scale` as much on it.

    What is `remembered` are choices of the UI's user beside those that every page gets.
    """
    set_screen(browser, scale, int(HEIGHT / scale))
    browser.get(f"{stack.addresses.ui_url}/server_info")
    browser.execute_script(
        "localStorage.clear();"
        "for (const [key, value] of Object.entries(arguments[0])) localStorage.setItem(key, JSON.stringify(value))",
        {"large-screen-nav-open": False, "dagster-nav-collapsed": True, **remembered},
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


def open_graph(browser: WebDriver, stack: LiveStack, groups: Iterable[str]) -> None:
    """The whole asset graph with these groups expanded, on a screen that is just high enough for all of it.

    Dagster fits a graph's width to the screen and draws nothing of what then lies above or below it.
    """
    open_page(
        browser,
        stack,
        f"/asset-groups?expanded={','.join(f'global@global:{group}' for group in groups)}",
        scale=GRAPH_SCALE,
        remembered=GRAPH_LOOK,
    )
    graph = shown(browser, GRAPH)
    shown(browser, "(//button[.//*[@aria-label='panel_show_right']])[last()]").click()
    canvas = browser.find_element(By.CSS_SELECTOR, CANVAS)
    shape = float(graph.get_attribute("height") or 0) / float(graph.get_attribute("width") or 1)

    def fitted() -> bool:
        """Whether the graph is as wide as its canvas and not higher; a double click fits it anew."""
        area, drawn = canvas.rect, graph.rect
        if abs(drawn["width"] - area["width"]) < 1 and drawn["height"] <= area["height"] - TOOLBAR:
            return True
        set_screen(browser, GRAPH_SCALE, int(area["y"] + 2 * TOOLBAR + area["width"] * shape))
        # At the canvas itself: wherever the pointer were, a node or a group could lie, and would be zoomed in on.
        browser.execute_script("arguments[0].dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))", canvas)
        return False

    until("the graph fits its canvas", fitted, PAGE_SECONDS, pause=1.0)


def is_label_of(label: str, name: str) -> bool:
    """Whether a node's label is this name, which Dagster shortens in its middle when it is long."""
    head, dots, tail = label.partition("…")
    return label == name if not dots else name.startswith(head) and name.endswith(tail)


def is_inside(inner: Sequence[float], outer: Sequence[float]) -> bool:
    """Whether a box (left, top, right, bottom) lies within another."""
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def shows_plots(browser: WebDriver, names: tuple[str, ...]) -> None:
    """These pictures and no others are drawn, in this order, and large enough to be read."""

    def drawn() -> dict[str, int]:
        images = browser.find_elements(By.TAG_NAME, "img")
        sizes = {str(image.get_attribute("alt")): int(str(image.get_property("naturalWidth") or 0)) for image in images}
        return sizes if len(sizes) == len(names) and all(sizes.values()) else {}

    sizes = until("the plots are drawn", drawn, PAGE_SECONDS)
    assert tuple(sizes) == names and min(sizes.values()) > 400


def test_the_graph_shows_every_asset(browser: WebDriver, stack: LiveStack, built: Finished, pictures: Path) -> None:
    """Each stands with its name in the box of its group, and nothing lies outside the picture."""
    group_of = {spec.key.path[-1]: spec.group_name or "" for spec in build_defs().resolve_all_asset_specs()}
    assert set(ASSETS) < set(group_of)
    open_graph(browser, stack, sorted(set(group_of.values())))
    save(browser, pictures / "asset-graph.png")

    drawn = browser.execute_script(DRAWN, browser.find_element(By.CSS_SELECTOR, CANVAS), TOOLBAR)
    boxes = {title: box for title, box in drawn["groups"] if is_inside(box, drawn["visible"])}
    assert set(boxes) == set(group_of.values())
    for name, group in group_of.items():
        labels = [box for label, box in drawn["labels"] if is_label_of(label, name)]
        assert [box for box in labels if is_inside(box, boxes[group])], f"{name} in {group}: {drawn}"
    assert len(drawn["labels"]) == len(group_of)


def test_a_report_shows_its_plots(browser: WebDriver, stack: LiveStack, reported: str, pictures: Path) -> None:
    open_page(browser, stack, f"/assets/test_report?view=partitions&partition={reported}", scale=WIDTH / 1840)
    for text in ("f1_buy", "baseline_f1_buy", "brier_after", "SIMULATED"):
        shown(browser, f"//td//*[text()='{text}'] | //td[text()='{text}']")
    shown(browser, "//*[text()='[Show Markdown]']").click()

    shows_plots(browser, PLOTS)
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

    shows_plots(browser, EVALUATION_PLOTS)
    save(browser, pictures / "evaluation-plots.png")


def test_the_checks_of_signals_say_how_a_crypto_stands(
    browser: WebDriver, stack: LiveStack, evaluated: str, pictures: Path
) -> None:
    if UPDATING:
        # A look at the market of the discovery: the sensor takes one every five minutes.
        looked = "select 1 from global_states where market = 'simulated'"
        until("the signals are of the simulated market", lambda: stack.sql("cvntrade", looked), 400)
    run = stack.launch(["golden_signals"], evaluated, {}, job="__ASSET_JOB")
    assert stack.wait_for(run) == "SUCCESS"
    open_page(browser, stack, "/assets/golden_signals?view=checks&checkDetail=f1_buy_delta_vs_baseline")
    for name in ("candle_freshness", "model_overdue", "sortino", "drift"):
        shown(browser, f"//*[text()='{name}']")
    # Which crypto's verdicts the page shows first is that of the sensor's newest look.
    assert ("golden_signals", evaluated) in stack.api.latest_metadata(["golden_signals"], [evaluated])
    save(browser, pictures / "signal-checks.png")


def test_the_morning_report_is_a_page(browser: WebDriver, stack: LiveStack, built: Finished, pictures: Path) -> None:
    run = stack.launch(["morning_report"], None, {}, job="refresh_morning_report")
    assert stack.wait_for(run) == "SUCCESS"
    open_page(browser, stack, "/assets/morning_report")
    shown(browser, "//*[text()='[Show Markdown]']").click()
    for heading in ("Platform", "Freshness", "Alerts", "What to do next"):
        shown(browser, f"//h2[contains(text(), '{heading}')] | //h3[contains(text(), '{heading}')]")
    first = shown(browser, "//h2[contains(text(), 'Platform')]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", first)
    save(browser, pictures / "morning-report.png")
