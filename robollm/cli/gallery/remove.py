"""`robollm gallery remove`: take products, references or containers out of a gallery."""

from __future__ import annotations

from pathlib import Path

import click

from robollm.cli.gallery.show import gallery_argument, say
from robollm.core.errors import ConfigError


@click.command()
@gallery_argument
@click.option(
    "--product", "products", multiple=True, metavar="ID", help="A product with all its references."
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="SOURCE",
    help="One reference image: PRODUCT/FILE NAME, as `search` and `export` show it.",
)
@click.option(
    "--container", "containers", multiple=True, metavar="ID", help="A container; not its products."
)
def command(
    gallery: Path,
    products: tuple[str, ...],
    references: tuple[str, ...],
    containers: tuple[str, ...],
) -> None:
    r"""Take products, single references or containers out of a gallery.

    All of it in one commit, or nothing: an unknown name stops it. Nodes with `watch: true`
    take it over by themselves, others at ~/reload_manifest. Containers go on listing a removed
    product, until their manifest changes. `robollm gallery compact` gives back the space.

    \b
      robollm gallery remove G --product B00ABC --product B00XYZ
      robollm gallery remove G --reference B00ABC/2.jpg
      robollm gallery remove G --container tote-17
    """
    if not (products or references or containers):
        raise ConfigError(
            "nothing to remove was named", fix="give --product, --reference or --container"
        )
    from robollm.gallery.store import open_writer

    with open_writer(gallery) as writer:
        if references:
            writer.remove_references(list(dict.fromkeys(references)))
        for product in dict.fromkeys(products):
            writer.remove_product(product)
        for container in dict.fromkeys(containers):
            writer.remove_container(container)
        generation = writer.commit()
    say(
        {
            "gallery": str(gallery),
            "generation": generation,
            "products": len({*products}),
            "references": len({*references}),
            "containers": len({*containers}),
        }
    )
