"""`robollm gallery`: build a product gallery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from robollm.cli.options import take, with_settings
from robollm.core.settings import RuntimeConfig


@click.group(help="Product galleries: reference images as vectors.")
def command() -> None:
    """Group of the gallery verbs."""


@command.command(help="Embed IMAGES/<product id>/*.jpg with a bundle into a gallery folder.")
@click.option("--images", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Gallery to write.")
@with_settings(RuntimeConfig)
def build(images: Path, out: Path, **settings: Any) -> None:
    """Build a gallery."""
    from rich.console import Console
    from rich.progress import Progress

    from robollm.runtime.enroll import enroll
    from robollm.runtime.perceiver import Perceiver

    perceiver = Perceiver(take(RuntimeConfig, settings))
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("embedding", total=None)
        done = enroll(
            perceiver,
            images,
            out,
            progress=lambda n, total: bar.update(task, completed=n, total=total),
        )
    for file in done.bad:
        click.echo(f"not an image, or larger than max_image_side, skipped: {file}", err=True)
    for folder in done.empty:
        click.echo(f"no usable image, product left out: {folder.name}", err=True)
    click.echo(
        json.dumps(
            {
                "gallery": str(out),
                "products": done.products,
                "images": done.images,
                "bad_images": len(done.bad),
                "products_without_image": len(done.empty),
                "bundle": perceiver.bundle.title,
            }
        )
    )
