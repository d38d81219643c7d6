"""Where panels read: PostgreSQL as the role grafana_ro, and Prometheus; each by the uid that is provisioned."""

from dataclasses import dataclass
from textwrap import dedent

from grafana_foundation_sdk.builders import prometheus as prometheus_build
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import prometheus as prometheus_model

POSTGRES = common.DataSourceRef(type_val="grafana-postgresql-datasource", uid="cvntrade-postgres")
PROMETHEUS = common.DataSourceRef(type_val="prometheus", uid="cvntrade-prometheus")


@dataclass(frozen=True)
class _SqlQuery(variants.Dataquery):
    """A query of Grafana's PostgreSQL data source, for which the SDK has no type."""

    sql: str
    format: str
    ref_id: str

    def to_json(self) -> dict[str, object]:
        """As Grafana keeps it."""
        return {
            "datasource": POSTGRES,
            "editorMode": "code",
            "format": self.format,
            "rawQuery": True,
            "rawSql": self.sql,
            "refId": self.ref_id,
        }


class Sql(builder.Builder[variants.Dataquery]):
    """A query in SQL.

    Args:
        sql: One statement. As a time series it gives `time`, `value` and, of several series, `metric`.
        is_series: Whether it is one.
        ref_id: Its letter in the panel.
    """

    def __init__(self, sql: str, *, is_series: bool = False, ref_id: str = "A") -> None:
        self._query = _SqlQuery(dedent(sql).strip(), "time_series" if is_series else "table", ref_id)

    def build(self) -> variants.Dataquery:
        """The query."""
        return self._query


def promql(expression: str, legend: str, ref_id: str = "A") -> prometheus_build.Dataquery:
    """A query in PromQL over the dashboard's time range.

    Args:
        expression: In the syntax of Prometheus 2.
        legend: Name of its series, with labels in `{{braces}}`.
        ref_id: Its letter in the panel.
    """
    query = prometheus_build.Dataquery().expr(expression).legend_format(legend).ref_id(ref_id).range()
    return query.datasource(PROMETHEUS).editor_mode(prometheus_model.QueryEditorMode.CODE)
