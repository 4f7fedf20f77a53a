"""`robollm gallery`: build a product gallery, change it, ask it. One file per verb."""

from __future__ import annotations

import click

from robollm.cli.lazy import LazyGroup

VERBS = {
    "build": "embed a folder of reference images; the same command goes on where it was",
    "add": "add pictures of a product, or titles and weights out of a file",
    "remove": "remove products, single reference pictures or containers",
    "manifest": "show or set which products are in which container",
    "info": "what is in a gallery, and whether something should be done",
    "find": "find products by words of their title or description",
    "search": "find the product on a picture, as the robot does",
    "calibrate": "choose when to say 'unknown' or 'ambiguous', on data",
    "tune": "measure how to search the whole gallery, and make the index for it",
    "check": "read every byte and name what is damaged",
    "compact": "give back the disk space of what was removed",
    "migrate": "bring a gallery of an older format up to date",
    "export": "write vectors, products and containers as files for other programs",
}


@click.group(cls=LazyGroup, package=__name__, verbs=VERBS)
def command() -> None:
    r"""A product gallery: reference pictures as vectors, products, containers.

    A new one, then a question:

    \b
      robollm gallery build --bundle B --images DIR --out G
      robollm gallery search G query.jpg --bundle B --out match.png

    Robots may go on searching while a verb changes the gallery. docs/gallery.md tells more.
    """
