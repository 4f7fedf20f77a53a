"""The answers of `robollm predict` for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from robollm.cli.gallery.show import named, show, table

Card = dict[str, Any]


def show_all(card: Card) -> None:
    """Print what `predictions.json` says, without its masks."""
    good = [p for p in card["pictures"] if p["error"] is None]
    if card["kind"] == "tote":
        for picture in good:
            _tote(picture)
    elif good:
        _views(good)
    for line in _end(card, good):
        click.echo(line)


def _tote(picture: Card) -> None:
    from robollm.runtime.predict_job import answer_text

    w, h = picture["size"]
    click.echo(f"{picture['file']}  {w}x{h} px, {picture['ms']['total']:.0f} ms")
    if not picture["instances"]:
        click.echo("  no instance found\n")
        return
    several = len({one["label"] for one in picture["instances"]}) > 1
    columns = ("#", "product", "title", "probability", "score", "x,y,w,h", "area")
    right = ("#", "probability", "score", "x,y,w,h", "area")
    rows = table(*columns, *(("label",) if several else ()), right=right)
    for one in picture["instances"]:
        product = one["product"]
        box = ",".join(f"{v:.0f}" for v in one["box"])
        cells = [str(one["id"]), answer_text(product), product["title"],
                 _share(product["probability"]), f"{one['score']:.3f}", box,
                 f"{one['area']:,}"]  # fmt: skip
        rows.add_row(*cells, *((one["label"],) if several else ()))
    show(rows)


def _views(pictures: Sequence[Card]) -> None:
    from robollm.runtime.predict_job import answer_text

    judged = [p["verdict"]["probabilities"] for p in pictures]
    classes = list(next((j for j in judged if j is not None), ()))
    columns = ("picture", "view", "verdict", *classes, "product", "title", "probability", "ms")
    rows = table(*columns, right=(*classes, "probability", "ms"))
    why, names = [], [Path(p["file"]).name for p in pictures]
    if len(set(names)) < len(names):
        names = [p["file"] for p in pictures]
    for one, name in zip(pictures, names, strict=True):
        product, verdict = one["product"], one["verdict"]
        p = verdict["probabilities"] or {}
        shares = [_share(p.get(c)) for c in classes]
        rows.add_row(name, one["view"], verdict["decision"], *shares, answer_text(product),
                     product["title"], _share(product["probability"]),
                     f"{one['ms']['total']:.0f}")  # fmt: skip
        if verdict["reason"]:
            why.append(f"{name}: {verdict['decision']}: {verdict['reason']}")
        elif product["reason"] and product["probability"] is not None:
            why.append(f"{name}: {product['decision']}: {product['reason']}")
    show(rows)
    for line in why:
        click.echo(line)


def _share(p: float | None) -> str:
    return "-" if p is None else f"{p:.3f}"


def _end(card: Card, good: Sequence[Card]) -> list[str]:
    """What the answers stand on, and what the milliseconds hold for."""
    gallery, c = card["gallery"], card["conditions"]
    m = c["machine"]
    lines = [f"bundle {card['bundle']['title']}"]
    if gallery is None:
        lines.append("no gallery: the bundle has none, and --gallery names none; nothing is named")
    else:
        among = "" if gallery["container"] is None else f" of container {gallery['container']}"
        lines.append(
            f"compared with {gallery['compared_with']:,} products{among}; "
            f"gallery {gallery['folder']}, generation {gallery['generation']:,}"
        )
        lines.append(gallery["thresholds"])
        if bare := gallery["without_reference"]:
            lines.append(f"{len(bare):,} products have no reference picture: {named(bare)}")
    if good:
        total = [p["ms"]["total"] for p in good]
        lines.append(
            f"{median(total):.0f} ms a picture (median of {len(total)}, longest {max(total):.0f}) "
            f"with reading, without drawing; before, {c['load_s']:.1f} s to load and warm up"
        )
        threads = c["threads"] or "one per core"
        lines.append(
            f"{m['cpu']}, {m['cores']} cores, threads {threads}, {c['provider']}, "
            f"{c['precision']}, crop features {c['crop_features']}; others kept "
            f"{m['others_cores']} cores busy"
        )
    if card["failed"]:
        lines.append(f"{card['failed']} of {len(card['pictures'])} failed, see the errors above")
    return lines
