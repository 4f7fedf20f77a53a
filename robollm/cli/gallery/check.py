"""`robollm gallery check`: read everything and name what is damaged."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from robollm.cli.gallery.show import gallery_argument, json_option, say


@click.command()
@gallery_argument
@json_option
def command(gallery: Path, as_json: bool) -> None:
    r"""Read every byte of a gallery and name what is damaged.

    \b
      robollm gallery check G
      robollm gallery check G || echo "restore the backup"

    Exit code 0: all is as it was written. 1: something is damaged; each part is named on a line of
    its own. 2: it can't be checked: it is no gallery, of another format, or its card is damaged.

    It needs no bundle and no pictures, changes nothing, repairs nothing, and robots may go on. A
    node checks most of this when it opens the gallery; this goes on after the first damage, and
    reads what a search doesn't need, too.
    """
    from dataclasses import asdict

    from robollm.gallery.check import check_gallery

    report = check_gallery(gallery)
    if as_json:
        say({**asdict(report), "folder": str(gallery), "good": not report.problems})
    else:
        for problem in report.problems:
            click.echo(f"damaged: {problem}")
        for note in report.notes:
            click.echo(f"note: {note}")
        if not report.problems:
            click.echo(
                f"good: generation {report.generation:,}, {report.references:,} references, "
                f"{report.vectors:,} vectors"
            )
    if report.problems:
        click.echo("  fix: restore a backup, or build the gallery again", err=True)
        sys.exit(1)
