"""`robollm gallery tune`: measure how to search the whole gallery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from robollm.cli.gallery.show import bar, gallery_argument, json_option, say, show, size, table

if TYPE_CHECKING:
    from robollm.gallery.tune import TuneReport


@click.command()
@gallery_argument
@click.option(
    "--product-score",
    type=click.Choice(["max", "centroid"]),
    default="max",
    show_default=True,
    help="As the node's parameter: each has an index of its own.",
)
@click.option(
    "--whole",
    type=click.Choice(["auto", "exact", "approximate"]),
    default="auto",
    show_default=True,
    help="Kinds of search to choose from; auto: both.",
)
@click.option("--recall-min", type=click.FloatRange(0.5, 1.0), default=0.99, show_default=True,
              help="Share of queries whose best product an index must find, as the exact search"
              " does.")  # fmt: skip
@click.option(
    "--budget-ms",
    type=click.FloatRange(0.01, 10_000),
    default=2.0,
    show_default=True,
    help="An exact search that takes no longer than this is kept, ms; else the widest index is.",
)
@json_option
def command(
    gallery: Path,
    product_score: str,
    whole: str,
    recall_min: float,
    budget_ms: float,
    as_json: bool,
) -> None:
    r"""Measure how to search the whole gallery on this machine, and make the index for it.

    \b
      robollm gallery tune G
      robollm gallery tune G --recall-min 0.995 --budget-ms 5

    Candidates are tried on the gallery's own vectors, with queries made to be like real ones. One
    that surely keeps --recall-min within the budget is kept, with its index, in the gallery; nodes
    with `whole_search: auto` take it over when they open or refresh.

    A container is always searched exactly: this concerns searches of everything, such as looking
    for a product that should not be in its container. Rows and vectors are not touched: an index
    is derived from them and may be deleted at any time. Robots may go on, but then the times
    measured here are not those of a free machine.
    """
    from dataclasses import asdict

    from robollm.gallery.tune import tune

    with bar("measuring") as progress:
        report = tune(gallery, product_score=product_score, whole=whole, recall_min=recall_min,
                      budget_ms=budget_ms, progress=progress)  # fmt: skip
    if as_json:
        say({"gallery": str(gallery), **asdict(report)})
    else:
        _print(report)


def _print(report: TuneReport) -> None:
    """What was measured, then what was chosen, and why."""
    numbers = ("ms per query", "recall@1", "at least", "made in s", "index")
    rows = table("", "way", *numbers, right=numbers)
    for one in report.candidates:
        mark = "->" if one.name == report.chosen else ""
        rows.add_row(
            mark, one.name, f"{one.ms:.3f}", f"{one.recall:.4f}", f"{one.recall_low:.4f}",
            f"{one.build_s:.1f}", size(one.bytes) if one.bytes else "",
        )  # fmt: skip
    if report.candidates:
        show(rows)
        click.echo(
            f"{report.rows:,} vectors, {report.k} products asked for; queries: {report.queries}"
        )
    click.echo(f"chosen: {report.chosen}: {report.why} ({size(report.written_bytes)} written)")
