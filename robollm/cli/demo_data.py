"""`robollm demo-data`: a recorded demo station, made by code."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.command(help="Write bag/, manifest.json, references/ and truth.json of a made-up station.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same pictures.")
@click.option("--picks", type=click.IntRange(1, 24), default=6, show_default=True)
@click.option("--storage", type=click.Choice(["mcap", "sqlite3"]), default="mcap")
def command(out: Path, seed: int, picks: int, storage: Literal["mcap", "sqlite3"]) -> None:
    """Write the data."""
    from robollm.sim.demo_bag import write_demo

    write_demo(out, seed=seed, picks=picks, storage=storage)
    click.echo(f"wrote {out}", err=True)
