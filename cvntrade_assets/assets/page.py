"""What assets show on their pages, in Dagster's words: pictures behind one click, tables."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np


def picture(name: str, png: bytes) -> str:
    """A PNG as Markdown; it is called by its name, in words."""
    return f"![{name.replace('_', ' ')}](data:image/png;base64,{base64.b64encode(png).decode()})"


def table(columns: Sequence[tuple[str, str]], rows: Iterable[Mapping[Any, Any]]) -> dg.TableMetadataValue:
    """A table of these columns; what is undefined is an empty cell.

    Args:
        columns: Name and type of each, as Dagster calls types.
        rows: By column; what else they hold is not shown.
    """
    records = [dg.TableRecord({name: _cell(row[name]) for name, _ in columns}) for row in rows]
    return dg.MetadataValue.table(records, dg.TableSchema(columns=[dg.TableColumn(*column) for column in columns]))


def _cell(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
