"""A condition: something that is not as it should be, told once, whoever found it."""

from dataclasses import dataclass

import pandas as pd

from cvntrade_assets.operations.taxonomy import Role, Severity


@dataclass(frozen=True)
class Condition:
    """Something that is not as it should be; an alert is open for as long as it holds.

    Attributes:
        key: Which condition, the same each time that it is found: `signal/sortino/BTCUSDC`, `run/discovery/ADAUSDC`.
        source: What finds it, and says when it is over: `signals`, `state`, `checks`, `runs`, `watch`, `pods`,
            `ticks`, `freshness`, `watchdog`.
        kind: What it is told together with when many hold at once: `signal/sortino`.
        severity: How bad it is.
        owner: Who answers for it.
        what: What is wrong, a sentence.
        where: The crypto, job, asset or process.
        since: Since when, UTC.
        next_step: What to do, with the command if there is one.
        link: Path of the page in the UI that shows it, e.g. `/runs/…`; empty when no page does.
    """

    key: str
    source: str
    kind: str
    severity: Severity
    owner: Role
    what: str
    where: str
    since: pd.Timestamp
    next_step: str
    link: str = ""
