"""The life of a registered model: its states, the changes between them, who may make each, and why one is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias

from cvntrade_assets.market.shown import SIMULATED
from cvntrade_assets.operations.taxonomy import Role


class ModelState(StrEnum):
    """Where a model stands for its crypto."""

    CANDIDATE = "candidate"
    CHALLENGER = "challenger"
    CHAMPION = "champion"
    QUARANTINED = "quarantined"
    ARCHIVED = "archived"


PIPELINE: Final = "pipeline"
"""A run, which no person's role stands behind."""

ActingRole: TypeAlias = Role | Literal["pipeline"]

# Sections 4 and 10 of the manual: the maintainer carries a promotion out, the platform owner acts in an emergency.
_MAINTAINER: frozenset[ActingRole] = frozenset({Role.MLOPS_MAINTAINER})
_OWNERS: frozenset[ActingRole] = frozenset({Role.MLOPS_MAINTAINER, Role.ML_OWNER})
_EMERGENCY: frozenset[ActingRole] = frozenset({Role.MLOPS_MAINTAINER, Role.PLATFORM_OWNER})

_S = ModelState
TRANSITIONS: Mapping[tuple[ModelState, ModelState], frozenset[ActingRole]] = {
    # Every gate passed.
    (_S.CANDIDATE, _S.CHALLENGER): frozenset({PIPELINE}),
    (_S.CANDIDATE, _S.ARCHIVED): _OWNERS,
    # Promotion.
    (_S.CHALLENGER, _S.CHAMPION): _MAINTAINER,
    (_S.CHALLENGER, _S.QUARANTINED): _EMERGENCY,
    (_S.CHALLENGER, _S.ARCHIVED): _OWNERS,
    # The kill switch; and what another champion replaces.
    (_S.CHAMPION, _S.QUARANTINED): _EMERGENCY,
    (_S.CHAMPION, _S.ARCHIVED): _EMERGENCY,
    # The cause was found, and it was not the model: it has to be promoted again.
    (_S.QUARANTINED, _S.CHALLENGER): _OWNERS,
    (_S.QUARANTINED, _S.ARCHIVED): _MAINTAINER,
    # Rollback: only what was champion before.
    (_S.ARCHIVED, _S.CHAMPION): _EMERGENCY,
}
"""Every change of state that exists, and who may make it. A model begins as a candidate. PostgreSQL holds the same."""

TRADING: frozenset[ModelState] = frozenset({ModelState.CHAMPION})
"""States in which a model decides about real money: a model that was trained on the simulated market has none."""


@dataclass(frozen=True)
class Standing:
    """What a change of state is judged by.

    Attributes:
        name: How messages call the model, e.g. `BTCUSDC model 3`.
        state: Its present state.
        market: The market behind the candles that it was trained on.
        was_champion: Whether it ever was champion.
        gates_passed: Whether its evaluation is on record with every gate passed.
    """

    name: str
    state: ModelState
    market: str
    was_champion: bool
    gates_passed: bool


def refusal(standing: Standing, to: ModelState, role: ActingRole) -> str | None:
    """Why a model may not change its state like this: what was asked, what stands in the way, what can be done.

    Args:
        standing: The model as it is.
        to: The state that is asked for.
        role: In which role it is asked for.

    Returns:
        None when it may.
    """
    asked = f"{standing.name} cannot go from {standing.state} to {to}"
    allowed = TRANSITIONS.get((standing.state, to))
    if to in TRADING and standing.market == SIMULATED:
        return f"{asked}: it was trained on the simulated market, and nothing of that ever trades. Train it on binance."
    if allowed is None:
        ways = ", ".join(sorted(after for before, after in TRANSITIONS if before is standing.state))
        return f"{asked}: there is no such change. From {standing.state} it can become {ways or 'nothing else'}."
    if role not in allowed:
        return f"{asked} in the role {role}: expected {' or '.join(sorted(allowed))}."
    if to is ModelState.CHALLENGER and not standing.gates_passed:
        return f"{asked}: no evaluation in which it passed every gate is on record. Evaluate it first."
    if (standing.state, to) == (ModelState.ARCHIVED, ModelState.CHAMPION) and not standing.was_champion:
        return f"{asked}: a rollback brings back what was champion before, and it never was."
    return None
