"""The diagnosis: every code across its threshold, just before it and exactly on it; who is primary; the tree."""

import json
from typing import Any

import pytest
from correlation_records import HEALTHY, SOUND, by_delta, complete, gates, record, records
from hypothesis import given, settings
from hypothesis import strategies as st

from cvntrade_assets.operations.correlation_data import AnyRecord, CorrelationData, Platform
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.taxonomy import TAXONOMY, Code, Role, Severity

STEP = 1e-8


def codes(**changes: Any) -> set[str]:
    return {str(code) for code in diagnose(record(**changes)).codes}


def platform(**changes: Any) -> dict[str, Platform]:
    return {"platform": HEALTHY.model_copy(update=changes)}


def gap(screening: float, last: float) -> dict[str, float]:
    return {"screening_f1_buy": screening, "last_fold_f1_buy": last}


def exits(tp: float, sl: float, timeout: float) -> dict[str, float]:
    return {"tp_pct": tp, "sl_pct": sl, "timeout_pct": timeout}


def test_a_sound_record_is_solid_and_nothing_else() -> None:
    found = diagnose(record())
    assert found.codes == (Code.ML_SOLID,)
    assert found.unknown == ()
    assert found.severity is Severity.P3


# code, what yields it, the neighbours across the boundary, which do not
BOUNDARIES: list[tuple[Code, list[dict[str, Any]], list[dict[str, Any]]]] = [
    (Code.ML_USELESS, [by_delta(0.4 - STEP, 0.4), by_delta(0.4, 0.4), by_delta(0.1, 0.4)], [by_delta(0.4 + STEP, 0.4)]),
    (
        Code.ML_MARGINAL,
        [by_delta(0.4 + STEP, 0.4), by_delta(0.45 - STEP, 0.4), by_delta(0.45, 0.4), by_delta(0.35, 0.3)],
        [by_delta(0.4, 0.4), by_delta(0.4 - STEP, 0.4), by_delta(0.45 + STEP, 0.4)],
    ),
    (
        Code.ML_EXPLOITABLE,
        [by_delta(0.45 + STEP, 0.4), by_delta(0.5 - STEP, 0.4), by_delta(0.5, 0.4)],
        [by_delta(0.45, 0.4), by_delta(0.45 - STEP, 0.4), by_delta(0.5 + STEP, 0.4)],
    ),
    (Code.ML_SOLID, [by_delta(0.5 + STEP, 0.4), by_delta(0.9, 0.4)], [by_delta(0.5, 0.4), by_delta(0.5 - STEP, 0.4)]),
    (Code.ML_UNSTABLE, [{"std_f1_buy": 0.1 + STEP}], [{"std_f1_buy": 0.1}, {"std_f1_buy": 0.1 - STEP}]),
    (
        Code.EXECUTION_MISMATCH,
        [{"sortino": -STEP}, {"sortino": -STEP, **by_delta(0.45 + STEP, 0.4)}, {"sortino": -3.0}],
        [
            {"sortino": 0.0},
            {"sortino": STEP},
            {"sortino": -3.0, **by_delta(0.45, 0.4)},
            {"sortino": -3.0, **by_delta(0.45 - STEP, 0.4)},
        ],
    ),
    (
        Code.SL_TOO_TIGHT,
        [exits(0.3, 0.5 + STEP, 0.1)],
        [exits(0.3, 0.5, 0.1), exits(0.3, 0.5 - STEP, 0.1)],
    ),
    (
        Code.TP_TOO_AMBITIOUS,
        [exits(0.2 - STEP, 0.45, 0.3), exits(0.0, 0.45, 0.3)],
        [exits(0.2, 0.45, 0.3), exits(0.2 + STEP, 0.45, 0.3)],
    ),
    (
        Code.HORIZON_TOO_SHORT,
        [exits(0.3, 0.2, 0.4 + STEP)],
        [exits(0.3, 0.2, 0.4), exits(0.3, 0.2, 0.4 - STEP)],
    ),
    (
        Code.SCREENING_OVERFIT,
        [gap(0.8 + STEP, 0.5), gap(0.9, 0.5)],
        [gap(0.8, 0.5), gap(0.8 - STEP, 0.5), gap(0.2, 0.5), gap(0.6, 0.3), gap(0.4, 0.1)],
    ),
    (
        Code.PIPELINE_DEGRADED,
        [platform(success_rate=0.7 - STEP), platform(success_rate=0.0)],
        [platform(success_rate=0.7), platform(success_rate=0.7 + STEP), platform(success_rate=7 / 10)],
    ),
    (
        Code.INFRA_SATURATED,
        [
            platform(oom_kills=3),
            platform(pods_lost=3),
            platform(pvc_used=0.85 + STEP),
            platform(cpu_used=0.9 + STEP),
        ],
        [
            platform(oom_kills=2),
            platform(oom_kills=1),
            platform(pods_lost=2),
            platform(pods_lost=None),
            platform(pvc_used=0.85),
            platform(pvc_used=0.85 - STEP),
            platform(cpu_used=0.9),
            platform(cpu_used=0.9 - STEP),
        ],
    ),
    (
        Code.NO_CANDIDATES,
        [complete(0, {"sortino": 3}), complete(0, {}, tested=0)],
        [complete(1, {"sortino": 2}), complete(3, {}), dict.fromkeys(complete(0, {}))],
    ),
]


