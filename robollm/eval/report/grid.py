"""A table before it is HTML or Markdown, and how numbers are written in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robollm.metrics.bootstrap import Interval

NOTHING = "–"
"""Nobody printed it, or there is nothing to count."""


@dataclass(frozen=True, slots=True)
class Value:
    """One cell.

    Attributes:
        text: the number, or `NOTHING`.
        spread: its interval, "" without one.
    """

    text: str = NOTHING
    spread: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: its head.
        note: a second, smaller line of the head.
        kind: "published", "ours" or "baseline".
    """

    name: str
    note: str
    kind: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row; rows of one group stand together."""

    group: str
    label: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table with its conditions.

    Attributes:
        id: unique on the page.
        title: what it is.
        caption: sentences under the title: data, protocol, samples, what must not be compared.
        columns: without the two of the rows' names.
        rows: in order.
    """

    id: str
    title: str
    caption: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def groups(self) -> list[tuple[str, list[Row]]]:
        """Rows by group, in order."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.group, []).append(row)
        return list(found.items())


def number(value: float | None, digits: int, scale: float = 1.0) -> str:
    """A number with a fixed count of decimals; `NOTHING` for None and NaN."""
    return NOTHING if value is None or math.isnan(value) else f"{value * scale:,.{digits}f}"


def measured(figure: Interval | None, digits: int = 3, scale: float = 1.0) -> Value:
    """A figure with its interval, multiplied by `scale`."""
    if figure is None or math.isnan(figure.value):
        return Value()
    text = number(figure.value, digits, scale)
    if math.isnan(figure.low) or math.isnan(figure.high):
        return Value(text)
    low, high = (number(v, digits, scale) for v in (figure.low, figure.high))
    return Value(text, f"{low} to {high}")


def plural(count: int, what: str) -> str:
    """A count with its noun: 1 image, 1,200 images."""
    ending = "" if count == 1 else "es" if what.endswith(("s", "x")) else "s"
    return f"{count:,} {what}{ending}"
