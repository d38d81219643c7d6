"""Guardrail report: whether the guardrails pay, from the record of the last sessions."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from cvntrade_assets.operations.guardrail_payoff import SESSIONS, TARGETS, Judgement, judge_payoff
from resources.guardrail_log import last_sessions, payoff

_ASSET = "guardrail_report"
_COUNTS = ("sessions", "runs", "trained_runs", "unjudged_runs", "wasted_runs", "blocks", "false_positives")
_SECONDS = ("run_seconds", "guardrail_seconds")
_HEADINGS = ("session", "started", "runs", "run seconds", "blocks", "flags", "overrides", "guardrail seconds")


# Dagster recognises the bare class only, once an asset judges itself.
@dg.asset(
    name=_ASSET,
    code_version="1",
    group_name="operations",
    owners=["team:mlops-maintainer"],
    kinds={"postgres"},
    required_resource_keys={"warehouse"},
    check_specs=[
        dg.AssetCheckSpec(target.name, asset=_ASSET, description=f"{target.meaning}: {target.wanted}")
        for target in TARGETS
    ],
)
def guardrail_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Did the guardrails pay: wasted runs, time to detect, false positives and overhead over the last ten sessions.

    Each measure stands beside its target. A measure without data is unknown, and unknown is not met.
    """
    measures = payoff(context.resources.warehouse)
    judgements = judge_payoff(measures, measures["unjudged_runs"] or 0)
    sessions = last_sessions(context.resources.warehouse, SESSIONS)
    return dg.MaterializeResult(metadata=_shown(measures, judgements, sessions), check_results=_results(judgements))


def _results(judgements: Sequence[Judgement]) -> list[dg.AssetCheckResult]:
    return [
        dg.AssetCheckResult(
            check_name=judgement.target.name,
            passed=judgement.met,
            severity=dg.AssetCheckSeverity.WARN,
            description=judgement.message,
            metadata={
                "standing": str(judgement.standing),
                "target": judgement.target.wanted,
                **({} if judgement.value is None else {"value": judgement.value}),
            },
        )
        for judgement in judgements
    ]


def _shown(
    measures: Mapping[str, Any], judgements: Sequence[Judgement], sessions: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Numbers that are known as numbers, which the UI plots over time; those that are not say so in the tables."""
    known = {name: measures[name] for name in (*_COUNTS, *_SECONDS) if measures[name] is not None}
    known |= {item.target.column: measures[item.target.column] for item in judgements if item.value is not None}
    return {
        **known,
        "measures": dg.MetadataValue.md(_measures_table(judgements)),
        "last_sessions": dg.MetadataValue.md(_sessions_table(sessions)),
    }


def _measures_table(judgements: Sequence[Judgement]) -> str:
    rows = [
        (item.target.meaning, _number(item.value, item.target.unit), item.target.wanted, str(item.standing))
        for item in judgements
    ]
    return _table(("measure", "value", "target", "standing"), rows)


def _sessions_table(sessions: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            str(session["session"]),
            f"{session['started_at']:%Y-%m-%d %H:%M}" if session["started_at"] else "unknown",
            *(_number(session[name]) for name in ("runs", "run_seconds", "blocks", "flags", "overrides")),
            _number(session["guardrail_seconds"]),
        )
        for session in sessions
    ]
    return _table(_HEADINGS, rows) if rows else "No session is on record yet."


def _number(value: float | None, unit: str = "") -> str:
    return "unknown" if value is None else f"{value:.4g} {unit}".strip()


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