def test_every_code_has_its_boundary() -> None:
    assert [code for code, *_ in BOUNDARIES] != []
    assert {code for code, *_ in BOUNDARIES} == set(Code) == set(TAXONOMY)
    assert len(Code) == 13


@pytest.mark.parametrize(("code", "changes"), [(code, each) for code, yields, _ in BOUNDARIES for each in yields])
def test_what_is_beyond_the_threshold_triggers(code: Code, changes: dict[str, Any]) -> None:
    assert str(code) in codes(**changes)


@pytest.mark.parametrize(("code", "changes"), [(code, each) for code, _, spared in BOUNDARIES for each in spared])
def test_the_neighbour_does_not(code: Code, changes: dict[str, Any]) -> None:
    assert str(code) not in codes(**changes)


@pytest.mark.parametrize("limit", [0, 5, 10])
def test_noise_of_decimals_never_moves_the_boundary_of_f1(limit: int) -> None:
    """In hundredths every difference is exact; as floats 0.6 - 0.55 is under 0.05, and 0.9 - 0.85 over it."""
    at = {0: "ML_USELESS", 5: "ML_MARGINAL", 10: "ML_EXPLOITABLE"}[limit]
    for baseline in range(1, 90):
        found = codes(**by_delta((baseline + limit) / 100, baseline / 100))
        assert at in found, baseline


def test_noise_of_decimals_never_moves_the_boundary_of_the_gap() -> None:
    for last in range(0, 71):
        assert "SCREENING_OVERFIT" not in codes(**gap((last + 30) / 100, last / 100)), last
        if last < 70:
            assert "SCREENING_OVERFIT" in codes(**gap((last + 31) / 100, last / 100)), last


# who is primary

USELESS = by_delta(0.3, 0.4)
MARGINAL = by_delta(0.42, 0.4)
EXPLOITABLE = by_delta(0.48, 0.4)
NONE_PASSED = complete(0, {"sortino": 3})
OOM, FAILING = platform(oom_kills=9), platform(success_rate=0.5)
BOTH = platform(oom_kills=9, success_rate=0.5)


