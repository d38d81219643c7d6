"""What a market is called where it is shown: the simulated one is marked, so that nobody takes it for a real one."""

from typing import Final

SIMULATED: Final = "simulated"


def shown_market(market: str) -> str:
    """The market's name, with the mark of what was simulated."""
    return "SIMULATED" if market == SIMULATED else market
