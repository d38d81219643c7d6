"""What the UI's pages ask the webserver: recorded from a real browser, then asked again without one, and timed.

A recorded request is the UI's own: operation, query and variables. Asked again it costs the webserver what somebody
who looks at the page costs it, and the machine no browser.
"""

import json
import time
from collections.abc import Iterator, Mapping
from itertools import cycle
from statistics import median
from typing import Any

from benchmarks.browser import BrowserError, open_browser
from benchmarks.scale_stack import ScaleError, ScaleStack

PAGE_SECONDS, QUIET_SECONDS = 120.0, 2.5
REPEATS = 3

Recording = Mapping[str, list[dict[str, Any]]]
"""By page, the requests that it made."""


def pages(backfill: str, run: str) -> dict[str, str]:
    """The pages that people look at, by name; an asset's are those of one with plots."""
    return {
        "asset graph": "/asset-groups",
        "runs": "/runs",
        "partitions of an asset": "/assets/test_report?view=partitions",
        "checks of an asset": "/assets/test_report?view=checks",
        "backfill": f"/runs/b/{backfill}",
        "run": f"/runs/{run}",
    }


def record(stack: ScaleStack, addresses: Mapping[str, str]) -> tuple[Recording, dict[str, float]]:
    """Open every page in a browser; returns what each asked, and the seconds until its last answer.

    Raises:
        ScaleError: there is no browser, or a page asks nothing.
    """
    asked, seconds = {}, {}
    try:
        with open_browser(performance_log=True) as browser:
            for name, path in addresses.items():
                asked[name], seconds[name] = _open(browser, f"{stack.ui_url}{path}")
                if not asked[name]:
                    raise ScaleError(f"the UI's page {path} asked the webserver nothing")
    except BrowserError as error:
        raise ScaleError(str(error)) from None
    return asked, seconds


def replay(stack: ScaleStack, recording: Recording, repeats: int = REPEATS) -> dict[str, dict[str, Any]]:
    """Ask again, one request after the other: by page the sum of medians, and the slowest operation.

    Raises:
        ScaleError: an answer is an error.
    """
    found = {}
    for page, requests in recording.items():
        took = {}
        for request in requests:
            answers = [_milliseconds(stack, request) for _ in range(repeats)]
            operation = str(request["operationName"])
            took[operation] = took.get(operation, 0.0) + median(answers)
        slowest = max(took, key=lambda name: took[name])
        found[page] = {
            "requests": len(requests),
            "ms": round(sum(took.values()), 1),
            "slowest": slowest,
            "slowest_ms": round(took[slowest], 1),
        }
    return found


class Visitor:
    """Somebody who clicks through the pages, one page a visit.

    Args:
        stack: Whose UI.
        recording: What its pages ask.
    """

    def __init__(self, stack: ScaleStack, recording: Recording) -> None:
        self._stack = stack
        self._pages: Iterator[tuple[str, list[dict[str, Any]]]] = cycle(recording.items())

    def visit(self) -> dict[str, float]:
        """Milliseconds of the next page: all its requests, one after the other."""
        page, requests = next(self._pages)
        return {page: sum(_milliseconds(self._stack, request) for request in requests)}


def _milliseconds(stack: ScaleStack, request: Mapping[str, Any]) -> float:
    began = time.perf_counter()
    answer = stack.ask(request["query"], request["variables"], request["operationName"])
    took = 1000.0 * (time.perf_counter() - began)
    if "errors" in answer:
        raise ScaleError(f"{request['operationName']}: {answer['errors'][0].get('message')}")
    return took


def _open(browser: Any, address: str) -> tuple[list[dict[str, Any]], float]:
    """Load a page; what it asked before it was quiet for a while, and the seconds until its last answer."""
    # A page of its own, so that nothing is answered from what another page has loaded.
    browser.get("about:blank")
    browser.get_log("performance")
    began, browsing = time.time(), time.monotonic()
    browser.get(address)
    asked: dict[str, dict[str, Any]] = {}
    open_requests: set[str] = set()
    last_answer, last_change = began, time.monotonic()
    while time.monotonic() - last_change < QUIET_SECONDS or open_requests:
        if time.monotonic() - browsing > PAGE_SECONDS:
            raise ScaleError(f"the page {address} still waits after {PAGE_SECONDS:.0f} s")
        time.sleep(0.1)
        for entry in browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            what, told = message["method"], message["params"]
            request = told.get("requestId", "")
            if what == "Network.requestWillBeSent" and "/graphql" in told["request"]["url"]:
                content = _request(browser, request, told["request"])
                key = json.dumps(content, sort_keys=True)
                if key in asked:
                    continue  # a page that is there asks again and again whether something has changed
                asked[key] = content
                open_requests.add(request)
                # Its clock has no epoch: both of its times say how far it is from the wall clock.
                offset = told["wallTime"] - told["timestamp"]
                last_change = time.monotonic()
            elif what in ("Network.loadingFinished", "Network.loadingFailed") and request in open_requests:
                open_requests.remove(request)
                last_answer = max(last_answer, told["timestamp"] + offset)
                last_change = time.monotonic()
    return list(asked.values()), round(last_answer - began, 2)


def _request(browser: Any, request: str, sent: Mapping[str, Any]) -> dict[str, Any]:
    body = sent.get("postData")
    if body is None:
        body = browser.execute_cdp_cmd("Network.getRequestPostData", {"requestId": request})["postData"]
    content: dict[str, Any] = json.loads(body)
    return {name: content.get(name) for name in ("operationName", "query", "variables")}