@pytest.mark.parametrize(
    ("changes", "primary", "secondary"),
    [
        ({}, "ML_SOLID", []),
        (EXPLOITABLE, "ML_EXPLOITABLE", []),
        (MARGINAL, "ML_MARGINAL", []),
        (MARGINAL | {"sortino": -1.0}, "ML_MARGINAL", []),
        (USELESS, "ML_USELESS", []),
        (USELESS | NONE_PASSED, "ML_USELESS", ["NO_CANDIDATES"]),
        (MARGINAL | NONE_PASSED, "NO_CANDIDATES", ["ML_MARGINAL"]),
        (NONE_PASSED | {"sortino": -1.0}, "NO_CANDIDATES", ["EXECUTION_MISMATCH", "ML_SOLID"]),
        (EXPLOITABLE | {"sortino": -1.0}, "EXECUTION_MISMATCH", ["ML_EXPLOITABLE"]),
        (
            {"sortino": -1.0} | exits(0.1, 0.8, 0.1),
            "EXECUTION_MISMATCH",
            ["SL_TOO_TIGHT", "TP_TOO_AMBITIOUS", "ML_SOLID"],
        ),
        (exits(0.1, 0.8, 0.1), "ML_SOLID", ["SL_TOO_TIGHT", "TP_TOO_AMBITIOUS"]),
        ({"std_f1_buy": 0.3} | gap(0.9, 0.5), "ML_SOLID", ["ML_UNSTABLE", "SCREENING_OVERFIT"]),
        (OOM | USELESS | NONE_PASSED, "INFRA_SATURATED", ["ML_USELESS", "NO_CANDIDATES"]),
        (FAILING | USELESS, "PIPELINE_DEGRADED", ["ML_USELESS"]),
        (BOTH | {"sortino": -1.0}, "INFRA_SATURATED", ["PIPELINE_DEGRADED", "EXECUTION_MISMATCH", "ML_SOLID"]),
    ],
)
def test_the_primary_code_and_the_others_causes_first(
    changes: dict[str, Any], primary: str, secondary: list[str]
) -> None:
    found = diagnose(record(**changes))
    assert str(found.primary.code) == primary
    assert [str(each.code) for each in found.secondary] == secondary


def test_the_severity_is_the_worst_of_all_findings() -> None:
    found = diagnose(record(**USELESS, **NONE_PASSED))
    assert (found.primary.severity, found.severity) == (Severity.P2, Severity.P1)


def test_severity_owner_and_time_limit_of_every_code() -> None:
    by_severity: dict[Severity, set[str]] = {severity: set() for severity in Severity}
    by_owner: dict[Role, set[str]] = {role: set() for role in Role}
    for code, entry in TAXONOMY.items():
        by_severity[entry.severity].add(str(code))
        by_owner[entry.owner].add(str(code))
    machines = {"INFRA_SATURATED", "PIPELINE_DEGRADED", "NO_CANDIDATES"}
    fine = {"ML_EXPLOITABLE", "ML_SOLID"}
    assert by_severity == {
        Severity.P0: {"INFRA_SATURATED"},
        Severity.P1: {"PIPELINE_DEGRADED", "NO_CANDIDATES"},
        Severity.P2: set(map(str, Code)) - machines - fine - {"ML_MARGINAL"},
        Severity.P3: {"ML_MARGINAL"} | fine,
    }
    assert by_owner == {
        Role.PLATFORM_OWNER: {"INFRA_SATURATED"},
        Role.MLOPS_MAINTAINER: {"PIPELINE_DEGRADED", "NO_CANDIDATES"},
        Role.ML_OWNER: set(map(str, Code)) - machines - fine,
        Role.OPERATOR: fine,
    }
    limits = ["at once", "within the hour", "within the day", "when there is time"]
    assert [severity.time_limit for severity in Severity] == limits


