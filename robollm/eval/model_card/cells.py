"""Markdown tables of a model card, and numbers in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robollm.eval.report.grid import NOTHING
from robollm.metrics.bootstrap import Interval


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    line = "| --- |" + " ---: |" * (len(head) - 1)
    cells = [[c.replace("|", "\\|") for c in row] for row in (head, *rows)]
    first, *rest = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([first, line, *rest])


def interval(figure: Interval | None) -> str:
    """A figure with its limits; `NOTHING` for None and NaN."""
    if figure is None or math.isnan(figure.value):
        return NOTHING
    if math.isnan(figure.low):
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def plain(text: str) -> str:
    """Text of others, as a product's name, that begins no markup."""
    for mark in "\\|<`*_[":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
