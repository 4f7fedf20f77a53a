"""The report's tables as Markdown, for a README, an issue or a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from robollm.eval.report import published, summary
from robollm.eval.report.grid import Grid, plural
from robollm.eval.report.tables import section_grid

if TYPE_CHECKING:
    from robollm.eval.figures import Metrics, Section, Table
    from robollm.eval.run_folder import RunFolder


def to_markdown(
    run: RunFolder, metrics: Metrics, grids: Sequence[Grid], absent: Sequence[str]
) -> str:
    """The whole report but for its pictures.

    Args:
        run: its card is used.
        metrics: its figures.
        grids: the thesis' tables.
        absent: a sentence for each of them that the run has no task for.
    """
    name = run.path.resolve().name
    lines = [f"# Evaluation {name}", ""]
    for banner in summary.banners(run.card, metrics):
        lines += [f"> **{_plain(banner.title)}**", *(f"> {_plain(t)}" for t in banner.lines), ""]
    facts = summary.rows(run.card, metrics)
    lines += ["| | |", "|---|---|", *(f"| {n} | {_plain(text)} |" for n, text in facts), ""]
    if command := run.card.get("command"):
        lines += ["```", str(command), "```", ""]
    for grid in grids:
        lines += [f"## {grid.title}", "", *_grid(grid), ""]
        lines += [*(f"- {_plain(c)}" for c in grid.caption), ""]
    lines += [*(f"- {sentence}" for sentence in absent), ""] if absent else []
    for section in metrics.sections:
        lines += _section(section, metrics, summary.name_of(run.card))
    if grids:
        lines += ["## Sources", "", *(f"- {source}" for source in published.SOURCES)]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text that can't end a cell, nor begin markup."""
    for mark in "\\|<`*_[":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(c) for c in cells) + " |"


def _grid(grid: Grid) -> Iterator[str]:
    groups = any(row.group for row in grid.rows)
    heads = ["", ""] if groups else [""]
    yield _row([*heads, *(f"{c.name} ({c.note})" for c in grid.columns)])
    yield "|---" * len(heads) + "|---:" * len(grid.columns) + "|"
    for group, rows in grid.groups():
        for i, row in enumerate(rows):
            names = [group if i == 0 else "", row.label] if groups else [row.label]
            values = [f"{v.text} ({v.spread})" if v.spread else v.text for v in row.values]
            yield _row([*names, *values])


def _section(section: Section, metrics: Metrics, ours: str) -> Iterator[str]:
    yield from (f"## {_plain(section.name)}", "")
    yield f"{_plain(section.protocol)} {section.split}: {plural(section.samples, 'sample')}, "
    yield from (f"{plural(section.units, section.unit)}.", "")
    yield from (*_grid(section_grid(section, metrics, ours)), "")
    for name, table in section.tables.items():
        yield from (f"### {_plain(name)}", "", *_table(table), "")
    if section.counts:
        yield from (f"- {_plain(name)}: {n:,}" for name, n in section.counts.items())
        yield ""
    if section.worst:
        yield from ("### The worst", "", "| sample | what went wrong |", "|---|---|")
        yield from (_row([w.key, w.why]) for w in section.worst)
        yield ""


def _table(table: Table) -> Iterator[str]:
    yield _row(table.columns)
    yield "|---" + "|---:" * (len(table.columns) - 1) + "|"
    for row in table.rows:
        yield _row(
            ["–" if c is None else f"{c:.3f}" if isinstance(c, float) else str(c) for c in row]
        )
    if table.note:
        yield from ("", _plain(table.note))