# the tree


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        (USELESS, ["ML_USELESS"]),
        (MARGINAL | {"sortino": -1.0}, ["ML_MARGINAL"]),
        (EXPLOITABLE | {"sortino": 0.5 + STEP}, ["ML_EXPLOITABLE", "over 0.5: the strategy is fine"]),
        ({"sortino": 0.5}, ["ML_SOLID", "from 0 to 0.5: not lost, and not good yet"]),
        ({"sortino": 0.0}, ["ML_SOLID", "from 0 to 0.5: not lost, and not good yet"]),
        ({"sortino": None}, ["ML_SOLID", "is unknown"]),
        (
            {"sortino": -STEP} | exits(0.1, 0.85, 0.05),
            ["ML_SOLID", "EXECUTION_MISMATCH", "SL_TOO_TIGHT", "TP_TOO_AMBITIOUS", "no"],
        ),
        (
            {"sortino": -1.0} | exits(0.3, 0.2, 0.5),
            ["ML_SOLID", "EXECUTION_MISMATCH", "no", "no", "HORIZON_TOO_SHORT"],
        ),
        (
            {"sortino": -1.0, "n_trades": 0} | dict.fromkeys(("tp_pct", "sl_pct", "timeout_pct")),
            ["ML_SOLID", "EXECUTION_MISMATCH", "unknown", "unknown", "unknown"],
        ),
    ],
)
def test_the_path_through_the_tree(changes: dict[str, Any], ends: list[str]) -> None:
    path = diagnose(record(**changes)).path
    assert len(path) == len(ends), path
    for step, end in zip(path, ends, strict=True):
        assert step.endswith(end), path


def test_a_step_shows_the_numbers() -> None:
    path = diagnose(record(**EXPLOITABLE, sortino=-0.31, **exits(0.3, 0.61, 0.09))).path
    assert path == (
        "f1_buy beside baseline_f1_buy: 0.48 beside 0.4, +8 points: ML_EXPLOITABLE",
        "sortino: -0.31, below 0: EXECUTION_MISMATCH",
        "exits: sl_pct 61 % (at most 50 %): SL_TOO_TIGHT",
        "exits: tp_pct 30 % (at least 20 %): no",
        "exits: timeout_pct 9 % (at most 40 %): no",
    )


# what cannot be judged


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"std_f1_buy": None}, ["ML_UNSTABLE: without std_f1_buy"]),
        ({"sortino": None}, ["EXECUTION_MISMATCH: without sortino"]),
        ({"sortino": None} | MARGINAL, []),
        ({"screening_f1_buy": None}, ["SCREENING_OVERFIT: without screening_f1_buy"]),
        (
            {"screening_f1_buy": None, "last_fold_f1_buy": None},
            ["SCREENING_OVERFIT: without screening_f1_buy and last_fold_f1_buy"],
        ),
        (platform(success_rate=None), ["PIPELINE_DEGRADED: without success_rate"]),
        (platform(cpu_used=None, oom_kills=None), ["INFRA_SATURATED: without oom_kills, cpu_used"]),
        # One saturated part is enough, whatever the others are.
        (platform(cpu_used=None, oom_kills=3), []),
        (
            {"platform": Platform()},
            [
                "INFRA_SATURATED: without oom_kills, pvc_used, cpu_used",
                "PIPELINE_DEGRADED: without success_rate",
            ],
        ),
        (
            {"n_trades": 0} | dict.fromkeys(("tp_pct", "sl_pct", "timeout_pct")),
            [
                "SL_TOO_TIGHT: without sl_pct",
                "TP_TOO_AMBITIOUS: without tp_pct",
                "HORIZON_TOO_SHORT: without timeout_pct",
            ],
        ),
        # A run that was not meant to be complete lacks nothing.
        (dict.fromkeys(complete(0, {})), []),
    ],
)
def test_what_is_undefined_is_neither_passed_nor_triggered(changes: dict[str, Any], unknown: list[str]) -> None:
    found = diagnose(record(**changes))
    assert list(found.unknown) == unknown
    assert not {text.split(":")[0] for text in unknown} & {str(code) for code in found.codes}


# any record


def changed(some: AnyRecord, **changes: Any) -> CorrelationData[str]:
    return CorrelationData[str].model_validate(dict(some) | changes)


