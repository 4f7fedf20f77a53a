"""`robollm bundle show`: what a model bundle is, verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robollm.core.defects import ANY

if TYPE_CHECKING:
    from robollm.runtime.bundle import Bundle, Variant


@click.command(help="Verify a bundle (every file's sha256) and print its card as JSON.")
@click.argument("bundle", type=click.Path(path_type=Path))
def command(bundle: Path) -> None:
    """Verify and print."""
    from robollm.runtime.bundle import load_bundle

    b = load_bundle(bundle, allow_untrained=True)
    if not b.trained:
        click.echo("UNTRAINED: random weights, results mean nothing", err=True)
    card = {
        "name": b.name,
        "version": b.version,
        "status": b.status,
        "sha256": b.sha256,
        "embedding_sha256": b.embedding_sha256,
        "tote": {"height": b.tote.hw[0], "width": b.tote.hw[1], "fit": b.tote.fit},
        "crop": {"height": b.crop.hw[0], "width": b.crop.hw[1], "fit": b.crop.fit},
        "embedding_dim": b.embedding_dim,
        "graphs": {role: path.name for role, path in b.graphs.items()},
        "variants": {name: _variant(v, b) for name, v in b.variants.items()},
        "proposals": b.proposals,
        "adapters": b.adapters,
        "views": b.views,
        "labels": {"segmentation": b.instance_labels, "defects": b.defect_labels},
        "thresholds": _thresholds(b),
        "provenance": b.provenance,
        "metrics": b.metrics or "not measured",
    }
    click.echo(json.dumps(card, indent=2))


def _thresholds(bundle: Bundle) -> dict[str, Any]:
    """The decision values, by task, as the card has them."""
    t = bundle.thresholds
    return {
        "segmentation": {"score_min": t.score_min, "mask_min": t.mask_min},
        "identification": {
            "accept": t.accept,
            "margin": t.margin,
            "temperature": t.id_temperature,
        },
        "defects": {**t.defects, "temperature": t.defect_temperature},
        "over_views": {name: t.over_views.get(name, ANY) for name in t.defects},
    }


def _variant(variant: Variant, bundle: Bundle) -> dict[str, Any]:
    """Size, and what the variant costs: points (of 100) of the task metrics."""
    own = {r: p.name for r, p in variant.graphs.items() if p != bundle.graphs[r]}
    return {
        "mbytes": round(sum(p.stat().st_size for p in variant.graphs.values()) / 1e6, 2),
        "own_graphs": own,
        "loss_points": variant.loss or "not measured",
        "metrics": variant.metrics or "not measured",
        "parity": variant.parity or "not measured",
    }
