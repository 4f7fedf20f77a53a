"""`robollm gallery compact`: give back the space of what was removed."""

from __future__ import annotations

from pathlib import Path

import click

from robollm.cli.gallery.show import bar, gallery_argument, json_option, say, size


@click.command()
@gallery_argument
@json_option
def command(gallery: Path, as_json: bool) -> None:
    r"""Give back the disk space of what was removed or replaced.

    \b
      robollm gallery compact G

    Living vectors are copied into a new file, and the gallery changes over in one commit: until
    then the disk holds both. Robots may go on; other writers wait. Answers stay the same. An index
    of the whole gallery belongs to the old file: run `robollm gallery tune` afterwards.

    Nothing that is in the gallery is ever removed by this. `robollm gallery info` says when it is
    worth it.
    """
    from dataclasses import asdict

    from robollm.gallery.compact import compact_gallery

    with bar("compacting") as progress:
        report = compact_gallery(gallery, progress=progress)
    if as_json:
        say({"gallery": str(gallery), **asdict(report)})
    else:
        click.echo(
            f"{report.dropped:,} removed vectors are gone, {report.references:,} references stay; "
            f"{size(report.bytes_before)} before, {size(report.bytes_after)} now"
        )