@settings(deadline=None, max_examples=150)
@given(records())
def test_any_record_has_exactly_one_primary_code(some: AnyRecord) -> None:
    found = diagnose(some)
    assert len(set(found.codes)) == len(found.codes)
    by_f1 = {Code.ML_USELESS, Code.ML_MARGINAL, Code.ML_EXPLOITABLE, Code.ML_SOLID}
    assert len(by_f1 & set(found.codes)) == 1
    never_primary = {Code.ML_UNSTABLE, Code.SCREENING_OVERFIT, Code.SL_TOO_TIGHT, Code.TP_TOO_AMBITIOUS}
    assert found.primary.code not in never_primary | {Code.HORIZON_TOO_SHORT}
    assert all(each.evidence and each.next_command.startswith("cvntrade ") for each in found.findings)
    assert found == diagnose(some)
    assert json.loads(json.dumps(found.to_record(), allow_nan=False)) == found.to_record()


WORSE = {
    "sl_pct": (Code.SL_TOO_TIGHT, 1),
    "timeout_pct": (Code.HORIZON_TOO_SHORT, 1),
    "tp_pct": (Code.TP_TOO_AMBITIOUS, -1),
    "std_f1_buy": (Code.ML_UNSTABLE, 1),
    "sortino": (Code.EXECUTION_MISMATCH, -1),
    "screening_f1_buy": (Code.SCREENING_OVERFIT, 1),
    "last_fold_f1_buy": (Code.SCREENING_OVERFIT, -1),
    "f1_buy": (Code.ML_USELESS, -1),
}


@settings(deadline=None, max_examples=150)
@given(records(), st.sampled_from(sorted(WORSE)), st.floats(0, 1))
def test_what_gets_worse_never_loses_its_code(some: AnyRecord, name: str, by: float) -> None:
    code, direction = WORSE[name]
    value = getattr(some, name)
    if value is None or code not in diagnose(some).codes:
        return
    shares = ("tp_pct", "sl_pct", "timeout_pct")
    worse = value + direction * by if name == "sortino" else min(1.0, max(0.0, value + direction * by))
    # The other two shares make room.
    room = {other: 0.0 for other in shares if other != name} if name in shares else {}
    assert code in diagnose(changed(some, **room, **{name: worse})).codes


@settings(deadline=None, max_examples=100)
@given(records(), st.sampled_from(("oom_kills", "pods_lost", "pvc_used", "cpu_used", "success_rate")))
def test_a_platform_that_gets_worse_never_loses_its_code(some: AnyRecord, name: str) -> None:
    value = getattr(some.platform, name)
    more = (value or 0) + 1
    shares = {"pvc_used": 1.0, "cpu_used": 1.0, "success_rate": 0.0}
    worse = {"oom_kills": more, "pods_lost": more, **shares}[name]
    before = set(diagnose(some).codes) & {Code.INFRA_SATURATED, Code.PIPELINE_DEGRADED}
    after = diagnose(changed(some, platform=some.platform.model_copy(update={name: worse}))).codes
    assert before <= set(after)


@settings(deadline=None, max_examples=50)
@given(records(), st.sampled_from(("sortino", "std_f1_buy", "screening_f1_buy")))
def test_what_becomes_unknown_is_never_triggered(some: AnyRecord, name: str) -> None:
    code = {"sortino": Code.EXECUTION_MISMATCH, "std_f1_buy": Code.ML_UNSTABLE}.get(name, Code.SCREENING_OVERFIT)
    assert code not in diagnose(changed(some, **{name: None})).codes


def test_the_sound_record_says_everything() -> None:
    """A field that a test forgets to give would be judged on its default."""
    left_out = set(CorrelationData.model_fields) - set(SOUND)
    assert left_out == {"schema_version", "duration"}
    assert all(gate.passed for gate in gates())
