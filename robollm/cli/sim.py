"""`robollm sim`: a world of products, totes, picks and defects, and datasets of it."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robollm.cli.options import take, with_settings
from robollm.sim.dataset.plan import DatasetSettings

if TYPE_CHECKING:
    from rich.console import Console

    from robollm.sim.dataset.make import Made


@click.group(help="ARMBench-shaped totes, picks and defects out of a simulator.")
def command() -> None:
    """Group of the simulator's verbs."""


@command.command(help="Make a dataset; the same command goes on after an interruption.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True,
              help="Processes, each of one thread; doesn't change the dataset.")  # fmt: skip
@with_settings(DatasetSettings)
def dataset(out: Path, workers: int, **settings: Any) -> None:
    """Make a dataset."""
    from rich.console import Console

    config = take(DatasetSettings, settings)
    console = Console(stderr=True)
    try:
        made, seconds = _make(out, config, workers, console)
    except KeyboardInterrupt:
        console.print(
            f"stopped; what is done is kept in {out}. The same command goes on from there.",
            highlight=False,
        )
        sys.exit(130)
    rate = made.pictures / seconds * 60 if made.fresh else None
    click.echo(
        json.dumps(
            {
                "dataset": str(out),
                "jobs": made.jobs,
                "jobs_of_this_run": made.fresh,
                "pictures_of_this_run": made.pictures,
                "seconds": round(seconds, 1),
                "pictures_per_minute": rate and round(rate, 1),
                "workers": workers,
            }
        )
    )


def _make(out: Path, config: DatasetSettings, workers: int, console: Console) -> tuple[Made, float]:
    """Make the dataset with a bar on a terminal, with a line now and then elsewhere."""
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed
    from rich.progress import TimeRemainingColumn as Remaining

    from robollm.sim.dataset.make import make_dataset

    start = time.monotonic()
    said = [start]
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), Elapsed(), TextColumn("left"), Remaining(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal,
                  speed_estimate_period=120) as bar:  # fmt: skip
        task = bar.add_task("jobs", total=None, rate="")

        def progress(*, jobs: int, of: int, pictures: int, fresh: int) -> None:
            now = time.monotonic()
            passed = max(now - start, 1e-6)
            rate = f"{pictures / passed * 60:.0f} pictures/min" if fresh else ""
            bar.update(task, completed=jobs, total=of, rate=rate)
            if not console.is_terminal and (now - said[0] > 60 or jobs == of):
                said[0] = now
                left = passed / fresh * (of - jobs) / 60 if fresh else 0.0
                click.echo(f"{jobs}/{of} jobs, {rate}, {left:.0f} min left", err=True)

        made = make_dataset(out, config, workers=workers, progress=progress)
    return made, time.monotonic() - start


@command.command(help="Measure how far colour, size and other tricks get on DATASET.")
@click.argument("folder", metavar="DATASET", type=click.Path(path_type=Path))
@click.option("--write", is_flag=True, help="Write audit.json into the dataset.")
@click.option("--most", type=click.IntRange(10), default=3000, show_default=True,
              help="Picks, and images per defect split, to look at.")  # fmt: skip
def audit(folder: Path, write: bool, most: int) -> None:
    """Audit a dataset."""
    from rich.console import Console
    from rich.table import Column, Table

    from robollm.sim.dataset.audit import audit as measure
    from robollm.sim.dataset.audit import verdicts, write_audit

    result = measure(folder, most=most)
    console = Console(stderr=True)
    table = Table("shortcut", "value", "chance", "goal", "")
    for what, value, chance, goal, good in verdicts(result):
        table.add_row(what, f"{value:.3f}", f"{chance:.3f}", f"<= {goal:.2f}",
                      "pass" if good else "FAIL")  # fmt: skip
    console.print(table)
    sizes = Table(
        Column("segmentation", overflow="fold"),
        "images",
        "objects",
        "< 32x32 px",
        "< 30 % visible",
        "polygon IoU",
    )
    for name, part in result.get("segmentation", {}).items():
        if part["images"]:
            keys = ("under_32x32_px", "under_30_percent_visible", "polygon_iou_mean")
            shown = ["not measured" if part[k] is None else f"{part[k]:.3f}" for k in keys]
            sizes.add_row(name, str(part["images"]), str(part["objects"]), *shown)
    console.print(sizes)
    if write:
        write_audit(folder, result)
    click.echo(json.dumps(result))


@command.command(help="Print a split's products as JSON lines.")
@click.option("--seed", type=click.IntRange(0), default=7, show_default=True)
@click.option("--count", type=click.IntRange(1), default=30, show_default=True)
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="train")
@click.option("--out", type=click.Path(path_type=Path), help="File; without it: to the terminal.")
def catalogue(seed: int, count: int, split: Any, out: Path | None) -> None:
    """Print a catalogue."""
    from robollm.data.armbench_files import write_bytes
    from robollm.sim.products.catalogue import make_catalogue, rows

    lines = [json.dumps(row) for row in rows(make_catalogue(seed, count, split))]
    if out is None:
        click.echo("\n".join(lines))
    else:
        write_bytes(out, ("\n".join(lines) + "\n").encode())


@command.command(help="Drop items into one tote and write its picture as PNG.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("tote.png"),
              show_default=True)  # fmt: skip
@click.option("--index", type=click.IntRange(0), default=0, show_default=True, help="Which tote.")
@click.option("--subset", default="mix-object-tote", show_default=True,
              type=click.Choice(["mix-object-tote", "zoomed-out-tote-transfer-set",
                                 "same-object-transfer-set"]))  # fmt: skip
@with_settings(DatasetSettings, without=("totes", "picks", "variants", "task"))
def preview(out: Path, index: int, subset: str, **settings: Any) -> None:
    """Write one picture."""
    import cv2

    from robollm.core.errors import ConfigError
    from robollm.data.armbench_files import write_bytes
    from robollm.sim.dataset.plan import Job

    if out.suffix.lower() != ".png":
        raise ConfigError(f"out is {str(out)!r}", fix="give a name that ends with .png")
    from robollm.sim.dataset.jobs import Studio

    config = take(DatasetSettings, {**settings, "variants": 1})
    with contextlib.closing(Studio(out.parent, config)) as studio:
        rgb = studio.preview(Job("tote", index, "train", subset))
    write_bytes(out, cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())
    click.echo(f"wrote {out}", err=True)


@command.command("cycles-env", help="Install Blender's Python module into FOLDER, for --renderer"
                 " cycles. About 950 MB; GPL-3, so it runs as a program of its own.")  # fmt: skip
@click.argument("folder", type=click.Path(path_type=Path), default=Path(".cycles-venv"))
def cycles_env(folder: Path) -> None:
    """Make the environment of the path-traced renderer."""
    from robollm.sim.render.cycles_env import make_env

    click.echo(make_env(folder, say=lambda text: click.echo(text, err=True)))
