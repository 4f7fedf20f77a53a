"""`robollm gallery find`: products by words."""

from __future__ import annotations

from pathlib import Path

import click

from robollm.cli.gallery.show import gallery_argument, json_option, say, show, table


@click.command()
@gallery_argument
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True,
              help="At most this many.")  # fmt: skip
@json_option
def command(gallery: Path, words: tuple[str, ...], limit: int, as_json: bool) -> None:
    r"""Find products by words of their id, title or description, best first.

    \b
      robollm gallery find G oat bites
      robollm gallery find G kaffee --limit 5 --json

    All words must be there; the beginning of a word is enough; capitals and accents don't matter.
    The bundle is not needed, and pictures are not looked at: that is `robollm gallery search`.
    """
    from robollm.gallery.words import find_products

    found = find_products(gallery, " ".join(words), limit=limit)
    if as_json:
        say({"words": list(words), "products": [
            {"product": p.product_id, "title": p.title, "description": p.description}
            for p in found]})  # fmt: skip
        return
    rows = table("product", "title", "description")
    for p in found:
        rows.add_row(p.product_id, p.title, p.description)
    if found:
        show(rows)
    else:
        click.echo(f"no product has {' '.join(words)!r}", err=True)
