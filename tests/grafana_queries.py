"""What Grafana would do with a dashboard's queries: variables and macros expanded; a `$` that is left is an error."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILES = Path(__file__).parents[1] / "helm" / "cvntrade" / "files"
DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in sorted((FILES / "dashboards").glob("*.json"))}

_BUILT_IN = {"__interval": "30m", "__rate_interval": "5m"}
_INTERVAL = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class LeftOverError(ValueError):
    """Something that Grafana would not know either."""


@dataclass(frozen=True)
class Query:
    """One query of one panel, as it stands in the file."""

    dashboard: str
    panel: str
    kind: str
    text: str
    format: str

    def __str__(self) -> str:
        return f"{self.dashboard}/{self.panel}"


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, those inside of rows too; rows themselves left out."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def queries(kind: str) -> list[Query]:
    """Every query of a kind of data source: `prometheus` or `grafana-postgresql-datasource`."""
    found = []
    for uid, dashboard in DASHBOARDS.items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                if target["datasource"]["type"] == kind:
                    text = target.get("rawSql") or target["expr"]
                    found.append(Query(uid, panel["title"], panel["type"], text, target.get("format", "")))
    return found


def variables(uid: str) -> dict[str, dict[str, Any]]:
    """A dashboard's variables by name."""
    return {variable["name"]: variable for variable in DASHBOARDS[uid]["templating"]["list"]}


def choices(uid: str, listed: Callable[[str], list[str]]) -> Iterator[dict[str, str]]:
    """Ways to choose in a dashboard: everything, then each variable's first value, then two values where there are two.

    Args:
        uid: The dashboard.
        listed: What a variable's query lists.
    """
    found = variables(uid)
    several = {
        name: [_quoted(value) for value in listed(variable["query"])]
        for name, variable in found.items()
        if variable["type"] == "query"
    }
    typed = {name: variable["query"] for name, variable in found.items() if variable["type"] == "textbox"}
    yield typed | {name: found[name]["allValue"] for name in several}
    for count in (1, 2):
        yield typed | {name: ", ".join(values[:count]) for name, values in several.items()}


def expanded(text: str, chosen: Mapping[str, str], since: str, until: str) -> str:
    """A query as it reaches the database.

    Args:
        text: As it stands in the file.
        chosen: What stands for each variable.
        since: Begin of the time range, as SQL reads it.
        until: Its end.

    Raises:
        LeftOverError: a variable or macro is not known.
    """
    text = re.sub(r"\$\{(\w+):sqlstring\}", lambda found: _known(chosen, found[1]), text)
    text = re.sub(r"\$\{(\w+)\}", lambda found: _known(chosen, found[1]), text)
    text = re.sub(r"\$(__(?:rate_)?interval)\b", lambda found: _BUILT_IN[found[1]], text)
    text = _macro(text, "__timeFilter", lambda column: f"{column} BETWEEN '{since}' AND '{until}'")
    text = _macro(text, "__timeGroupAlias", _grouped)
    if "$" in text:
        raise LeftOverError(f"left over: {text[text.index('$') :][:60]}")
    return text


def _known(chosen: Mapping[str, str], name: str) -> str:
    if name not in chosen:
        raise LeftOverError(f"no variable {name} in this dashboard")
    return chosen[name]


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _macro(text: str, name: str, expand: Callable[[str], str]) -> str:
    """A macro with its argument, which may hold parentheses itself."""
    while (start := text.find(f"${name}(")) >= 0:
        begin = start + len(name) + 2
        depth = itertools.accumulate({"(": 1, ")": -1}.get(letter, 0) for letter in text[begin:])
        end = begin + next(place for place, level in enumerate(depth) if level < 0)
        text = text[:start] + expand(text[begin:end]) + text[end + 1 :]
    return text


def _grouped(arguments: str) -> str:
    column, interval = arguments.rsplit(",", 1)
    found = _INTERVAL.fullmatch(interval.strip().strip("'"))
    if found is None:
        raise LeftOverError(f"{interval} is no interval")
    seconds = int(found[1]) * _SECONDS[found[2]]
    return f'floor(extract(epoch from {column})/{seconds})*{seconds} AS "time"'
