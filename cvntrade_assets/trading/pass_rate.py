"""Pass rate: what became of a grid's points, and which gates refused those that were tested.

3 % of 450 points of a volatile crypto is another thing than 3 % of 50 points of BTC: a rate is always shown with the
points that it is a share of, and never compared across cryptos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cvntrade_assets.trading.gates import GATES, GateError, GateResult, refusals


@dataclass(frozen=True)
class PassRate:
    """Counts of one crypto's grid, each a part of the one before, save that an ineligible point may be tested.

    Attributes:
        screened: Points of the grid that a model was fitted for.
        eligible: Of these, worth testing by what screening saw.
        tested: Candidates that went through the folds and both backtests.
        passed: Of these, through all the gates.
        refused_by: By gate, in the gates' order, how many tested candidates it refused; gates that refused none left
            out.
    """

    screened: int
    eligible: int
    tested: int
    passed: int
    refused_by: Mapping[str, int]

    @property
    def of_grid(self) -> float | None:
        """Share of the screened points that passed; None when none was screened."""
        return self.passed / self.screened if self.screened else None

    def __str__(self) -> str:
        """The counts in one line, and what refused the others."""
        counts = f"{self.screened} screened, {self.eligible} eligible, {self.tested} tested, {self.passed} passed"
        rate = "" if self.of_grid is None else f" ({100.0 * self.of_grid:.2g} % of {self.screened} points)"
        refused = ", ".join(f"{name} {count}" for name, count in self.refused_by.items())
        return f"{counts}{rate}" + (f"; refused by {refused}" if refused else "")


def pass_rate(screened: int, eligible: int, verdicts: Sequence[Sequence[GateResult]]) -> PassRate:
    """Count what became of a grid.

    Args:
        screened: Points that a model was fitted for.
        eligible: Of these, worth testing.
        verdicts: Per tested candidate, what `gates.judge` said.

    Raises:
        GateError: More points were eligible or tested than screened, or a candidate was not judged by every gate.
    """
    tested = len(verdicts)
    if not 0 <= eligible <= screened or tested > screened:
        raise GateError(f"{screened} screened, {eligible} eligible, {tested} tested: expected parts of the first")
    for results in verdicts:
        if (names := tuple(result.name for result in results)) != GATES:
            raise GateError(f"a candidate was judged by {names}: expected every gate, {GATES}")
    refused = [result.name for results in verdicts for result in refusals(results)]
    return PassRate(
        screened=screened,
        eligible=eligible,
        tested=tested,
        passed=sum(not refusals(results) for results in verdicts),
        refused_by={name: refused.count(name) for name in GATES if name in refused},
    )
