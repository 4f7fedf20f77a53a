"""`robollm gallery manifest`: which products are in which container."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from robollm.cli.gallery.show import gallery_argument, json_option, named, say, show, table

if TYPE_CHECKING:
    from robollm.gallery.store import GalleryWriter


@click.group()
def command() -> None:
    r"""Show or set which products are in which container.

    A container's manifest is the list of products that a pick from it may be. Manifests that are
    kept in the gallery are used by nodes whose parameter `manifest` is empty; those with a manifest
    file go by that file. A change is durable when the command ends, and a node that watches takes
    it over by itself.

    \b
      robollm gallery manifest show G
      robollm gallery manifest set G tote-17 B0001 B0002 B0007
      robollm gallery manifest import G manifest.json

    A product may be listed before the gallery has a picture of it; until then no pick can be found
    to be it, and the commands below name it.
    """


@command.command(name="show")
@gallery_argument
@click.argument("container", required=False)
@json_option
def show_(gallery: Path, container: str | None, as_json: bool) -> None:
    r"""List the containers, or the products of one CONTAINER.

    \b
      robollm gallery manifest show G
      robollm gallery manifest show G tote-17
    """
    from robollm.core.errors import GalleryError
    from robollm.gallery.store import open_gallery

    opened = open_gallery(gallery, embedding_sha256=None, bundle="")
    containers, have = opened.manifests.containers, opened.products
    if container is not None and container not in containers:
        raise GalleryError(
            f"gallery {str(gallery)!r} has no container {container!r}; it has "
            f"{named(sorted(containers)) or 'none'}",
            fix=f"robollm gallery manifest set {gallery} {container} PRODUCT...",
        )
    if as_json:
        wanted = containers if container is None else {container: containers[container]}
        say({"generation": opened.generation, "containers": {c: sorted(p) for c, p in
             sorted(wanted.items())}})  # fmt: skip
    elif container is None:
        rows = table("container", "products", "without reference",
                     right=("products", "without reference"))  # fmt: skip
        for name in sorted(containers):
            bare = sum(p not in have for p in containers[name])
            rows.add_row(name, f"{len(containers[name]):,}", f"{bare:,}" if bare else "")
        show(rows)
    else:
        rows = table("product", "title", "references", right=("references",))
        known = opened.manifests.products
        for pid in sorted(containers[container]):
            title = known[pid].title if pid in known else ""
            rows.add_row(pid, title, str(len(opened.reference_of(pid)) or "none"))
        show(rows)
    opened.close()


@command.command(name="set")
@gallery_argument
@click.argument("container")
@click.argument("products", nargs=-1, required=True)
def set_(gallery: Path, container: str, products: tuple[str, ...]) -> None:
    r"""Say which PRODUCTS are in CONTAINER, in place of what was said before.

    \b
      robollm gallery manifest set G tote-17 B0001 B0002 B0007

    Other containers stay as they are.
    """
    from robollm.gallery.store import open_writer

    with open_writer(gallery) as writer:
        writer.put_container(container, products)
        _commit(writer, gallery, {"container": container, "products": len(set(products))})
    _name_bare(gallery, products)


@command.command(name="import")
@gallery_argument
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True,
              help="Remove containers that the file doesn't have.")  # fmt: skip
def import_(gallery: Path, file: Path, replace: bool) -> None:
    r"""Take over all containers of FILE, with titles, weights and whatever else it says.

    FILE is JSON or CSV as docs/gallery.md describes, an ARMBench container.json, or ARMBench's
    folder Picks.

    \b
      robollm gallery manifest import G manifest.json
      robollm gallery manifest import G ARMBENCH/Picks --replace

    All of it or nothing is taken over. Without --replace other containers stay. Products and
    pictures are never removed by this.
    """
    from robollm.gallery.manifest import load_manifests
    from robollm.gallery.store import open_writer

    manifests = load_manifests(file)
    with open_writer(gallery) as writer:
        writer.put_manifests(manifests, replace=replace)
        counts = {"containers": len(manifests.containers), "products": len(manifests.products)}
        _commit(writer, gallery, {"file": str(file), **counts})
    _name_bare(gallery, tuple({p for ids in manifests.containers.values() for p in ids}))


@command.command()
@gallery_argument
@click.argument("containers", nargs=-1, required=True)
def remove(gallery: Path, containers: tuple[str, ...]) -> None:
    r"""Forget CONTAINERS. Products and their pictures stay.

    \b
      robollm gallery manifest remove G tote-17 tote-18

    If one of them is not there, none is removed.
    """
    from robollm.gallery.store import open_writer

    with open_writer(gallery) as writer:
        for container in containers:
            writer.remove_container(container)
        _commit(writer, gallery, {"removed": list(containers)})


def _commit(writer: GalleryWriter, gallery: Path, what: dict[str, object]) -> None:
    say({"gallery": str(gallery), "generation": writer.commit(), **what})


def _name_bare(gallery: Path, products: tuple[str, ...]) -> None:
    """Name products that can't be found, because there is no reference of them."""
    from robollm.gallery.store import open_gallery

    opened = open_gallery(gallery, embedding_sha256=None, bundle="")
    bare = sorted(set(products) - set(opened.products))
    opened.close()
    if bare:
        click.echo(f"{len(bare):,} products have no reference picture: {named(bare)}", err=True)
