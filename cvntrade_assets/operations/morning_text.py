"""A morning check as markdown, for the page in the UI."""

import re
from collections.abc import Iterator

from cvntrade_assets.operations.morning_page import Grid, Line, Morning, Part

# What would not be shown as it stands. Underscores and stars between letters, digits and spaces are left alone.
_SPECIAL = re.compile(r"([\\<>\[\]|]|(?<!\w)[*_](?=\S))")
_CODE = re.compile(r"(`[^`]*`)")


def markdown(morning: Morning) -> str:
    """The whole check: the state as its title, a heading a section, a list item a line."""
    first, *rest = morning.headline
    parts = [f"# {_text(first)}", *_parts((_command(first, 0), *(_item(line) for line in rest)))]
    for section in morning.sections:
        parts += [f"## {section.heading}", *_parts(_shown(part) for part in section.parts)]
    return "\n\n".join(parts) + "\n"


def _parts(shown: "Iterator[str] | tuple[str, ...]") -> Iterator[str]:
    """Items that follow each other are one list; a table stands apart."""
    items: list[str] = []
    for text in shown:
        if text.startswith("|"):
            if items:
                yield "\n".join(items)
            yield text
            items = []
        elif text:
            items.append(text)
    if items:
        yield "\n".join(items)


def _shown(part: Part) -> str:
    return _table(part) if isinstance(part, Grid) else _item(part)


def _item(line: Line) -> str:
    item = f"{'  ' * line.depth}- {_text(line)}"
    command = _command(line, line.depth + 1)
    return f"{item}\n{command}" if command else item


def _command(line: Line, depth: int) -> str:
    return f"{'  ' * depth}- `{line.command}`" if line.command else ""


def _text(line: Line) -> str:
    return escaped(line.text)


def _table(grid: Grid) -> str:
    rows = (grid.headings, ("---",) * len(grid.headings), *grid.rows)
    return "\n".join(f"| {' | '.join(escaped(cell) for cell in row)} |" for row in rows)


def escaped(text: str) -> str:
    """A text in one line that reads the same once markdown is rendered; what stands between backticks stays code."""
    parts = _CODE.split(" ".join(text.split(" ")).replace("\n", " "))
    return "".join(part if part.startswith("`") else _SPECIAL.sub(r"\\\1", part) for part in parts)
