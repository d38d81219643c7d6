"""Polite HTTP: GET requests that keep to the exchange's limits, with a bounded number of attempts.

The rules are the exchange's: 429 means wait as long as told, 418 means banned and every further call makes it
longer, 403 is the firewall, 5xx is its own trouble. What is worth another attempt later says so in
`transient`; the rest stops every retry layer.
"""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx
import pandas as pd

WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
WEIGHT_LIMIT = 6000
_BAN_RANGE = "bans last 2 minutes to 3 days"
SHORTEST_BAN = pd.Timedelta(minutes=2)


class MarketError(Exception):
    """The market could not be read.

    Attributes:
        transient: Whether the same request may well succeed later.
    """

    transient = False


class ExchangeUnavailable(MarketError):
    """The exchange answered 5xx, or not at all, on every attempt."""

    transient = True


class ExchangeBusy(MarketError):
    """The exchange said 429 more often, or for longer, than is waited for."""

    transient = True


class ExchangeBanned(MarketError):
    """The exchange banned this address (418).

    Attributes:
        release: When the ban ends, UTC; None when the exchange did not tell.
    """

    def __init__(self, message: str, release: pd.Timestamp | None) -> None:
        self.release = release
        super().__init__(message)


class ExchangeRefused(MarketError):
    """The exchange will not answer this request, however often it is made.

    Attributes:
        code: The exchange's own error code, such as -1121; None when it gave none.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        self.code = code
        super().__init__(message)


class BadExchangeAnswer(MarketError):
    """The exchange, or what stands in for it, answered 200 with what is not the documented answer."""


@dataclass(frozen=True)
class Patience:
    """How long a request is worth waiting for.

    Attributes:
        attempts: Attempts at one request that fails with 5xx or without an answer.
        first_backoff: Seconds; the upper end of the random wait before the second attempt, doubled each time.
        longest_backoff: Seconds; where the doubling ends.
        waits: How many times a 429 is waited out for one request.
        longest_wait: Seconds; the most that is waited for 429 answers to one request in all.
        untold_wait: Seconds; the wait for a 429 that does not tell one: the exchange's limits are per minute.
        slow_weight: Used weight of the minute at which the next request waits for the next minute.
        timeout: Seconds; for connecting, and between two pieces of an answer.
    """

    attempts: int = 5
    first_backoff: float = 1.0
    longest_backoff: float = 30.0
    waits: int = 5
    longest_wait: float = 600.0
    untold_wait: float = 60.0
    slow_weight: int = WEIGHT_LIMIT * 4 // 5
    timeout: float = 30.0


def wall_clock() -> pd.Timestamp:
    """The time by this machine's clock, UTC. Waits and bans run by it, whatever `now` a replay is set to."""
    return pd.Timestamp.now("UTC")


@dataclass(frozen=True)
class Surroundings:
    """What the requests depend on beside the exchange, so that tests can play it.

    Attributes:
        sleep: Waits so many seconds.
        now: The wall clock.
        rng: Source of the jitter.
        transport: Makes what carries the requests of one fetch; None for the network.
    """

    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], pd.Timestamp] = wall_clock
    rng: random.Random = field(default_factory=random.Random)
    transport: Callable[[], httpx.BaseTransport] | None = None


