"""`robollm gallery info`: what is in a gallery."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from robollm.cli.gallery.show import gallery_argument, json_option, named, say, show, size, table


@click.command()
@gallery_argument
@json_option
def command(gallery: Path, as_json: bool) -> None:
    r"""Show what is in a gallery, and whether something should be done.

    \b
      robollm gallery info G
      robollm gallery info G --json

    The gallery is opened as a node would open it, so this also tells whether a node could. It
    needs no bundle, changes nothing and disturbs nobody. `robollm gallery check` reads more.
    """
    card = _card(gallery)
    if as_json:
        say(card)
        return
    rows = table("", "")
    for name, text in _words(card).items():
        rows.add_row(name, text)
    rows.show_header = False
    show(rows)
    if bad := (card["build"] or {}).get("bad"):
        rows = table("bad image of the last build", "why")
        for name, why in bad.items():
            rows.add_row(name, why)
        show(rows)
    if card["advice"]:
        click.echo(f"advice: {card['advice']}")


def _card(gallery: Path) -> dict[str, Any]:
    import time

    from robollm.gallery.store import open_gallery

    start = time.monotonic()
    opened = open_gallery(gallery, embedding_sha256=None, bundle="")
    seconds = time.monotonic() - start
    card = opened.card
    built = opened.record("build", "bad_images")
    tunings = {
        name: record
        for name in ("whole", "whole/centroid")
        if (record := opened.record("tuning", name)) is not None
    }
    calibrations = {
        f"{score}/{fusion}": record
        for score in ("max", "centroid")
        for fusion in ("fused", "max")
        if (record := opened.record("calibration", f"{score}/{fusion}")) is not None
    }
    slots = card.references + card.removed
    out: dict[str, Any] = {
        "gallery": str(gallery),
        "format_version": card.format_version,
        "bundle": card.made_with.bundle,
        "embedding_sha256": card.made_with.embedding_sha256,
        "dim": card.dim,
        "created": card.created,
        "generation": card.generation,
        "products": card.products,
        "products_without_reference": card.products_without_reference,
        "references": card.references,
        "containers": card.containers,
        "removed": card.removed,
        "removed_share": round(card.removed / slots, 4) if slots else 0.0,
        "bytes_on_disk": card.bytes_on_disk,
        "bytes": _bytes(gallery),
        "opened_in_s": round(seconds, 3),
        "plan": opened.plan,
        "tunings": tunings,
        "calibrations": calibrations,
        "build": built,
        "advice": opened.advice,
    }
    opened.close()
    return out


def _bytes(gallery: Path) -> dict[str, int]:
    """Bytes of what the folder holds, by kind."""
    kinds = {"vectors": 0, "rows": 0, "index": 0}
    for file in gallery.rglob("*"):
        with suppress(FileNotFoundError):  # a writer's note comes and goes
            if file.is_file():
                inside = file.relative_to(gallery)
                kind = "index" if inside.parts[0] == "index" else "rows"
                kinds["vectors" if file.suffix == ".fp16" else kind] += file.stat().st_size
    return kinds


def _words(card: dict[str, Any]) -> dict[str, str]:
    """Each line of the table."""
    sizes = ", ".join(f"{name} {size(count)}" for name, count in card["bytes"].items())
    bare = card["products_without_reference"]
    out = {
        "gallery": f"{card['gallery']} (format {card['format_version']})",
        "bundle": f"{card['bundle']} ({card['embedding_sha256'][:12]}), {card['dim']} numbers",
        "created": card["created"],
        "generation": f"{card['generation']:,}",
        "products": f"{card['products']:,}" + (f", and {bare:,} without reference" if bare else ""),
        "references": f"{card['references']:,}",
        "removed": f"{card['removed']:,} ({card['removed_share']:.1%} of the vectors on disk)",
        "containers": f"{card['containers']:,}",
        "on disk": f"{size(card['bytes_on_disk'])}: {sizes}",
        "opened in": f"{card['opened_in_s']:.2f} s",
        "whole search": card["plan"],
    }
    for name, record in card["tunings"].items():
        out[f"tuned {name}"] = f"{record.get('made', '?')}: {record.get('chosen', '?')}"
    if not card["tunings"]:
        out["tuned"] = "no"
    for name, record in card["calibrations"].items():
        out[f"calibrated {name}"] = _calibration(record)
    if not card["calibrations"]:
        out["calibrated"] = "no: the bundle's thresholds are used"
    if card["build"] is not None:
        out["last build"] = _build(card["build"])
    return out


def _calibration(record: dict[str, Any]) -> str:
    return f"{record.get('made', '?')}, with bundle {record.get('bundle', '?')}"


def _build(record: dict[str, Any]) -> str:
    empty = record.get("empty", ())
    text = f"from {record.get('images', '?')}; {len(record.get('bad', ())):,} bad images"
    return text + (f"; no usable image of {named(empty)}" if empty else "")
