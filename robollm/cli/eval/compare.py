"""`robollm eval compare`: what got worse from one run to another, and is it more than chance?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robollm.cli.eval.options import with_draws

if TYPE_CHECKING:
    from robollm.eval.compare import Comparison
    from robollm.eval.compare_samples import SampleChange
    from robollm.eval.gate import Change

_SHOWN = 10
COLOURS = {"regression": "red", "gain": "green"}
_RUN = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("run_a", type=_RUN)
@click.argument("run_b", type=_RUN)
@click.option(
    "--metric",
    multiple=True,
    metavar="GLOB",
    help="Figures that decide, e.g. 'recall@1_*'; default: a few headline figures.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="A loss up to this much is accepted.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Chance of a false alarm, over all figures that decide.",
)
@click.option(
    "--correct",
    type=click.Choice(["holm", "none"]),
    default="holm",
    show_default=True,
    help="For the number of figures that decide.",
)
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Decide by what both runs have; what is missing is named only.",
)
@with_draws
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, no tables.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page, too.")
def command(
    run_a: Path, run_b: Path, metric: tuple[str, ...], margin: float, alpha: float, correct: str,
    allow_missing: bool, draws: int, seed: int, as_json: bool, html: Path | None,
) -> None:  # fmt: skip
    r"""Compare two run folders sample by sample, for people and for CI.

    Exit code 0: no figure that decides got worse beyond margin and chance. 1: one did. 2: they
    can't be compared, or RUN_B lacks samples or figures of RUN_A, one of them is not complete, or
    a figure that decides rests on too few samples; see --allow-missing.

    \b
      robollm eval compare before after
      robollm eval compare before after --metric 'image_*_recall' --margin 0.01 --html page.html

    Both are drawn by the same units (paired bootstrap). Only samples that both have are compared;
    what only RUN_B has is named.
    """
    from robollm.eval.compare import compare
    from robollm.eval.compare_page import write_page
    from robollm.eval.gate import Question
    from robollm.eval.progress import shown

    question = Question(metric, margin, alpha, correct, draws, seed, allow_missing)
    with shown() as progress:
        found = compare(run_a, run_b, question, progress=progress)
    page = write_page(found, html) if html else None
    if as_json:
        click.echo(json.dumps({**found.to_json(), "page": str(page or "")}, allow_nan=False))
    else:
        _print(found)
        if page:
            click.echo(f"wrote {page}", err=True)
    sys.exit(found.exit_code)


def _print(found: Comparison) -> None:
    from robollm.eval.compare_page import about, verdict

    for letter, run in (("A", found.a), ("B", found.b)):
        click.echo(f"{letter}: {run['run']} ({about(run)})")
        for why in run["partial"]:
            click.echo(f"   partial: {why}")
    for line in found.unlike:
        click.echo(f"differs: {line}")
    for line in found.left_out:
        click.echo(f"left out: {line}")
    _figures("figures that decide", [c for c in found.changes if c.decides])
    others = [c for c in found.changes if not c.decides]
    notable = [c for c in others if c.verdict in COLOURS]
    _figures("other notable ones, not corrected for their number", notable)
    click.echo(f"\n{len(others) - len(notable)} more without a notable difference: --json, --html")
    for name, row in found.samples.items():
        words = ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in row.items())
        click.echo(f"\n{name}: {words}")
        _samples("lost", [s for s in found.lost if s.stream == name])
        _samples("won", [s for s in found.won if s.stream == name])
    click.echo("")
    for line in found.missing:
        click.echo(f"missing: {line}")
    click.echo(verdict(found))


def _figures(title: str, some: Sequence[Change]) -> None:
    """One line per figure: no table, whose columns a terminal would cut."""
    from robollm.eval.compare_page import least, number, span

    click.echo(f"\n{title}:" if some else f"\n{title}: none")
    width = max((len(f"{c.section} {c.figure}") for c in some), default=0)
    for one in some:
        d = one.difference
        word = click.style(f"{one.verdict:13}", fg=COLOURS.get(one.verdict))
        name = f"{one.section} {one.figure}"
        values = f"{number(d.a)} -> {number(d.b)}"
        shows = f"  a loss shows from {least(one)}" if one.decides else ""
        click.echo(f"  {word} {name:{width}}  {values}  {span(one)}  p {number(one.p)}{shows}")


def _samples(title: str, some: Sequence[SampleChange]) -> None:
    for one in some[:_SHOWN]:
        click.echo(f"  {title}: {one.key} ({one.truth}): {one.a} -> {one.b}")
    if len(some) > _SHOWN:
        click.echo(f"  ... {len(some) - _SHOWN} more {title}: --json, --html")