@dataclass(frozen=True)
class Answer:
    """A 200 answer, or a 404 where that was allowed.

    Attributes:
        status: 200 or 404.
        body: At most one byte more than was asked for: longer means cut off.
        headers: As sent, names in any case.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]


class PoliteClient:
    """GET requests below one base URL; use it as a context manager."""

    def __init__(self, base_url: str, user_agent: str, patience: Patience, around: Surroundings) -> None:
        self.base_url = base_url.rstrip("/")
        self.requests = 0
        self._user_agent = user_agent
        self._patience = patience
        self._around = around
        self._client: httpx.Client | None = None
        self._full_until: pd.Timestamp | None = None

    def __enter__(self) -> Self:
        """Nothing is opened before the first request."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def get(
        self,
        path: str,
        *,
        max_bytes: int,
        params: Mapping[str, str | int] | None = None,
        missing_ok: bool = False,
    ) -> Answer:
        """The answer to one request, after as many attempts and waits as `Patience` allows.

        Raises:
            ExchangeUnavailable: 5xx or no answer on every attempt.
            ExchangeBusy: 429 too often or for too long.
            ExchangeBanned: 418.
            ExchangeRefused: 403, a redirect or any other 4xx; 404 unless `missing_ok`.
        """
        attempts, waits, waited = 0, 0, 0.0
        while True:
            self._wait_for_weight()
            answer = self._send(path, params or {}, max_bytes)
            if isinstance(answer, Answer) and (answer.status == 200 or (answer.status == 404 and missing_ok)):
                return answer
            if isinstance(answer, Answer) and answer.status == 429:
                seconds = _retry_after(answer)
                seconds = self._patience.untold_wait if seconds is None else seconds
                waits, waited = waits + 1, waited + seconds
                self._check_waits(path, waits, waited, seconds)
                self._around.sleep(seconds)
                continue
            attempts += 1
            self._check_attempts(path, answer, attempts)
            self._around.sleep(self._backoff(attempts))

    def _send(self, path: str, params: Mapping[str, str | int], max_bytes: int) -> Answer | httpx.RequestError:
        self.requests += 1
        try:
            with self._opened().stream("GET", f"{self.base_url}/{path}", params=dict(params)) as response:
                answer = Answer(response.status_code, _bounded_body(response, max_bytes), response.headers)
        except httpx.RequestError as error:
            return error
        self._note_weight(answer)
        return answer

    def _opened(self) -> httpx.Client:
        if self._client is None:
            self._client = httpx.Client(
                headers={"User-Agent": self._user_agent},
                timeout=self._patience.timeout,
                transport=self._around.transport() if self._around.transport else None,
                follow_redirects=False,
            )
        return self._client

    def _note_weight(self, answer: Answer) -> None:
        used = answer.headers.get(WEIGHT_HEADER, "")
        if used.isdigit() and int(used) >= self._patience.slow_weight:
            self._full_until = self._around.now().floor("min") + pd.Timedelta(minutes=1)

    def _wait_for_weight(self) -> None:
        if self._full_until is None:
            return
        seconds = (self._full_until - self._around.now()).total_seconds()
        self._full_until = None
        if seconds > 0:
            self._around.sleep(seconds)

    def _check_waits(self, path: str, waits: int, waited: float, seconds: float) -> None:
        if waits > self._patience.waits or waited > self._patience.longest_wait:
            raise ExchangeBusy(
                f"{self.base_url}/{path}: 429 {waits} times, the last asking to wait {seconds:g} s; one "
                f"request is worth {self._patience.waits} waits and {self._patience.longest_wait:g} s at "
                "most. Run it again later, or fewer at a time: the limit is per network address"
            )

    def _check_attempts(self, path: str, answer: Answer | httpx.RequestError, attempts: int) -> None:
        if isinstance(answer, Answer) and answer.status < 500:
            raise self._refusal(path, answer)
        if attempts >= self._patience.attempts:
            trouble = f"{answer.status}" if isinstance(answer, Answer) else f"{type(answer).__name__}: {answer}"
            raise ExchangeUnavailable(
                f"{self.base_url}/{path}: {trouble} on each of {attempts} attempts. Check the connection and "
                "the address, or run it again later"
            )

    def _refusal(self, path: str, answer: Answer) -> MarketError:
        where = f"{self.base_url}/{path}"
        if answer.status == 418:
            return _ban(where, _retry_after(answer), self._around.now())
        if answer.status == 403:
            return ExchangeRefused(
                f"{where}: 403, the exchange's firewall refuses this address or request. Some countries and "
                "hosting networks are refused: set the base URL to a host that answers from here"
            )
        if 300 <= answer.status < 400:
            target = answer.headers.get("Location", "an unnamed place")
            return ExchangeRefused(f"{where}: {answer.status}, moved to {target}. Set the base URL to the new place")
        code, message = _exchange_error(answer.body)
        told = message if code is None else f"exchange error {code}: {message}"
        return ExchangeRefused(f"{where}: {answer.status}, {told}", code)

    def _backoff(self, attempts: int) -> float:
        """Exponential back-off with full jitter: many clients failing together must not return together."""
        longest = min(self._patience.longest_backoff, self._patience.first_backoff * 2 ** (attempts - 1))
        return self._around.rng.uniform(0, longest)


def _ban(where: str, seconds: float | None, now: pd.Timestamp) -> ExchangeBanned:
    if seconds is None:
        return ExchangeBanned(f"{where}: 418, banned, release time not told ({_BAN_RANGE}); do not call before", None)
    return banned(where, (now + pd.Timedelta(seconds=seconds)).tz_convert("UTC").ceil("s"))


def banned(where: str, release: pd.Timestamp) -> ExchangeBanned:
    """The refusal of a ban whose end is known, whether it was met just now or earlier."""
    return ExchangeBanned(
        f"{where}: 418, this network address is banned until {release:%Y-%m-%d %H:%M:%S} UTC. Stop whatever "
        "calls the exchange from here until then: each call makes the ban longer",
        release,
    )


def _retry_after(answer: Answer) -> float | None:
    told = answer.headers.get("Retry-After", "").strip()
    return float(told) if told.isdigit() else None


def _exchange_error(body: bytes) -> tuple[int | None, str]:
    try:
        error = json.loads(body)
    except (ValueError, RecursionError):
        error = None
    if isinstance(error, dict) and isinstance(error.get("code"), int):
        return error["code"], str(error.get("msg", "no message"))
    return None, f"body {body[:80]!r}" if body else "empty body"


def _bounded_body(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes(64 * 1024):
        body += piece
        if len(body) > max_bytes:
            break
    return bytes(body[: max_bytes + 1])
