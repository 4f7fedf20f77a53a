"""`robollm gallery export`: one commit of a gallery as files for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from robollm.cli.gallery.show import gallery_argument, say


@click.command()
@gallery_argument
@click.option("--out", type=click.Path(path_type=Path), required=True,
              help="Folder to write; must not exist.")  # fmt: skip
def command(gallery: Path, out: Path) -> None:
    r"""Write one commit of a gallery as files for other programs.

    \b
      robollm gallery export G --out G-files

    vectors.npy is float16 of unit length; line n of references.csv says what its row n is of.
    products.csv, manifest.json and records.json hold the rest. This is no gallery: robots can't
    search it.

    Robots and writers may go on: what is written is the gallery at one generation, whole. Removed
    products are not in it. The gallery is not changed, and --out is never written over.
    """
    from dataclasses import asdict

    from robollm.gallery.export import export_gallery

    say({"gallery": str(gallery), "out": str(out), **asdict(export_gallery(gallery, out))})
