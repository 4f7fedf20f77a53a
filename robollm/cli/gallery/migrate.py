"""`robollm gallery migrate`: bring a gallery of an older format up to date."""

from __future__ import annotations

from pathlib import Path

import click

from robollm.cli.gallery.show import bar, gallery_argument, named, say


@click.command()
@gallery_argument
def command(gallery: Path) -> None:
    r"""Bring a gallery of an older format up to date, without embedding anything again.

    \b
      robollm gallery migrate G

    Vectors, names of pictures and their hashes are taken over; the bundle stays the same. A gallery
    of format version 1 (index.faiss and rows.json) stays as it is until the last moment, so this
    may be interrupted and repeated. Afterwards older versions of robollm can't read it: keep a copy
    if some still must. Nothing happens to a gallery that is up to date.
    """
    from dataclasses import asdict

    from robollm.gallery.migrate import migrate_gallery

    with bar("migrating") as progress:
        report = migrate_gallery(gallery, progress=progress)
    if report.renamed:
        click.echo(
            f"{len(report.renamed):,} pictures had the name of another one, (2) was put behind: "
            + named(report.renamed),
            err=True,
        )
    say({"gallery": str(gallery), **asdict(report)})
