"""One look: every signal of every subject, from facts."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from cvntrade_assets.operations import crypto_signals as of_crypto
from cvntrade_assets.operations import freshness
from cvntrade_assets.operations import platform_signals as of_platform
from cvntrade_assets.operations.facts import TROUBLES, CryptoFacts, Facts
from cvntrade_assets.operations.limits import unknown
from cvntrade_assets.operations.signals import PLATFORM, Observation
from cvntrade_assets.settings import Settings

# The groups of facts that a signal is made of.
_MADE_OF: Mapping[str, str] = {
    "infra_health": "infra",
    "pass_rate": "sessions",
    "barren_days": "sessions",
    "useful_run_age": "useful",
    "challenger_count": "challengers",
    "candle_freshness": "candles",
    "model_freshness": "models",
    "model_overdue": "models",
    "drift": "drift",
    **dict.fromkeys(of_crypto.PLAYBOOKS, "evaluations"),
}


def observe(facts: Facts, settings: Settings) -> tuple[Observation, ...]:
    """Every signal of every subject, each once: of the platform, of every job with a run that ended, of every crypto.

    What could not be gathered leaves its signals unknown, with the reason. Of jobs that cannot be asked there are no
    names and so no observations, which the global state tells.

    Raises:
        ValueError: what could not be gathered is called something that there is not.
    """
    _check_troubles(facts)
    return (
        *_of_platform(facts, settings),
        *_of_jobs(facts, settings),
        *(found for crypto in facts.cryptos.values() for found in _of_crypto(crypto, facts, settings)),
    )


def _of_platform(facts: Facts, settings: Settings) -> Iterator[Observation]:
    now, useful = facts.now, facts.last_useful_at
    any_run = bool(facts.sessions) or "sessions" in facts.trouble
    looks: Mapping[str, Callable[[], Observation]] = {
        "infra_health": partial(of_platform.infra_health, facts.infra, now, settings),
        "pass_rate": partial(of_platform.pass_rate, facts.sessions, now, settings),
        "barren_days": partial(of_platform.barren_days, facts.sessions, now, settings),
        "useful_run_age": partial(of_platform.useful_run_age, useful, now, settings, any_run=any_run),
        "challenger_count": partial(of_platform.challenger_count, facts.pending_challengers, now, settings),
    }
    return _looked(looks, PLATFORM, facts)


def _of_jobs(facts: Facts, settings: Settings) -> Iterator[Observation]:
    if "jobs" in facts.trouble:
        return
    for job in facts.jobs:
        # A job whose first run goes on has no rate yet, and is not sick for that.
        if job.succeeded + job.failed:
            yield of_platform.pipeline_success_rate(job, facts.now, settings)
            yield of_platform.pipeline_latency(job, facts.now, settings)


def _of_crypto(crypto: CryptoFacts, facts: Facts, settings: Settings) -> Iterator[Observation]:
    now, as_of = facts.now, facts.as_of
    looks: Mapping[str, Callable[[], Observation]] = {
        "f1_buy_delta_vs_baseline": partial(of_crypto.f1_buy_delta_vs_baseline, crypto, now, settings),
        "screening_testing_gap": partial(of_crypto.screening_testing_gap, crypto, now, settings),
        "std_f1_buy": partial(of_crypto.std_f1_buy, crypto, now, settings),
        "sortino": partial(of_crypto.sortino, crypto, now, settings),
        "sl_pct": partial(of_crypto.sl_pct, crypto, now, settings),
        "timeout_pct": partial(of_crypto.timeout_pct, crypto, now, settings),
        "model_freshness": partial(freshness.model_freshness, crypto, as_of, now, settings),
        "candle_freshness": partial(freshness.candle_freshness, crypto, as_of, now, settings),
        "model_overdue": partial(freshness.model_overdue, crypto, as_of, now, settings),
        "negative_sortino_runs": partial(of_crypto.negative_sortino_runs, crypto, now, settings),
        "drift": partial(of_crypto.drift, crypto, now, settings),
    }
    return _looked(looks, crypto.crypto, facts)


def _looked(looks: Mapping[str, Callable[[], Observation]], subject: str, facts: Facts) -> Iterator[Observation]:
    for signal, look in looks.items():
        group = _MADE_OF[signal]
        why = facts.trouble.get(group) or facts.trouble.get(f"{group}/{subject}")
        yield look() if why is None else unknown(signal, subject, why, facts.now)


def _check_troubles(facts: Facts) -> None:
    """A trouble under another name would be one that nobody hears of."""
    for key in facts.trouble:
        group, _, crypto = key.partition("/")
        if group not in TROUBLES or (crypto and crypto not in facts.cryptos):
            raise ValueError(
                f"{key!r} is no group of facts; there are {', '.join(TROUBLES)}, each alone or with a crypto"
            )
