"""`robollm gallery build`: embed a folder of reference images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robollm.cli.gallery.show import say
from robollm.cli.options import take, with_settings
from robollm.cli.stopping import stop_kindly
from robollm.core.errors import ConfigError
from robollm.core.settings import RuntimeConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from robollm.runtime.bundle import Bundle
    from robollm.runtime.embed_files import Embedding
    from robollm.runtime.enroll import Enrolled

SHOWN = 20
"""Lines about bad pictures; all of them are in the gallery."""
INTERRUPTED = 130  # what shells say of a program that Ctrl-C ended


@click.command()
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of one folder per product, named by its id, with JPEG or PNG files.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Gallery to fill.")
@click.option(
    "--products",
    type=click.Path(path_type=Path),
    help="Manifest file (JSON, CSV or ARMBench's): its titles, weights and containers go in, too.",
)
@click.option("--prune", is_flag=True, help="Take out what is no longer in --images.")
@click.option(
    "--ray",
    "address",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="local",
    help="Embed on Ray Data: on the cluster at ADDRESS (HOST:PORT, or auto), or on this machine. "
    "All machines must see --images and --bundle under the same path.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="With --ray: models that run at once, each with --threads (0: 1); default: as fit in.",
)
@with_settings(RuntimeConfig)
def command(
    images: Path,
    out: Path,
    products: Path | None,
    prune: bool,
    address: str | None,
    workers: int | None,
    **settings: Any,
) -> None:
    r"""Embed IMAGES/<product id>/*.jpg with a bundle into a gallery.

    The same command brings the gallery up to date, today and every night: pictures that it has
    already, byte for byte, are skipped; changed ones take the place of the old. Robots may search
    the gallery meanwhile. Ctrl-C loses nothing that was embedded; run it again to go on.

    A picture that can't be used is named, counted and left out; an older version of it stays.
    Names that begin with a dot are not looked at.

    \b
      robollm gallery build --bundle B --images DIR --out G
      robollm gallery build --bundle B --images DIR --out G --products products.csv --prune
      robollm gallery build --bundle B --images DIR --out G --ray --workers 2
    """
    if workers is not None and address is None:
        raise ConfigError("--workers needs --ray", fix="give --ray, too, or --threads instead")
    from robollm.gallery.manifest import load_manifests
    from robollm.runtime.enroll import build_gallery

    config = take(RuntimeConfig, settings)
    manifests = None if products is None else load_manifests(products)
    bundle, embedding = _embedding(config, images, address, workers or 0)
    with stop_kindly() as stop, _progress() as progress:
        done = build_gallery(
            images,
            out,
            bundle=bundle,
            embedding=embedding,
            products=manifests,
            prune=prune,
            progress=progress,
            stop=stop,
        )
    _report(done, out, bundle.title)
    if done.interrupted:
        click.echo("interrupted; the same command goes on from here", err=True)
        raise SystemExit(INTERRUPTED)


def _embedding(
    config: RuntimeConfig, images: Path, address: str | None, workers: int
) -> tuple[Bundle, Embedding]:
    if address is None:
        from robollm.runtime.embed_files import LocalEmbedding
        from robollm.runtime.perceiver import Perceiver

        perceiver = Perceiver(config)
        return perceiver.bundle, LocalEmbedding(perceiver)
    from robollm.runtime.bundle import load_bundle
    from robollm.runtime.default_bundle import find_bundle
    from robollm.runtime.ray_embed import RayEmbedding

    bundle = load_bundle(find_bundle(config.bundle), allow_untrained=config.allow_untrained)
    return bundle, RayEmbedding(
        config,
        embedding_sha256=bundle.embedding_sha256,
        images=images,
        address="" if address == "local" else address,
        workers=workers,
    )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    with Progress(
        TextColumn("embedding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("embedding", total=None, rate="")

        def show(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            rate = "" if speed is None else f"{speed:.1f} images/s"
            bar.update(task, completed=done, total=total, rate=rate)

        yield show


def _report(done: Enrolled, out: Path, bundle: str) -> None:
    for why in list(done.bad.values())[:SHOWN]:
        click.echo(f"skipped: {why}", err=True)
    if len(done.bad) > SHOWN:
        click.echo(
            f"skipped: {len(done.bad) - SHOWN} more; `robollm gallery info` names all", err=True
        )
    for product in done.empty[:SHOWN]:
        click.echo(f"no usable image of product {product!r}", err=True)
    if len(done.empty) > SHOWN:
        click.echo(f"no usable image of {len(done.empty) - SHOWN} more products", err=True)
    say(
        {
            "gallery": str(out),
            "bundle": bundle,
            "generation": done.generation,
            "products": done.products,
            "images": done.images,
            "replaced": done.replaced,
            "skipped": done.skipped,
            "pruned": done.pruned,
            "products_pruned": list(done.pruned_products),
            "bad_images": len(done.bad),
            "products_without_image": len(done.empty),
            "other_files": done.others,
            "seconds": round(done.seconds, 2),
            "images_per_second": round(done.images / done.seconds, 2),
            "complete": not done.interrupted,
        }
    )
