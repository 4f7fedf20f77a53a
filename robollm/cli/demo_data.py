"""`robollm demo-data`: a recorded station, simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.command(help="Simulate a picking station: bag/, manifest.json, references/ and truth.json.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same files.")
@click.option("--picks", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--frames", type=click.IntRange(1, 15), default=1, show_default=True,
              help="Pictures per post-pick view; 10 to 15 are a sequence.")  # fmt: skip
@click.option("--products", type=click.IntRange(6, 100), default=16, show_default=True,
              help="In each tote's manifest.")  # fmt: skip
@click.option("--storage", type=click.Choice(["mcap", "sqlite3"]), default="mcap",
              show_default=True)  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True,
              help="Processes, each of one thread; doesn't change the files.")  # fmt: skip
def command(
    out: Path,
    seed: int,
    picks: int,
    frames: int,
    products: int,
    storage: Literal["mcap", "sqlite3"],
    workers: int,
) -> None:
    """Write the data."""
    from robollm.sim.demo_bag import write_demo

    write_demo(
        out, seed=seed, picks=picks, frames=frames, storage=storage, products=products,
        workers=workers,
    )  # fmt: skip
    click.echo(f"wrote {out}", err=True)
