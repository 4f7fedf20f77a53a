"""`robollm bundle card`: write a bundle's model card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--runs",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run folder of `robollm train`, or a JSON file that keeps what several noted; "
    "repeatable, in their order.",
)
@click.option(
    "--evals",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Run folder of `robollm eval armbench` with this bundle; repeatable.",
)
@click.option(
    "--data-cards",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="card.json of a dataset of `robollm sim dataset`; repeatable.",
)
@click.option(
    "--failures",
    type=click.IntRange(0, 20),
    default=6,
    show_default=True,
    help="So many of the worst samples, with pictures.",
)
@click.option("--json", "as_json", is_flag=True, help="What was written as JSON on stdout.")
def command(
    bundle: Path,
    runs: tuple[Path, ...],
    evals: tuple[Path, ...],
    data_cards: tuple[Path, ...],
    failures: int,
    as_json: bool,
) -> None:
    r"""Write card.md and card/ into BUNDLE: what it is, its data, training, figures, failures.

    \b
      robollm bundle card models/tote-small --runs det --runs multi --evals test-gl \
        --evals test-cycles --data-cards DATA/card.json

    Options with several values are given several times. The bundle's identity doesn't change, and
    no folder of this machine gets into the card. Pictures take at most 600 kB together.
    """
    from robollm.eval.model_card.write import write_card

    done = write_card(bundle, runs=runs, evals=evals, data_cards=data_cards, failures=failures)
    if done.unread:
        click.echo(f"{done.unread} pictures of failures can't be read: they are left out", err=True)
    if as_json:
        click.echo(json.dumps({**asdict(done), "path": str(done.path)}))
    else:
        click.echo(f"{done.path}: {done.pictures} pictures, {done.bytes / 1000:.0f} kB", err=True)
