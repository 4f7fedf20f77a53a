"""`robollm eval make-bag`: ARMBench's picks as a bag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

_VIEWS = ("on_arm_low", "tote_wall", "far_tray")


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True,
              help="Folder for bag/, manifest.json and truth.json.")  # fmt: skip
@click.option("--split", type=click.Choice(["test", "val", "train", "all"]), default="test",
              show_default=True, help="Picks to take.")  # fmt: skip
@click.option("--views", type=click.Choice(_VIEWS), multiple=True, default=_VIEWS[:2],
              show_default=True,
              help="Post-pick views to record, by the nodes' names.")  # fmt: skip
@click.option("--limit", type=click.IntRange(0), default=0, show_default=True,
              help="At most so many picks; 0: all.")  # fmt: skip
@click.option("--storage", type=click.Choice(["mcap", "sqlite3"]), default="mcap",
              show_default=True)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout at the end.")
def command(
    data: Path,
    out: Path,
    split: str,
    views: tuple[str, ...],
    limit: int,
    storage: Literal["mcap", "sqlite3"],
    as_json: bool,
) -> None:
    r"""Write ARMBench's picks in DATA as a bag, with manifest.json and truth.json beside it.

    \b
      robollm eval make-bag DATA --out F
      robollm gallery build --bundle B --images DATA/Reference_Images --out F/gallery
      robollm eval bag F/bag --bundle B --manifest F/manifest.json --out run

    Pictures are recorded as the bytes of their files, so folders, bag and ROS see the same pixels.
    The bag is there whole or not at all: stopped, the same command starts anew, and removes what a
    killed one left.
    """
    from robollm.data.problems import Problems
    from robollm.eval.make_bag import make_bag
    from robollm.eval.progress import shown

    problems = Problems()
    with shown() as progress:
        files = make_bag(
            data, out, problems, split=split, views=views, limit=limit, storage=storage,
            progress=progress,
        )  # fmt: skip
    for line in problems.lines():
        click.echo(line, err=True)
    if as_json:
        card = {
            "bag": str(files.bag), "manifest": str(files.manifest), "truth": str(files.truth),
            "picks": files.picks, "problems": problems.counts,
        }  # fmt: skip
        click.echo(json.dumps(card))
    else:
        click.echo(f"wrote {files.picks} picks to {files.bag}", err=True)
