import math

import pytest

from cvntrade_assets.operations.guardrail_payoff import TARGETS, Judgement, Standing, judge_payoff

FINE = {
    "wasted_runs_per_month": 0.0,
    "median_seconds_to_detect": 20.0,
    "false_positive_rate": 0.01,
    "overhead": 0.005,
}


def judged(unjudged_runs: int = 0, **changes: float | None) -> dict[str, Judgement]:
    found = judge_payoff(FINE | changes, unjudged_runs)
    return {judgement.target.column: judgement for judgement in found}


def test_every_measure_stands_beside_the_designs_target():
    wanted = {target.column: target.wanted for target in TARGETS}
    assert wanted == {
        "wasted_runs_per_month": "0 a month",
        "median_seconds_to_detect": "< 1 min",
        "false_positive_rate": "< 2 %",
        "overhead": "< 1 %",
    }
    assert all(judgement.met and judgement.standing is Standing.MET for judgement in judged().values())


@pytest.mark.parametrize(
    ("column", "value", "shown", "standing"),
    [
        ("wasted_runs_per_month", 0.0, 0.0, Standing.MET),
        ("wasted_runs_per_month", 0.01, 0.01, Standing.MISSED),
        ("wasted_runs_per_month", 4.0, 4.0, Standing.MISSED),
        ("median_seconds_to_detect", 0.0, 0.0, Standing.MET),
        ("median_seconds_to_detect", 59.9, 0.9983, Standing.MET),
        ("median_seconds_to_detect", 60.0, 1.0, Standing.MISSED),
        ("median_seconds_to_detect", 21_600.0, 360.0, Standing.MISSED),
        ("false_positive_rate", 0.0, 0.0, Standing.MET),
        ("false_positive_rate", 0.0199, 1.99, Standing.MET),
        ("false_positive_rate", 0.02, 2.0, Standing.MISSED),
        ("false_positive_rate", 0.05, 5.0, Standing.MISSED),
        ("false_positive_rate", 0.051, 5.1, Standing.REVIEW),
        ("overhead", 0.0099, 0.99, Standing.MET),
        ("overhead", 0.01, 1.0, Standing.MISSED),
        ("overhead", 2.0, 200.0, Standing.MISSED),
    ],
)
def test_a_measure_is_met_missed_or_calls_for_a_review(column, value, shown, standing):
    judgement = judged(**{column: value})[column]
    assert judgement.standing is standing
    assert judgement.met is (standing is Standing.MET)
    assert judgement.value == pytest.approx(shown, rel=1e-3)
    assert f"expected {judgement.target.wanted}" in judgement.message
    assert ("need a review" in judgement.message) is (standing is Standing.REVIEW)


@pytest.mark.parametrize("column", FINE)
@pytest.mark.parametrize("nothing", [None, math.nan])
def test_what_is_unknown_is_never_met(column, nothing):
    found = judged(**{column: nothing})
    assert found[column].standing is Standing.UNKNOWN
    assert not found[column].met
    assert found[column].value is None
    assert found[column].message.startswith(f"unknown: {found[column].target.missing}. Expected ")
    assert all(other.met for name, other in found.items() if name != column)


def test_no_waste_found_is_not_no_waste_where_nobody_looked():
    found = judged(unjudged_runs=3)["wasted_runs_per_month"]
    assert (found.standing, found.value, found.met) == (Standing.UNKNOWN, None, False)
    assert "of the runs that trained, 3 were judged by no guardrail" in found.message
    wasted = judged(unjudged_runs=3, wasted_runs_per_month=2.0)["wasted_runs_per_month"]
    assert (wasted.standing, wasted.value) == (Standing.MISSED, 2.0), "what was found stays found"
    assert judged(unjudged_runs=3)["overhead"].met


def test_a_measure_that_the_view_does_not_have_is_a_mistake():
    with pytest.raises(KeyError, match="overhead"):
        judge_payoff({name: value for name, value in FINE.items() if name != "overhead"}, 0)
