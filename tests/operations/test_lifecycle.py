"""The states of a registered model: every change that exists, and why each other one is refused."""

from itertools import product

import pytest

from cvntrade_assets.operations.lifecycle import PIPELINE, TRADING, TRANSITIONS, ModelState, Standing, refusal
from cvntrade_assets.operations.taxonomy import Role

CANDIDATE, CHALLENGER, CHAMPION, QUARANTINED, ARCHIVED = ModelState
ROLES = (*Role, PIPELINE)


def standing(state: ModelState, market: str = "binance", was_champion: bool = True, passed: bool = True) -> Standing:
    return Standing("BTCUSDC model 3", state, market, was_champion, passed)


@pytest.mark.parametrize(("before", "after", "role"), list(product(ModelState, ModelState, ROLES)))
def test_what_the_table_allows_is_allowed_and_nothing_else(before, after, role):
    said = refusal(standing(before), after, role)
    assert (said is None) == (role in TRANSITIONS.get((before, after), frozenset()))
    if said is not None:
        assert said.startswith(f"BTCUSDC model 3 cannot go from {before} to {after}")


def test_a_refusal_says_what_is_possible():
    assert "From candidate it can become archived, challenger." in str(
        refusal(standing(CANDIDATE), CHAMPION, Role.MLOPS_MAINTAINER)
    )
    assert str(refusal(standing(CHALLENGER), CHAMPION, Role.OPERATOR)).endswith(
        "in the role operator: expected MLOps maintainer."
    )


@pytest.mark.parametrize(("before", "role"), list(product(ModelState, ROLES)))
def test_nothing_that_was_simulated_ever_trades(before, role):
    for after in TRADING:
        assert "simulated market" in str(refusal(standing(before, market="simulated"), after, role))


def test_a_simulated_model_may_be_a_challenger():
    assert refusal(standing(CANDIDATE, market="simulated"), CHALLENGER, PIPELINE) is None


@pytest.mark.parametrize("before", [before for before, after in TRANSITIONS if after is CHALLENGER])
def test_a_challenger_has_passed_every_gate(before):
    for role in TRANSITIONS[before, CHALLENGER]:
        assert refusal(standing(before), CHALLENGER, role) is None
        assert "passed every gate" in str(refusal(standing(before, passed=False), CHALLENGER, role))


def test_a_rollback_brings_back_what_was_champion():
    assert refusal(standing(ARCHIVED), CHAMPION, Role.PLATFORM_OWNER) is None
    never = standing(ARCHIVED, was_champion=False)
    assert "it never was" in str(refusal(never, CHAMPION, Role.PLATFORM_OWNER))
    # A promotion is none.
    assert refusal(standing(CHALLENGER, was_champion=False), CHAMPION, Role.MLOPS_MAINTAINER) is None


def test_every_state_can_be_reached_and_only_a_pipeline_makes_challengers_of_candidates():
    reached = {CANDIDATE} | {after for _, after in TRANSITIONS}
    assert reached == set(ModelState)
    assert TRANSITIONS[CANDIDATE, CHALLENGER] == {PIPELINE}
    assert all(PIPELINE not in roles for pair, roles in TRANSITIONS.items() if pair != (CANDIDATE, CHALLENGER))
