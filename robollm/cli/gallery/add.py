"""`robollm gallery add`: add pictures of a product, or what is known of products, to a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robollm.cli.gallery.show import gallery_argument, say
from robollm.cli.options import take, with_settings
from robollm.core.errors import ConfigError, GalleryError
from robollm.core.settings import RuntimeConfig

if TYPE_CHECKING:
    from robollm.gallery.records import MadeWith, Product
    from robollm.runtime.embed_files import Seen


@click.command()
@gallery_argument
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@click.option("--product", metavar="ID", help="The product that IMAGES show; new or known.")
@click.option("--title", help="Its title.")
@click.option("--description", help="Its description.")
@click.option("--weight-kg", type=click.FloatRange(0, min_open=True), help="Its weight, kg.")
@click.option(
    "--products",
    "file",
    type=click.Path(path_type=Path),
    help="Manifest file (JSON, CSV or ARMBench's): titles, weights and containers, no pictures.",
)
@with_settings(RuntimeConfig)
def command(
    gallery: Path,
    images: tuple[Path, ...],
    product: str | None,
    title: str | None,
    description: str | None,
    weight_kg: float | None,
    file: Path | None,
    **settings: Any,
) -> None:
    r"""Add pictures of a product to a gallery, or what is known of products.

    All of it in one commit, or nothing. A picture takes the place of the product's older one of
    the same file name. `build --prune` takes out again what is not in its folder of images.

    \b
      robollm gallery add G --bundle B --product B00ABC --title "Blue mug" front.jpg side.jpg
      robollm gallery add G --product B00ABC --title "Blue mug, new label"
      robollm gallery add G --products products.csv
    """
    changes = {"title": title, "description": description, "weight_kg": weight_kg}
    changes = {k: v for k, v in changes.items() if v is not None}
    if product is None and (images or changes):
        raise ConfigError("which product is it?", fix="give --product ID")
    if (product is None) == (file is None):
        raise ConfigError(
            "either a product or a file of products is wanted",
            fix="give pictures and --product ID, or --products FILE",
        )
    if file is not None:
        _add_file(gallery, file)
        return
    assert product is not None
    if not images and not changes:
        raise ConfigError(
            f"nothing about product {product!r} was given", fix="give pictures, or a --title"
        )
    _add_product(gallery, product, changes, *_embed(images, product, take(RuntimeConfig, settings)))


def _embed(
    images: tuple[Path, ...], product: str, config: RuntimeConfig
) -> tuple[list[Seen], MadeWith | None]:
    """Embed all pictures; a bad one is an error, for somebody chose each of them."""
    if not images:
        return [], None
    from robollm.gallery.records import MadeWith
    from robollm.runtime.embed_files import LocalEmbedding
    from robollm.runtime.perceiver import Perceiver
    from robollm.runtime.references import Picture

    names = [f.name for f in images]
    if len({*names}) < len(names):
        raise ConfigError("two pictures have the same file name", fix="name each of them otherwise")
    perceiver = Perceiver(config)
    pictures = [Picture(n, product, f) for n, f in enumerate(images, start=1)]
    seen = list(LocalEmbedding(perceiver)(pictures, {}))
    for one in seen:
        if one.why_bad:
            raise GalleryError(one.why_bad, fix="give JPEG or PNG files; nothing was added")
    return seen, MadeWith(perceiver.bundle.embedding_sha256, perceiver.bundle.title)


def _add_file(gallery: Path, file: Path) -> None:
    from robollm.gallery.manifest import load_manifests
    from robollm.gallery.store import open_writer

    manifests = load_manifests(file)
    with open_writer(gallery) as writer:
        writer.put_manifests(manifests)
        generation = writer.commit()
    say(
        {
            "gallery": str(gallery),
            "generation": generation,
            "products": len(manifests.products),
            "containers": len(manifests.containers),
        }
    )


def _add_product(
    gallery: Path,
    product: str,
    changes: dict[str, Any],
    seen: list[Seen],
    made_with: MadeWith | None,
) -> None:
    import numpy as np

    from robollm.gallery.store import open_writer

    replaced = 0
    with open_writer(gallery, made_with=made_with) as writer:
        if seen:
            sources = [s.picture.source for s in seen]
            known = writer.known()
            replaced = writer.remove_references([s for s in sources if s in known])
            writer.add_references(
                product,
                np.stack([s.vector for s in seen if s.vector is not None]),
                sources=sources,
                sha256s=[s.sha256 for s in seen],
            )
        if changes:
            writer.put_product(_changed(gallery, product, changes))
        generation = writer.commit()
    say(
        {
            "gallery": str(gallery),
            "generation": generation,
            "product": product,
            "references": len(seen),
            "replaced": replaced,
        }
    )


def _changed(gallery: Path, product: str, changes: dict[str, Any]) -> Product:
    """What is known of a product, with the changes; what isn't named stays.

    Raises:
        GalleryError: if its row is damaged.
    """
    from contextlib import closing
    from dataclasses import replace

    from robollm.gallery import verified
    from robollm.gallery.reader import GalleryReader
    from robollm.gallery.records import Product

    with closing(GalleryReader(gallery)) as reader, reader.reading() as conn:
        old = verified.product(gallery, conn, product)
    return replace(old or Product(product), **changes)
