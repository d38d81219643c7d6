"""`make chart`: refresh copies, then judge the chart with every set of values, or with those of files that are named.

python -m helm.chart                      the chart's own sets of values, ci/*-values.yaml
python -m helm.chart my-values.yaml …     a deployment's own, before they reach a cluster
"""

import argparse
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from helm.chart.copies import CHART, COPIES, REPOSITORY
from helm.chart.judgement import VALUE_SETS, WITHOUT_DAGSTER, Finding, judge, read_values
from helm.chart.rendering import overlaid, standalone


def main(arguments: list[str] | None = None) -> int:
    """Judge; 0 when everything holds.

    Args:
        arguments: Files of values; none are the chart's own sets.
    """
    parser = argparse.ArgumentParser(prog="python -m helm.chart", description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="VALUES", help="files of values")
    files = parser.parse_args(arguments).files or list(VALUE_SETS)
    console = Console(soft_wrap=True)
    for copy in COPIES:
        if copy.refresh():
            console.print(f"{copy.copy.relative_to(REPOSITORY)} was not {copy.original.name}; it is now.")
    if not files:
        console.print(f"There is no ci/*-values.yaml in {CHART}: name files of values.")
        return 1
    with standalone(CHART) as chart:
        found = [finding for file in files for finding in _judged(chart, file)]
    _show(console, found)
    return int(any(finding.faults for finding in found))


def _judged(chart: Path, file: Path) -> list[Finding]:
    values = read_values(file)
    alone = judge(chart, f"{file.name}, without Dagster's chart", overlaid(values, WITHOUT_DAGSTER))
    return judge(chart, file.name, values) + alone


def _show(console: Console, found: list[Finding]) -> None:
    table = Table("values", "rule", "objects", "result", box=box.SIMPLE)
    for finding in found:
        result = f"{len(finding.faults)} faults" if finding.faults else "holds"
        table.add_row(finding.values, finding.rule, str(finding.judged), result)
    console.print(table)
    for finding in found:
        for fault in finding.faults:
            console.print(f"{finding.values}, {finding.rule}: {fault}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
