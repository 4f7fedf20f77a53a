"""`robollm sketch-bundle`: random weights in the real shape."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(help="Write a bundle with seeded random weights: real bindings, no meaning.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same bytes.")
def command(out: Path, seed: int) -> None:
    """Write the bundle."""
    from robollm.export.sketch import write_sketch_bundle

    write_sketch_bundle(out, seed=seed)
    click.echo(f"wrote {out} (UNTRAINED: set allow_untrained: true to run it)", err=True)
